"""Claim: a search over code lengths with a memory costs little more than its longest codes.

Six lengths by three folds of 8,000 rows of byte bigrams. With ``memory`` the linear form takes at
most 2.0 times the seconds of the three folds of the longest code alone, to the same scores, bit
for bit. What the default networks add is told, and not claimed.

    python -m benchmarks.search --data FOLDER
    python -m benchmarks.search --networks --data FOLDER    # half an hour

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.model_selection import GridSearchCV, KFold

from benchmarks.lib.claims import check
from benchmarks.lib.corpus import load_corpus
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import ByteBigrams, DenseAutoencoder

LENGTHS = (16, 32, 64, 128, 256, 512)

# What the whole search may cost, in times of the longest codes.
MOST = 2.0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--networks", action="store_true", help="the default form as well")
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = None if options.data is None else options.data / "files"
    chunks = load_corpus(folder, per_format=2000).chunks
    rng = np.random.RandomState(options.seed)
    chosen = sorted(rng.permutation(len(chunks))[: options.rows])
    X = ByteBigrams().fit_transform([chunks[i] for i in chosen]).sqrt()
    rows = [measure("linear", X, options.seed, hidden_layer_sizes=())]
    if options.networks:
        rows.append(measure("whole", X, options.seed))
    path = RESULTS / f"search-{'shared' if options.data else 'python'}.jsonl"
    write(rows, path, replacing=("form",))
    print(f"Figures: {path}")
    return judge(rows)


def measure(form, X, seed, **parameters):
    """Seconds of the longest codes, and of the search with a memory and without."""
    autoencoder = DenseAutoencoder(random_state=seed, **parameters)

    def search(lengths, memory=None):
        grid = {"latent_dim": lengths}
        search = GridSearchCV(autoencoder.set_params(memory=memory), grid, cv=KFold(3), refit=False)
        start = time.perf_counter()
        search.fit(X)
        seconds = time.perf_counter() - start
        folds = [search.cv_results_[f"split{i}_test_score"] for i in range(3)]
        print(f"{form}, {lengths}, memory {memory is not None}: {seconds:.1f} s", flush=True)
        return seconds, np.array(folds)

    longest, _ = search(LENGTHS[-1:])
    with TemporaryDirectory() as folder:
        shared, scores = search(LENGTHS, folder)
        n_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    alone, scores_alone = search(LENGTHS)
    return {
        "form": form,
        "n_rows": X.shape[0],
        "longest_seconds": longest,
        "search_seconds": shared,
        "search_seconds_without": alone,
        "same_scores": bool((scores == scores_alone).all()),
        "memory_gb": n_bytes / 1e9,
        "mean_scores": dict(zip(map(str, LENGTHS), scores.mean(axis=0), strict=True)),
        "seed": seed,
        **circumstances(),
    }


def judge(rows):
    """0 if the claim holds, else 1; sentences for each form."""
    claims = []
    for row in rows:
        longest = row["longest_seconds"]
        ratio, without = row["search_seconds"] / longest, row["search_seconds_without"] / longest
        sentence = (
            f"{row['form']}: the search takes {ratio:.2f} times the longest codes, {without:.2f} "
            f"times without a memory, of {row['memory_gb']:.2f} GB"
        )
        if row["form"] == "linear":
            claims.append((ratio <= MOST, sentence))
        else:
            print(f"not claimed: {sentence}")
        claims.append((row["same_scores"], f"{row['form']}: the same scores with and without"))
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
