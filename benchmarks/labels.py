"""Claim: with labels in training, codes are at least as good as those of every shortcut.

Codes of 2 to 64 dimensions by what a user could fit in place of ``supervision=RECOMMENDED``: PCA,
linear discriminants of PCA's scores, partial least squares on classes, neighbourhood components,
the last hidden layer of MLPClassifier((256, k)) on PCA's scores, supervised UMAP where it is
installed, and `DenseAutoencoder` without labels. The accuracy on test rows of logistic regression,
five nearest neighbours and an MLP, on standardised codes; their mean is what is compared. The
claims:

- ours is not below the best shortcut by more than half a point, and two standard errors, in any
  cell, and above the mean of the shortcuts by a point;
- it takes at most twice the seconds of the fit without labels, over all cells;
- its codes also explain more of the variance of test rows than PCA's.

    python -m benchmarks.labels --quick            # digits at 2 and 8 dimensions
    python -m benchmarks.labels --data FOLDER      # also images, files and FOLDER/fields/*.npz
    python -m benchmarks.labels --data FOLDER --sets letter,files --dimensions 8 --seeds 1

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.stats import sem
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.lib.claims import check
from benchmarks.lib.fields_data import first_rows, load_field
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

SETS = (
    "digits",
    "files",
    "mnist",
    "fashion-mnist",
    "letter",
    "satellite",
    "robot_wall",
    "ctg",
    "spambase",
    "trec",
    "crop",
    "cells",
    "swedish_leaf",
    "chest_xray",
)
DIMENSIONS, QUICK_DIMENSIONS = (2, 8, 16, 64), (2, 8)
MOST_ROWS = 10_000
RECOMMENDED = 3.0
PCA_VARIANCE = "PCA's variance"

# Scores that the shortcuts start from, and rows that neighbourhood components learn from.
SCORES, NCA_SCORES, NCA_ROWS = 256, 50, 2_000

# What is claimed: against the best shortcut, their mean, and the seconds without labels.
BELOW_BEST, ABOVE_MEAN, TIMES_UNLABELLED = 0.005, 0.01, 2.0


class HiddenLayer:
    """Codes that are the last hidden layer of an MLPClassifier."""

    def __init__(self, latent_dim, seed):
        self.model = MLPClassifier((256, latent_dim), early_stopping=True, random_state=seed)

    def fit(self, X, y):
        self.model.fit(X, y)
        return self

    def transform(self, X):
        for weights, bias in zip(self.model.coefs_[:-1], self.model.intercepts_[:-1], strict=True):
            X = np.maximum(X @ weights + bias, 0)
        return X


class OfClasses:
    """Partial least squares on indicators of classes."""

    def __init__(self, latent_dim):
        self.model = PLSRegression(latent_dim)

    def fit(self, X, y):
        self.model.fit(X, OneHotEncoder(sparse_output=False).fit_transform(y[:, None]))
        return self

    def transform(self, X):
        return self.model.transform(X)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--sets", type=lambda names: names.split(","), metavar="NAME,...")
    parser.add_argument("--dimensions", type=lambda text: [int(k) for k in text.split(",")])
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    path = RESULTS / f"labels-{'quick' if options.quick else 'shared'}.jsonl"
    rows = []
    for name in options.sets or (SETS[:1] if options.quick else SETS):
        field = first_rows(load_field(name, options.data), MOST_ROWS)
        dimensions = options.dimensions or (QUICK_DIMENSIONS if options.quick else DIMENSIONS)
        for latent_dim in dimensions:
            if latent_dim <= field.split.X_train.shape[1] // 2:
                row = measured(field.split, latent_dim, options.seeds)
                rows.append({"data": name, "latent_dim": latent_dim, **row, **circumstances()})
                write(rows[-1:], path, replacing=("data", "latent_dim"))
                print(line_of(rows[-1]), flush=True)
    print(f"Figures: {path}")
    return check(claims_of(rows))


def measured(split, latent_dim, n_seeds):
    """By kind of code: accuracies by seed, seconds of fit, and of ours the variance explained."""
    n_classes = len(np.unique(split.y_train))
    X_train, X_test = split.X_train, split.X_test
    n_scores = min(SCORES, min(X_train.shape) - 1)
    solver = "arpack" if sp.issparse(X_train) else "auto"
    pca = PCA(n_scores, svd_solver=solver, random_state=0).fit(X_train)
    scores = pca.transform(X_train), pca.transform(X_test)
    first = [x[:, :latent_dim] for x in scores]
    row = {"PCA": codes_judged([first] * n_seeds, [0.0] * n_seeds, split)}
    for kind, make in shortcuts(latent_dim, n_classes, n_scores).items():
        try:
            row[kind] = codes_judged(*_of_seeds(make, *scores, split.y_train, n_seeds), split)
        except ValueError as error:  # least squares of more dimensions than classes may be NaN
            print(f"left out: {kind} at {latent_dim} dimensions fails: {error}")
    for kind, supervision in (("without labels", 0.0), ("ours", RECOMMENDED)):
        make = _autoencoder(latent_dim, supervision)
        codes, seconds = _of_seeds(make, X_train, X_test, split.y_train, n_seeds)
        row[kind] = codes_judged(codes, seconds, split)
    model = _autoencoder(latent_dim, RECOMMENDED)(0).fit(X_train, split.y_train)
    row["variance"] = float(model.score(X_test))
    mean = DenseAutoencoder(latent_dim, hidden_layer_sizes=(), random_state=0).fit(X_train)
    row[PCA_VARIANCE] = float(mean.score(X_test))
    return row


def shortcuts(latent_dim, n_classes, n_scores):
    """By name, functions that make a model of PCA's scores from a seed."""
    found = {"hidden layer": lambda seed: HiddenLayer(latent_dim, seed)}
    if n_classes > 2 or latent_dim == 1:
        n_discriminants = min(latent_dim, n_classes - 1)
        found["discriminants"] = lambda seed: LinearDiscriminantAnalysis(
            n_components=n_discriminants, solver="eigen", shrinkage=1e-3
        )
    if latent_dim <= n_scores:
        found["least squares"] = lambda seed: OfClasses(latent_dim)
    if latent_dim <= NCA_SCORES:
        found["neighbourhood"] = lambda seed: _Neighbourhood(latent_dim, seed)
    try:
        import umap
    except ImportError:
        pass
    else:
        found["supervised UMAP"] = lambda seed: umap.UMAP(
            n_components=latent_dim, random_state=seed
        )
    return found


class _Neighbourhood:
    def __init__(self, latent_dim, seed):
        self.model = NeighborhoodComponentsAnalysis(latent_dim, max_iter=50, random_state=seed)

    def fit(self, X, y):
        self.model.fit(X[:NCA_ROWS, :NCA_SCORES], y[:NCA_ROWS])
        return self

    def transform(self, X):
        return self.model.transform(X[:, :NCA_SCORES])


def _autoencoder(latent_dim, supervision):
    return lambda seed: DenseAutoencoder(latent_dim, supervision=supervision, random_state=seed)


def _of_seeds(make, X_train, X_test, y, n_seeds):
    """Codes of both sides by seed, and the seconds of each fit."""
    codes, seconds = [], []
    for seed in range(n_seeds):
        start = time.process_time()
        model = make(seed).fit(X_train, y)
        seconds.append(time.process_time() - start)
        codes.append([np.asarray(model.transform(X)) for X in (X_train, X_test)])
    return codes, seconds


def codes_judged(codes, seconds, split):
    """Accuracies of three classifiers by seed, and seconds of the processor."""
    accuracies = []
    for seed, (Z_train, Z_test) in enumerate(codes):
        classifiers = (
            LogisticRegression(max_iter=2000),
            KNeighborsClassifier(5),
            MLPClassifier((64,), early_stopping=True, random_state=seed),
        )
        accuracies.append(
            [
                make_pipeline(StandardScaler(), classifier)
                .fit(Z_train, split.y_train)
                .score(Z_test, split.y_test)
                for classifier in classifiers
            ]
        )
    return {"accuracy": accuracies, "seconds": seconds}


def _shortcut_names(row):
    return [kind for kind in row if isinstance(row[kind], dict) and kind != "ours"]


def _mean(row, kind):
    return float(np.mean(row[kind]["accuracy"]))


def line_of(row):
    names = [*_shortcut_names(row), "ours"]
    found = [f"{n} {_mean(row, n):.3f} ({np.mean(row[n]['seconds']):.1f} s)" for n in names]
    shares = f"variance {row['variance']:.3f} (PCA {row[PCA_VARIANCE]:.3f})"
    return f"{row['data']:<14}{row['latent_dim']:>3}  " + "  ".join([*found, shares])


def claims_of(rows):
    """(holds, sentence) of each claim."""
    seconds = {"ours": 0.0, "without labels": 0.0}
    for row in rows:
        cell = f"{row['data']} at {row['latent_dim']}"
        names = _shortcut_names(row)
        best = max(names, key=lambda kind: _mean(row, kind))
        ours, error = _mean(row, "ours"), 0.0
        if len(row["ours"]["accuracy"]) > 1:
            pair = [np.mean(row[kind]["accuracy"], axis=1) for kind in ("ours", best)]
            error = float(np.hypot(*[sem(x) for x in pair]))
        gain = ours - _mean(row, best)
        sentence = f"{cell}: {100 * gain:+.2f} points of accuracy against {best}"
        yield gain >= -BELOW_BEST - 2 * error, sentence
        gain = ours - np.mean([_mean(row, kind) for kind in names])
        yield gain >= ABOVE_MEAN, f"{cell}: {100 * gain:+.2f} points against the shortcuts' mean"
        more = row["variance"] - row[PCA_VARIANCE]
        yield more >= 0, f"{cell}: variance explained {more:+.3f} against PCA's"
        for kind in seconds:
            seconds[kind] += np.mean(row[kind]["seconds"])
    times = seconds["ours"] / seconds["without labels"]
    yield times <= TIMES_UNLABELLED, f"all cells: {times:.2f} times the seconds without labels"


if __name__ == "__main__":
    sys.exit(main())
