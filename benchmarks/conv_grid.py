"""Claim: at no length of the code does `ConvAutoencoder` keep less of test pictures than PCA.

Nor does it err more than 2 % beyond `DenseAutoencoder`. Every set of pictures, at 2 to 200
dimensions, default parameters, the same rows as in `benchmarks.grid`, whose figures for PCA and
`DenseAutoencoder` are read: run that first.

    python -m benchmarks.conv_grid --quick            # digits
    python -m benchmarks.conv_grid --data FOLDER      # also MNIST, Fashion-MNIST and CIFAR-10

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.lib.claims import SLACK, check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.images import SHAPES
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, known, write
from skae import ConvAutoencoder

LENGTHS = (2, 8, 12, 32, 64, 200)

# What it may err beyond `DenseAutoencoder`.
MOST_OF_DENSE = 1.02


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--names", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--latent-dim", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    suffix = "quick" if options.quick else "shared"
    measured = known(RESULTS / f"grid-{suffix}.jsonl")
    grid = {(row["data"], row["latent_dim"]): row for row in measured}
    path = RESULTS / f"conv-grid-{suffix}.jsonl"
    names = ("digits",) if options.quick else options.names
    rows = []
    for name in names:
        split = load_split(name, options.data, seed=options.seed)
        lengths = [length for length in options.latent_dim if (name, length) in grid]
        for latent_dim in tqdm(lengths, desc=name, leave=False):
            rows.append(_measure(split, grid[name, latent_dim], options.seed))
            print(_line(rows[-1]), flush=True)
            write(rows[-1:], path, replacing=("data", "latent_dim"))
    print(f"Figures: {path}")
    return judge(rows)


def _measure(split, of_grid, seed):
    X_train = np.asarray(split.X_train[: of_grid["n_train"]], dtype=np.float32)
    X_test = np.asarray(split.X_test, dtype=np.float32)
    name, latent_dim = of_grid["data"], of_grid["latent_dim"]
    autoencoder = ConvAutoencoder(latent_dim, input_shape=SHAPES[name], random_state=seed)
    start = time.perf_counter()
    autoencoder.fit(X_train)
    return {
        "data": name,
        "latent_dim": latent_dim,
        "n_train": len(X_train),
        "pca": of_grid["pca"],
        "dense": of_grid["autoencoder"],
        "fit_seconds": time.perf_counter() - start,
        "conv": autoencoder.score(X_test),
        "nonlinear_gain": autoencoder.nonlinear_gain_,
        "nonlinear_code": autoencoder.module_.encoder is not None,
        "seed": seed,
        **circumstances(),
    }


def _line(row):
    return (
        f"{row['data']:<15}{row['latent_dim']:>5}  PCA {row['pca']:.4f}  dense {row['dense']:.4f}  "
        f"conv {row['conv']:.4f}  {row['fit_seconds']:.1f} s"
    )


def judge(rows):
    """0 if the claim holds in every cell, else 1; two sentences for each cell."""
    claims = []
    for row in rows:
        cell = f"{row['data']} at {row['latent_dim']} dimensions"
        gain = row["conv"] - row["pca"]
        error, of_dense = 1 - row["conv"], 1 - row["dense"]
        claims += [
            (gain >= -SLACK, f"{cell}: {100 * gain:+.3f} points of variance against exact PCA"),
            (
                error <= MOST_OF_DENSE * of_dense + SLACK,
                f"{cell}: an error of {error:.4f} against DenseAutoencoder's {of_dense:.4f}",
            ),
        ]
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
