"""Claim: batch by batch `partial_fit` ends near `fit`, and never below `IncrementalPCA`.

20 passes over the rows in batches of 500: the share of variance explained of test rows is within
2 % of that of `fit` with the same parameters, and not below that of scikit-learn's IncrementalPCA
on the same batches.

    python -m benchmarks.stream --quick            # digits
    python -m benchmarks.stream --data FOLDER      # also 10,000 rows of MNIST and Fashion-MNIST

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import IncrementalPCA

from benchmarks.lib.claims import SLACK, check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

BATCH, N_PASSES, LENGTHS, MOST_BEHIND = 500, 20, (8, 32), 0.02


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--rows", type=int, default=10_000, help="training rows at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = ("digits",) if options.quick else ("digits", "mnist", "fashion-mnist")
    rows = []
    for name in names:
        split = load_split(name, options.data, seed=options.seed)
        X_train = np.asarray(split.X_train[: options.rows], dtype=np.float32)
        X_test = np.asarray(split.X_test, dtype=np.float32)
        for latent_dim in LENGTHS:
            row = measure(X_train, X_test, latent_dim, options.seed)
            rows.append({"data": name, **row, **circumstances()})
            print(
                f"{name} {latent_dim}: fit {row['fit']:.4f} in {row['fit_seconds']:.0f} s, stream "
                f"{row['stream']:.4f} in {row['stream_seconds']:.0f} s, IncrementalPCA "
                f"{row['incremental_pca']:.4f}",
                flush=True,
            )
    path = RESULTS / f"stream-{'quick' if options.quick else 'shared'}.jsonl"
    write(rows, path)
    print(f"Figures: {path}")
    return judge(rows)


def measure(X_train, X_test, latent_dim, seed):
    def in_batches(model):
        order = np.random.default_rng(seed)
        for _ in range(N_PASSES):
            rows = order.permutation(len(X_train))
            for indices in np.array_split(rows, len(rows) // BATCH):
                model.partial_fit(X_train[indices])
        return model

    start = time.perf_counter()
    fitted = DenseAutoencoder(latent_dim, random_state=seed).fit(X_train)
    fit_seconds = time.perf_counter() - start
    start = time.perf_counter()
    stream = in_batches(DenseAutoencoder(latent_dim, random_state=seed))
    stream_seconds = time.perf_counter() - start
    pca = in_batches(IncrementalPCA(latent_dim))
    errors = X_test - pca.inverse_transform(pca.transform(X_test))
    total = np.square(X_test - X_train.mean(axis=0), dtype=np.float64).sum()
    return {
        "latent_dim": latent_dim,
        "n_train": len(X_train),
        "fit": fitted.score(X_test),
        "fit_seconds": fit_seconds,
        "stream": stream.score(X_test),
        "stream_seconds": stream_seconds,
        "incremental_pca": 1 - np.square(errors, dtype=np.float64).sum() / total,
        "seed": seed,
    }


def judge(rows):
    """0 if every claim holds, else 1; a sentence for each."""
    claims = []
    for row in rows:
        cell, share = f"{row['data']} at {row['latent_dim']} dimensions", row["stream"] / row["fit"]
        gain = row["stream"] - row["incremental_pca"]
        claims += [
            (share >= 1 - MOST_BEHIND, f"{cell}: batches explain {share:.4f} of what fit does"),
            (gain >= -SLACK, f"{cell}: {100 * gain:+.2f} points against IncrementalPCA"),
        ]
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
