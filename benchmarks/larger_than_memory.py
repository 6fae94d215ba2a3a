"""Claim: rows on disk train in bounded memory, be they one array or a sparse matrix.

Overlapping windows over the source files of this Python, as a memory-mapped array of bytes in
float32 (1,024 columns) and as a memory-mapped CSR matrix of byte bigrams (65,536 columns):

    python -m benchmarks.larger_than_memory                  # 1 GB each, grows by 1 GB at most
    python -m benchmarks.larger_than_memory --gigabytes 8    # 8 GB each, grows by 2 GB at most

What is measured is memory that the process holds for itself: pages of mapped files belong to the
system, which drops them when somebody needs the room. Linux only. Exits with status 1 if the claim
is false.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lib.claims import check
from benchmarks.lib.measure import circumstances
from benchmarks.lib.memory import GrowthOfMemory
from benchmarks.lib.records import RESULTS, write
from benchmarks.lib.windows import source_text, write_csr, write_dense
from skae import DenseAutoencoder

# So many gigabytes of X, and by how many the process may grow.
MOST = {1: 1.0, 8: 2.0}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=int, choices=MOST, default=1)
    parser.add_argument("--latent-dim", type=int, default=32)
    options = parser.parse_args()
    text = source_text()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, write_X in {"dense": write_dense, "CSR": write_csr}.items():
            X = write_X(text, options.gigabytes * 10**9, Path(folder))
            # Small networks and one epoch: what is held for the rows is what counts here.
            model = DenseAutoencoder(
                options.latent_dim,
                hidden_layer_sizes=(64,),
                max_epochs=1,
                batch_size=1024,
                random_state=0,
            )
            model.fit(X[:2000])  # what is loaded and allocated once
            start = time.perf_counter()
            with GrowthOfMemory() as growth:
                model.fit(X)
                model.transform(X)
            row = {"kind": kind, "gigabytes": options.gigabytes, "n_rows": X.shape[0]}
            row |= {"grown_gb": growth.gigabytes, "seconds": time.perf_counter() - start}
            rows.append({**row, "n_features": X.shape[1], **circumstances()})
            del X
    write(rows, RESULTS / "larger_than_memory.jsonl", replacing=("kind", "gigabytes"))
    return judge(rows)


def judge(rows):
    """0 if the claim holds, else 1; a sentence for each kind of X."""
    return check(
        (
            row["grown_gb"] <= MOST[row["gigabytes"]],
            f"{row['kind']}, {row['n_rows']:,} x {row['n_features']:,}, {row['gigabytes']} GB: "
            f"grown by {row['grown_gb']:.2f} GB in {row['seconds']:.0f} s "
            f"(claimed: at most {MOST[row['gigabytes']]} GB)",
        )
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
