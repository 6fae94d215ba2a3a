"""Claim: the first dimensions of an ordered code are a better code than PCA's of that length.

One autoencoder is fitted with ``truncations``, and cut to each of those lengths; at each it
explains no less of test rows than exact PCA, and of files, at a quarter of the code or more, at
most a hundredth of the variance less than an autoencoder of its own for that length. Fitting it
takes less time than fitting all those.

    python -m benchmarks.ordered --quick            # digits
    python -m benchmarks.ordered --data FOLDER      # digits, files and MNIST

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.lib.claims import SLACK, check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.exact_pca import ExactPCA
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

# Data, length of the whole code, and the lengths that it is cut to.
CELLS = {
    "digits": (8, (1, 2, 4)),
    "files-sqrt": (64, (4, 16)),
    "mnist": (16, (2, 4, 8)),
}

# What the order may cost on files against a code of that length alone, in share of variance.
PRICE = 0.01


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone")
    parser.add_argument("--names", nargs="+", choices=CELLS, help="some data sets")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--most-rows", type=int, default=10_000, help="training rows at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = ["digits"] if options.quick else list(CELLS) if options.data else list(CELLS)[:2]
    names = options.names or names
    suffix = "quick" if options.quick else "shared" if options.data else "python"
    path = RESULTS / f"ordered-{suffix}.jsonl"
    rows = []
    for name in names:
        rows += measure(name, options)
        write(rows, path, replacing=("data",))
    print(table(rows))
    print(f"Figures: {path}")
    return judge(rows)


def measure(name, options):
    """One row for each length, the whole code last."""
    latent_dim, lengths = CELLS[name]
    split = load_split(name, options.data, seed=options.seed)
    X_train, X_test = split.X_train[: options.most_rows], split.X_test
    pca = ExactPCA(X_train, latent_dim)
    ordered, seconds = fitted(latent_dim, X_train, options.seed, truncations=lengths)
    rows = []
    for length in tqdm((*lengths, latent_dim), desc=name, leave=False):
        alone, seconds_alone = fitted(length, X_train, options.seed)
        rows.append(
            {
                "data": name,
                "latent_dim": latent_dim,
                "cut_to": length,
                "pca": pca.variance_explained(X_test, length),
                "ordered": ordered.truncate(length).score(X_test),
                "alone": alone.score(X_test),
                "ordered_seconds": seconds,
                "alone_seconds": seconds_alone,
                "n_train": X_train.shape[0],
                "seed": options.seed,
                **circumstances(),
            }
        )
    return rows


def fitted(latent_dim, X, seed, **parameters):
    autoencoder = DenseAutoencoder(latent_dim, random_state=seed, **parameters)
    start = time.perf_counter()
    autoencoder.fit(X)
    return autoencoder, time.perf_counter() - start


def table(rows):
    head = "data          cut to      PCA   ordered     alone  points   ordered s   alone s"
    lines = [head, "-" * len(head)]
    for row in rows:
        cut = f"{row['cut_to']} of {row['latent_dim']}"
        lines.append(
            f"{row['data']:<12}{cut:>8}{row['pca']:>9.4f}{row['ordered']:>10.4f}"
            f"{row['alone']:>10.4f}{100 * (row['ordered'] - row['alone']):>+8.2f}"
            f"{row['ordered_seconds']:>12.1f}{row['alone_seconds']:>10.1f}"
        )
    return "\n".join(lines)


def judge(rows):
    """0 if every claim holds, else 1; a sentence for each."""
    claims = []
    for row in rows:
        cell = f"{row['data']}, {row['latent_dim']} dimensions cut to {row['cut_to']}"
        gain, loss = row["ordered"] - row["pca"], row["ordered"] - row["alone"]
        claims.append((gain >= -SLACK, f"{cell}: {100 * gain:+.2f} points against exact PCA"))
        sentence = f"{cell}: {100 * loss:+.2f} points against a code of its own"
        if row["data"] == "files-sqrt" and 4 * row["cut_to"] >= row["latent_dim"]:
            claims.append((loss >= -PRICE, sentence))
        else:
            print(f"not claimed: {sentence}")
    for name in dict.fromkeys(row["data"] for row in rows):
        cells = [row for row in rows if row["data"] == name]
        apart = sum(row["alone_seconds"] for row in cells)
        ratio = cells[0]["ordered_seconds"] / apart
        claims.append((ratio < 1, f"{name}: {ratio:.2f} of the time of {len(cells)} fits"))
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
