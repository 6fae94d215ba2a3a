"""Claim: on 65,536 sparse columns a network from random weights costs far more and keeps less.

Byte bigrams under a square root to 1,024 dimensions: `DenseAutoencoder` as it stands, and the plain
65,536-2048-2048-1024 network from random weights, each in a process of its own. The plain
one stays within 6 GB of memory, and keeps less of test chunks. The network that halves its widths
(65,536-32768-16384-...-1024) is refused before anything is allocated where it does not fit.

    python -m benchmarks.plain_wide                   # the files of this Python
    python -m benchmarks.plain_wide --data FOLDER     # your files, with a MANIFEST.csv

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path

from benchmarks.lib.claims import check
from benchmarks.lib.corpus import load_corpus
from benchmarks.lib.datasets import split_bigrams
from benchmarks.lib.measure import circumstances
from benchmarks.lib.memory import peak_resident_bytes
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

MOST_GB = 6.0
FORMS = {
    "DenseAutoencoder": {},
    "65,536-2048-2048-1024": {
        "linear_path": False,
        "hidden_layer_sizes": (2048, 2048),
        "max_epochs": 3,
        "learning_rate": 0.0005,
    },
    "65,536-32768-...-1024": {
        "linear_path": False,
        "hidden_layer_sizes": (32768, 16384, 8192, 4096, 2048),
    },
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_FILES"))
    parser.add_argument("--most-rows", type=int, default=3000, help="training rows at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for form in FORMS:
        with get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (form, options.data, options.most_rows, options.seed)))
        print(rows[-1]["summary"], flush=True)
    path = RESULTS / "plain-wide.jsonl"
    write([{**row, **circumstances()} for row in rows], path)
    print(f"Figures: {path}")
    return judge(rows)


def measure(form, data, most_rows, seed):
    split = split_bigrams(load_corpus(data, per_format=2000), root=True, seed=seed)
    X_train, X_test = split.X_train[:most_rows], split.X_test[:most_rows]
    del split  # other rows are no part of what training takes
    autoencoder = DenseAutoencoder(1024, random_state=seed, **FORMS[form])
    row = {"model": form, "n_train": X_train.shape[0], "seed": seed}
    start = time.perf_counter()
    try:
        autoencoder.fit(X_train)
    except MemoryError as refused:
        return {**row, "refused": str(refused), "summary": f"{form}: {refused}"}
    row |= {
        "fit_seconds": time.perf_counter() - start,
        "peak_memory_gb": peak_resident_bytes() / 1e9,
        "variance_explained": autoencoder.score(X_test),
    }
    summary = (
        f"{form}: variance {row['variance_explained']:.4f}, {row['fit_seconds']:.0f} s, "
        f"{row['peak_memory_gb']:.1f} GB"
    )
    return {**row, "summary": summary}


def judge(rows):
    """0 if every claim holds, else 1; a sentence for each."""
    ours, plain, halving = rows
    return check(
        [
            (
                plain["peak_memory_gb"] <= MOST_GB,
                f"{plain['model']} trains in {plain['peak_memory_gb']:.1f} GB "
                f"(claimed: at most {MOST_GB})",
            ),
            (
                plain["variance_explained"] < ours["variance_explained"],
                f"it keeps {plain['variance_explained']:.4f} of the variance in "
                f"{plain['fit_seconds']:.0f} s, DenseAutoencoder {ours['variance_explained']:.4f} "
                f"in {ours['fit_seconds']:.0f} s and {ours['peak_memory_gb']:.1f} GB",
            ),
            ("refused" in halving, f"{halving['model']} is refused where it does not fit"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
