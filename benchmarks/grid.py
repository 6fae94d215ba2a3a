"""Claim: at the same length of the code, an autoencoder never keeps less of test rows than PCA.

Every data set, every length: the variance explained of test rows by `DenseAutoencoder` with its
default parameters, minus that of exact PCA fitted to the same rows; and the accuracy of an
MLPClassifier on the codes, minus the same on PCA's codes (the better of plain and standardised
codes, mean of five seeds).

    python -m benchmarks.grid --quick            # digits
    python -m benchmarks.grid                    # digits and the files of this Python
    python -m benchmarks.grid --data FOLDER      # also images; 25 minutes on one core

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import sem
from tqdm import tqdm

from benchmarks.lib.claims import SLACK, check
from benchmarks.lib.datasets import EMBEDDED, NAMES, load_split
from benchmarks.lib.exact_pca import ExactPCA
from benchmarks.lib.measure import accuracies, circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

LENGTHS = (2, 8, 12, 32, 64, 200, 256, 1000)

# What a classifier may lose, in share of rows named right, beyond twice the standard error of its
# seeds.
ACCURACY_SLACK = 0.003

# What a classifier gains, in share of rows named right, at codes of up to so many dimensions.
LIFTED, LIFTED_LENGTH, LIFT = ("mnist", "fashion-mnist"), 12, 0.01


def main():
    options = _arguments()
    names = options.names or (("digits",) if options.quick else EMBEDDED)
    if options.data and not options.names:
        names = NAMES
    suffix = "quick" if options.quick else "shared" if options.data else "python"
    path = RESULTS / f"grid-{suffix}.jsonl"
    rows = []
    for name in names:
        rows += measure_cells(name, options)
        write(rows, path, replacing=("data", "latent_dim"))
    print(table(rows))
    print(f"Figures: {path}")
    try:
        from benchmarks.lib.figures import variance_by_length
    except ModuleNotFoundError:
        print("Plot: not drawn, matplotlib is missing (pip install 'skae[plot]').")
    else:
        print(f"Plot: {variance_by_length(path)}")
    return judge(rows)


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone")
    parser.add_argument("--names", nargs="+", choices=NAMES, help="some data sets")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--latent-dim", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--most-rows", type=int, default=10_000, help="training rows at most")
    parser.add_argument("--classified", type=int, default=3_000, help="rows a classifier learns")
    parser.add_argument("--n-seeds", type=int, default=5, help="of the classifiers")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def measure_cells(name, options):
    """One row of results for each length of the code that the data allows."""
    split = load_split(name, options.data, seed=options.seed)
    X_train, y_train = split.X_train[: options.most_rows], split.y_train[: options.most_rows]
    lengths = [length for length in options.latent_dim if length <= min(X_train.shape)]
    pca = ExactPCA(X_train, max(lengths))
    rows = []
    for latent_dim in tqdm(lengths, desc=name, leave=False):
        autoencoder = DenseAutoencoder(latent_dim, random_state=options.seed)
        start = time.perf_counter()
        autoencoder.fit(X_train)
        fit_seconds = time.perf_counter() - start
        labels = y_train, split.y_test
        pca_codes = [pca.codes(X, latent_dim) for X in (X_train, split.X_test)]
        pca_accuracy = accuracies(*pca_codes, *labels, options)
        nonlinear_code = autoencoder.module_.encoder is not None
        own_accuracy = pca_accuracy  # the codes are PCA's, unless ...
        if nonlinear_code:
            codes = [autoencoder.transform(X) for X in (X_train, split.X_test)]
            own_accuracy = accuracies(*codes, *labels, options)
        rows.append(
            {
                "data": name,
                "latent_dim": latent_dim,
                "n_train": X_train.shape[0],
                "n_test": split.X_test.shape[0],
                "pca": pca.variance_explained(split.X_test, latent_dim),
                "autoencoder": autoencoder.score(split.X_test),
                "nonlinear_gain": autoencoder.nonlinear_gain_,
                "nonlinear_code": nonlinear_code,
                "pca_accuracy": float(pca_accuracy.mean()),
                "autoencoder_accuracy": float(own_accuracy.mean()),
                "accuracy_error": float(np.hypot(sem(pca_accuracy), sem(own_accuracy))),
                "fit_seconds": fit_seconds,
                "seed": options.seed,
                **circumstances(),
            }
        )
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def table(rows):
    head = (
        "data           latent_dim     PCA  autoencoder  points   PCA acc.  autoencoder acc."
        "  points   fit s"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        gain, lift = _gains(row)
        lines.append(
            f"{row['data']:<15}{row['latent_dim']:>10}{row['pca']:>8.4f}"
            f"{row['autoencoder']:>13.4f}{100 * gain:>+8.2f}{row['pca_accuracy']:>11.3f}"
            f"{row['autoencoder_accuracy']:>18.3f}{100 * lift:>+8.2f}{row['fit_seconds']:>8.1f}"
        )
    return "\n".join(lines)


def _gains(row):
    return (
        row["autoencoder"] - row["pca"],
        row["autoencoder_accuracy"] - row["pca_accuracy"],
    )


def judge(rows):
    """0 if the claim holds in every cell, else 1; two sentences for each cell."""
    claims = []
    for row in rows:
        cell = f"{row['data']} at {row['latent_dim']} dimensions"
        gain, lift = _gains(row)
        claims += [
            (gain >= -SLACK, f"{cell}: {100 * gain:+.3f} points of variance against exact PCA"),
            (
                lift + 2 * row["accuracy_error"] >= -ACCURACY_SLACK,
                f"{cell}: {100 * lift:+.2f} points of accuracy against PCA's codes",
            ),
        ]
        if row["data"] in LIFTED and row["latent_dim"] <= LIFTED_LENGTH:
            claims.append(
                (lift >= LIFT, f"{cell}: at least {100 * LIFT:.0f} point of accuracy won")
            )
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
