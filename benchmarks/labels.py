"""Claim: with labels in training, short codes classify nearly as well as all columns.

A linear classifier learns the codes of the training rows, standardised, and classifies test rows;
the accuracy is the better of LinearSVC and LogisticRegression. The claims, for
``supervision=1.0``:

- digits, MNIST and Fashion-MNIST at 8 dimensions: at least 2 points above the code without labels;
- files at 16 dimensions: at least 10 points above PCA's code, and at most 2 below LinearSVC on all
  columns; at 64 dimensions at least 0.5 above PCA's code, and at most 1.5 below all columns;
- all explain more of the variance of test rows than PCA;
- on digits, with shuffled labels the code is that without labels to 1 point of accuracy and of
  variance, and with labels for a tenth of the rows it classifies as well as PCA's code.

    python -m benchmarks.labels --quick            # digits
    python -m benchmarks.labels --data FOLDER      # also files and images, in folders of FOLDER

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.svm import LinearSVC

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

# Names of data, lengths of their codes, and numbers of seeds.
CELLS = (
    ("digits", 8, 3),
    ("files-sqrt", 16, 1),
    ("files-sqrt", 64, 1),
    ("mnist", 8, 1),
    ("fashion-mnist", 8, 1),
)

# The least gain over the code without labels, by data of pictures.
GAIN_BY_LABELS = 0.02

# By length of the code of files: the least gain over PCA's code, the most below all columns.
OF_FILES = {16: (0.10, 0.02), 64: (0.005, 0.015)}

RECOMMENDED = 1.0

SUPERVISIONS = (0.0, 0.3, 1.0, 3.0)

# What a mean over seeds may lose by chance.
NOISE = 0.01


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--most-rows", type=int, default=10_000, help="training rows at most")
    options = parser.parse_args()
    rows = []
    for name, latent_dim, n_seeds in CELLS[:1] if options.quick else CELLS:
        for seed in range(n_seeds):
            split = load_split(name, options.data, seed=seed)
            split = replace(
                split,
                X_train=split.X_train[: options.most_rows],
                y_train=split.y_train[: options.most_rows],
            )
            for row in measured(name, split, latent_dim, seed):
                row |= {"data": name, "latent_dim": latent_dim, "seed": seed, **circumstances()}
                print(*row.values(), flush=True)
                rows.append(row)
    path = RESULTS / f"labels-{'quick' if options.quick else 'shared'}.jsonl"
    write(rows, path)
    print(table(rows))
    print(f"Figures: {path}")
    return judge(rows)


def measured(name, split, latent_dim, seed):
    """A row for each kind of code and of labels."""
    everything = np.ones(len(split.y_train), dtype=bool)
    yield {"codes": "all columns", "labels": "true", "accuracy": of_columns(split)}
    rng = np.random.RandomState(seed)
    known = rng.random_sample(len(everything)) < 0.1
    _, classes = np.unique(split.y_train, return_inverse=True)
    pca = DenseAutoencoder(latent_dim, hidden_layer_sizes=(), random_state=seed)
    pca.fit(split.X_train)
    yield one("PCA", "true", pca, split, everything)
    yield one("PCA", "tenth", pca, split, known)
    for supervision in SUPERVISIONS:
        labels = {"true": classes}
        if name == "digits" and supervision == RECOMMENDED:
            labels |= {"shuffled": rng.permutation(classes), "tenth": np.where(known, classes, -1)}
        for kind, y in labels.items():
            model = DenseAutoencoder(latent_dim, supervision=supervision, random_state=seed)
            model.fit(split.X_train, y)
            classified = known if kind == "tenth" else everything
            yield one(f"supervision={supervision:g}", kind, model, split, classified)


def one(codes, labels, model, split, classified):
    Z_train, Z_test = model.transform(split.X_train), model.transform(split.X_test)
    accuracies = [
        make_pipeline(StandardScaler(), classifier)
        .fit(Z_train[classified], split.y_train[classified])
        .score(Z_test, split.y_test)
        for classifier in (LinearSVC(), LogisticRegression(max_iter=2000))
    ]
    return {
        "codes": codes,
        "labels": labels,
        "accuracy": max(accuracies),
        "LinearSVC": accuracies[0],
        "LogisticRegression": accuracies[1],
        "variance_explained": model.score(split.X_test),
        "stage": model.history_[0]["stage"] if model.history_ else None,
    }


def of_columns(split):
    """Accuracy of a LinearSVC on all columns: as they are if sparse, else of one scale."""
    scaler = "passthrough" if hasattr(split.X_train, "nnz") else MaxAbsScaler()
    classifier = make_pipeline(scaler, LinearSVC())
    return classifier.fit(split.X_train, split.y_train).score(split.X_test, split.y_test)


def means(rows):
    """Mean accuracy and variance explained over the seeds, by data, length, codes and labels."""
    names = ("data", "latent_dim", "codes", "labels")
    cells = dict.fromkeys(tuple(row[name] for name in names) for row in rows)
    for cell in cells:
        members = [row for row in rows if tuple(row[name] for name in names) == cell]
        keys = ("accuracy", "variance_explained")
        cells[cell] = [np.mean([row.get(key, 1.0) for row in members]) for key in keys]
    return cells


def table(rows):
    head = f"{'data':<15}{'k':>3}  {'codes':<18}{'labels':<10}{'accuracy':>9}{'variance':>10}"
    lines = [head, "-" * len(head)]
    for (data, k, codes, labels), (accuracy, variance) in means(rows).items():
        lines.append(f"{data:<15}{k:>3}  {codes:<18}{labels:<10}{accuracy:>9.4f}{variance:>10.4f}")
    return "\n".join(lines)


def judge(rows):
    """0 if every claim holds, else 1."""
    found, claims = means(rows), []
    ours, without = f"supervision={RECOMMENDED:g}", "supervision=0"
    for data, k in dict.fromkeys((row["data"], row["latent_dim"]) for row in rows):
        cell = f"{data} at {k}"
        accuracy, variance = found[data, k, ours, "true"]
        pca, pca_variance = found[data, k, "PCA", "true"]
        gain = variance - pca_variance
        claims.append((gain > 0, f"{cell}: variance explained {gain:+.4f} against PCA's"))
        if data == "files-sqrt":
            least_gain, largest_loss = OF_FILES[k]
            gain, loss = accuracy - pca, accuracy - found[data, k, "all columns", "true"][0]
            claims.append((gain >= least_gain, f"{cell}: accuracy {gain:+.4f} against PCA's code"))
            claims.append((loss >= -largest_loss, f"{cell}: {loss:+.4f} against all columns"))
        else:
            gain = accuracy - found[data, k, without, "true"][0]
            holds = gain >= GAIN_BY_LABELS
            claims.append((holds, f"{cell}: accuracy {gain:+.4f} against the code without labels"))
        if data == "digits":
            claims += claims_of_few_labels(found, k, ours, without)
    return check(claims)


def claims_of_few_labels(found, k, ours, without):
    pairs = zip(
        found["digits", k, ours, "shuffled"], found["digits", k, without, "true"], strict=True
    )
    for what, (shuffled, plain) in zip(("accuracy", "variance explained"), pairs, strict=True):
        change = shuffled - plain
        yield change >= -NOISE, f"digits, shuffled labels: {what} {change:+.4f}"
    gain = found["digits", k, ours, "tenth"][0] - found["digits", k, "PCA", "tenth"][0]
    yield gain >= 0, f"digits, a tenth of the labels: accuracy {gain:+.4f} against PCA's code"


if __name__ == "__main__":
    sys.exit(main())
