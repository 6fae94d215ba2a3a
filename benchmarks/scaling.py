"""Claim: twice the rows, or twice the non-zeros, take at most 2.1 times as long to fit.

Byte bigrams of files; half of the rows, then half of the non-zeros, are left out.

    python -m benchmarks.scaling                   # the files of this Python
    python -m benchmarks.scaling --data FOLDER     # your files, with a MANIFEST.csv

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.lib.claims import check
from benchmarks.lib.corpus import load_corpus
from benchmarks.lib.datasets import split_bigrams
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

MOST = 2.1
FORMS = {"linear": (), "whole": "auto"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_FILES"))
    parser.add_argument("--latent-dim", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    corpus = load_corpus(options.data, per_format=2000)
    X = split_bigrams(corpus, root=True, seed=options.seed).X_train
    rng = np.random.default_rng(options.seed)
    thinned = X.copy()
    thinned.data[rng.random(X.nnz) < 0.5] = 0
    thinned.eliminate_zeros()
    halves = {"rows": X[rng.permutation(X.shape[0])[: X.shape[0] // 2]], "non-zeros": thinned}

    rows = []
    for form, sizes in FORMS.items():
        model = DenseAutoencoder(
            options.latent_dim, hidden_layer_sizes=sizes, random_state=options.seed
        )
        n_times = 2 if sizes else 5
        whole = seconds_of_fit(model, X, n_times)
        for what, half in halves.items():
            ratio = whole / seconds_of_fit(model, half, n_times)
            rows.append({"form": form, "twice": what, "ratio": ratio, "seconds": whole})
    path = RESULTS / f"scaling-{corpus.name}.jsonl"
    write([{**row, "seed": options.seed, **circumstances()} for row in rows], path)
    return judge(rows)


def seconds_of_fit(model, X, n_times):
    """The least of n_times, since whatever else the machine does only adds to it."""
    times = []
    for _ in range(n_times):
        start = time.perf_counter()
        model.fit(X)
        times.append(time.perf_counter() - start)
    return min(times)


def judge(rows):
    """0 if the claim holds, else 1; a sentence for each doubling."""
    return check(
        (
            row["ratio"] <= MOST,
            f"{row['form']} form, twice the {row['twice']}: {row['ratio']:.2f} times the time "
            f"({row['seconds']:.1f} s; claimed: at most {MOST})",
        )
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
