"""Claim: on data of many fields, codes are better than PCA's wherever a long training's are.

Every data set at codes of 2, 8, 16 and 32 dimensions, as long as these are at most half of the
columns: scikit-learn's PCA, `DenseAutoencoder` with its defaults, and the far end, the same model
trained six to ten times as long by the documented way. Measured are the share of the variance of
test rows, around the mean of the training rows; the seconds of `fit`; whether the code is PCA's;
and the accuracy, or R2, of a small MLP on standardised codes. Sets with missing entries are left
out (ozone, usda_food).

    python -m benchmarks.fields --quick            # what comes with scikit-learn
    python -m benchmarks.fields --data FOLDER      # FOLDER/fields/*.npz, images and files
    python -m benchmarks.fields --data FOLDER --sets letter,trec --dimensions 2,8 --no-far
    python -m benchmarks.fields --data FOLDER --against CHECKOUT --baseline earlier.jsonl
    python -m benchmarks.fields --data FOLDER --convolutional

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.lib.claims import check
from benchmarks.lib.earlier import EarlierVersion
from benchmarks.lib.fields_data import BUNDLED, first_rows, load_field, names_in
from benchmarks.lib.fields_summary import claims_of, compared, convolutional_claims, summary
from benchmarks.lib.measure import (
    circumstances,
    explained_by_reconstructions,
    variance_explained,
)
from benchmarks.lib.records import RESULTS, read, write
from skae import ConvAutoencoder, DenseAutoencoder

DIMENSIONS, QUICK_DIMENSIONS = (2, 8, 16, 32), (2, 8)

# Pictures for convolutions: lengths of the code, and training rows at most.
PICTURES, PICTURE_DIMENSIONS, PICTURE_ROWS = (
    ("chest_xray", "sign_digits", "spoken_digits", "mnist", "cifar10"),
    (8, 32),
    3_000,
)

# Rows that an MLP learns; those of which it sets some aside to end early; and seeds, if the first
# difference is not clearly in our favour.
LEARNT, ENDS_EARLY, SEEDS, CLEAR = 5_000, 500, 5, 0.02


# The far end of the one knob: three to ten times the work.
FAR_END = {"tol": 0.01}


def main():
    options = _arguments()
    warnings.simplefilter("ignore", ConvergenceWarning)  # that a model could train on
    if options.convolutional:
        path = options.output or RESULTS / "fields-convolutional.jsonl"
        cells, measure = cells_of_pictures(options), measure_convolutions
    else:
        path = options.output or RESULTS / f"fields-{'quick' if options.quick else 'shared'}.jsonl"
        cells, measure = cells_of(options), measure_cell
    options.earlier = options.against and EarlierVersion(options.against)
    rows = []
    for field, latent_dim in cells:
        rows.append(measure(field, latent_dim, options) | circumstances())
        write(rows[-1:], path, replacing=("data", "latent_dim"))
        print(line_of(rows[-1]), flush=True)
    print(f"Figures: {path}")
    if options.convolutional:
        return check(convolutional_claims(rows))
    if options.baseline:
        print(compared(rows, read(options.baseline)))
    print(summary(rows))
    try:
        from benchmarks.lib.figures import share_beside_pca
    except ModuleNotFoundError:
        print("Plot: not drawn, matplotlib is missing (pip install 'skae[plot]').")
    else:
        print(f"Plot: {share_beside_pca(path)}")
    return check(claims_of(rows))


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="sets of scikit-learn alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--sets", type=_listed(str), metavar="NAME,...", help="some data sets")
    parser.add_argument("--dimensions", type=_listed(int), metavar="N,...", help="some lengths")
    parser.add_argument("--no-far", action="store_true", help="without the far end")
    parser.add_argument("--no-classifier", action="store_true", help="without accuracies")
    parser.add_argument(
        "--convolutional", action="store_true", help="ConvAutoencoder beside DenseAutoencoder"
    )
    parser.add_argument("--baseline", type=Path, help="earlier results, to compare with")
    parser.add_argument("--against", type=Path, help="another checkout, timed in the same run")
    parser.add_argument("--output", type=Path, help="JSON lines to write, instead of the usual")
    options = parser.parse_args()
    if options.data is None and not options.quick:
        parser.error("--data FOLDER or --quick is needed")
    return options


def _listed(kind):
    return lambda text: [kind(word) for word in text.split(",")]


def cells_of(options):
    """Every data set with every length of the code; one set is in memory at a time."""
    dimensions = options.dimensions or (QUICK_DIMENSIONS if options.quick else DIMENSIONS)
    for name in options.sets or (BUNDLED if options.quick else names_in(options.data)):
        field = load_field(name, options.data)
        for latent_dim in dimensions:
            if latent_dim <= field.split.X_train.shape[1] // 2:
                yield field, latent_dim


def cells_of_pictures(options):
    for name in options.sets or (["digits"] if options.quick else PICTURES):
        field = first_rows(load_field(name, options.data), PICTURE_ROWS)
        for latent_dim in options.dimensions or PICTURE_DIMENSIONS:
            yield field, latent_dim


def measure_cell(field, latent_dim, options):
    """One row of results: PCA, the default and the far end at one length of the code."""
    split = field.split
    pca, of_pca = measured(pca_of(split.X_train, latent_dim), in_double(split), "pca")
    ours, of_ours = measured(DenseAutoencoder(latent_dim, random_state=0), split, "ours")
    row = {
        **_cell(field, latent_dim),
        **of_pca,
        **of_ours,
        "code_is_pca": code_is_pca(ours),
        "nonlinear_gain": float(ours.nonlinear_gain_),
    }
    if not options.no_far:
        far = DenseAutoencoder(latent_dim, **FAR_END, random_state=0)
        row |= measured(far, split, "far")[1]
    if options.earlier:
        row |= options.earlier.measure(field.name, options.data, latent_dim)
    if not options.no_classifier:
        row |= measure_codes(pca, ours, field)
    return row


def measure_convolutions(field, latent_dim, options):
    """One row of results: PCA, the dense and the convolutional form on the same pictures."""
    split = field.split
    return {
        **_cell(field, latent_dim),
        **measured(pca_of(split.X_train, latent_dim), in_double(split), "pca")[1],
        **measured(DenseAutoencoder(latent_dim, random_state=0), split, "dense")[1],
        **measured(
            ConvAutoencoder(latent_dim, input_shape=field.picture, random_state=0), split, "conv"
        )[1],
    }


def _cell(field, latent_dim):
    n_train, n_features = field.split.X_train.shape
    return {
        "data": field.name,
        "kind": field.kind,
        "latent_dim": latent_dim,
        "n_train": n_train,
        "n_features": n_features,
    }


def pca_of(X, latent_dim):
    """scikit-learn's PCA with an exact solver; of few columns that is the fastest one too."""
    wide = sp.issparse(X) or X.shape[1] > 500
    solver = "arpack" if wide else "covariance_eigh"
    return PCA(latent_dim, svd_solver=solver, random_state=0)


def in_double(split):
    """With training rows of float64, in which covariances of columns far from zero are exact."""
    return replace(split, X_train=split.X_train.astype(np.float64))


def measured(model, split, name):
    """The model, fitted; its share, and seconds that passed and of the processor, under a name."""
    start, cpu_start = time.perf_counter(), time.process_time()
    model.fit(split.X_train)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return model, {
        name: share_of(model, split),
        f"{name}_seconds": seconds,
        f"{name}_cpu_seconds": cpu_seconds,
    }


def share_of(model, split):
    """Share of the variance of test rows that a model explains, around the training mean."""
    X_train, X_test = split.X_train, split.X_test
    Z = model.transform(X_test)
    if sp.issparse(X_train):
        return float(variance_explained(model, X_train, X_test, Z))
    return float(explained_by_reconstructions(X_train, X_test, model.inverse_transform(Z)))


def code_is_pca(model):
    found = getattr(model, "code_is_pca_", None)
    return bool(model.module_.encoder is None if found is None else found)


def measure_codes(pca, ours, field):
    """Accuracy or R2 of an MLP by seed, on the codes of both; the same where ours are PCA's."""
    codes = [[model.transform(X) for X in _sides(field)] for model in (pca, ours)]
    pca_scores, scores = [], []
    for seed in range(SEEDS):
        pca_scores.append(predicted(*codes[0], field, seed))
        scores.append(pca_scores[-1] if code_is_pca(ours) else predicted(*codes[1], field, seed))
        if code_is_pca(ours) or scores[0] - pca_scores[0] >= CLEAR:
            break
    measure = "R2" if field.is_regression else "accuracy"
    return {"measure": measure, "pca_accuracy": pca_scores, "accuracy": scores}


def _sides(field):
    return field.split.X_train[:LEARNT], field.split.X_test


def predicted(Z_train, Z_test, field, seed):
    """Accuracy or R2 on test rows of an MLP that learns from standardised codes."""
    early = len(Z_train) >= ENDS_EARLY
    options = {"hidden_layer_sizes": (64,), "early_stopping": early, "random_state": seed}
    model = MLPClassifier(**options)
    if field.is_regression:
        model = TransformedTargetRegressor(MLPRegressor(**options), transformer=StandardScaler())
    y_train, y_test = field.split.y_train[: len(Z_train)], field.split.y_test
    pipeline = make_pipeline(StandardScaler(), model).fit(Z_train, y_train)
    return float(pipeline.score(Z_test, y_test))


def line_of(row):
    """One line about a cell: shares, and seconds of each model."""
    words = [f"{row['data']:<15}{row['latent_dim']:>3}"]
    for name in ("pca", "ours", "far", "earlier", "dense", "conv"):
        if name in row:
            words.append(f"{name} {row[name]:.3f} ({row[f'{name}_cpu_seconds']:.2f} s)")
    if "accuracy" in row:
        pca, ours = np.mean(row["pca_accuracy"]), np.mean(row["accuracy"])
        words.append(f"{row['measure']} {pca:.3f} {ours:.3f}")
    return "  ".join(words) + ("  code is PCA's" if row.get("code_is_pca") else "")


if __name__ == "__main__":
    sys.exit(main())
