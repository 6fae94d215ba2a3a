"""Claim: rows in files take time that grows with their number, and memory that does not.

Overlapping windows over the source files of this Python, as dask arrays of .npy files (1,024
columns of float32) and of .npz files (byte bigrams, 65,536 columns), one block at a time. Four
times the rows take at most 4.2 times the seconds and 1.15 times the memory that the process holds
for itself. With networks the dense ones may take 4.8 times as long: from more rows an encoder is
worth keeping.

    python -m benchmarks.out_of_core                # 1 and 4 GB of each kind
    python -m benchmarks.out_of_core --gigabytes 2  # 2 and 8 GB

Linux only. Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import scipy.sparse as sp

from benchmarks.lib.claims import check
from benchmarks.lib.measure import circumstances
from benchmarks.lib.memory import GrowthOfMemory
from benchmarks.lib.records import RESULTS, write
from benchmarks.lib.windows import WINDOW, source_text, windows_of
from skae import ByteBigrams, DenseAutoencoder

TIMES, MOST_TIME, MOST_MEMORY = 4, {"dense": 4.8, "dense, linear": 4.2, "sparse": 4.2}, 1.15

# Rows of a block.
BLOCK = {"dense": 32_768, "dense, linear": 32_768, "sparse": 8_192}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=1, help="of the smaller X")
    parser.add_argument("--kinds", nargs="+", choices=BLOCK, default=list(BLOCK))
    parser.add_argument("--latent-dim", type=int, default=32)
    options = parser.parse_args()
    text, rows = source_text(), []
    for kind in options.kinds:
        write_block = write_sparse if kind == "sparse" else write_dense
        hidden = () if kind == "dense, linear" else (64,)
        for times in (1, TIMES):
            n_bytes = times * options.gigabytes * 1e9
            with tempfile.TemporaryDirectory() as folder:
                X = blocks_of(text, kind, write_block, n_bytes, Path(folder))
                rows.append(
                    {"kind": kind, "times": times, **measure(X, options.latent_dim, hidden)}
                )
            print(rows[-1], flush=True)
    write(rows, RESULTS / "out_of_core.jsonl", replacing=("kind", "times"))
    return judge(rows)


def measure(X, latent_dim, hidden):
    """Seconds and memory of fit, and of transform block by block: small networks, one epoch."""
    model = DenseAutoencoder(
        latent_dim, hidden_layer_sizes=hidden, max_epochs=1, batch_size=1024, random_state=0
    )
    os.sync()  # else the files would still be written while they are read
    start = time.perf_counter()
    with dask.config.set(scheduler="synchronous"), GrowthOfMemory() as growth:
        model.fit(X)
        for block in X.blocks:
            model.transform(block).compute()
    return {
        "n_rows": X.shape[0],
        "n_features": X.shape[1],
        "has_encoder": model.module_.encoder is not None,
        "seconds": time.perf_counter() - start,
        "peak_gb": growth.peak_gigabytes,
        **circumstances(),
    }


def blocks_of(text, kind, write_block, n_bytes, folder):
    """Files of one block each, of so many bytes in all."""
    row_bytes = 8 * 700 if kind == "sparse" else 4 * WINDOW  # a window has some 700 bigrams
    n_rows = int(n_bytes / row_bytes)
    windows = windows_of(text, 4 * WINDOW if kind == "sparse" else WINDOW, n_rows)
    starts = range(0, len(windows), BLOCK[kind])
    return da.concatenate(
        [write_block(windows[start : start + BLOCK[kind]], folder, start) for start in starts]
    )


def write_dense(windows, folder, number):
    path = folder / f"{number}.npy"
    np.save(path, windows.astype(np.float32))
    return da.from_array(np.load(path, mmap_mode="r"), chunks=windows.shape)


def write_sparse(windows, folder, number):
    path = folder / f"{number}.npz"
    X = ByteBigrams().transform([window.tobytes() for window in windows])
    sp.save_npz(path, X, compressed=False)
    meta = sp.csr_matrix((0, 0), dtype=X.dtype)
    return da.from_delayed(dask.delayed(sp.load_npz)(path), X.shape, meta=meta)


def judge(rows):
    """0 if the claim holds, else 1; a sentence for each kind of X."""
    claims = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        small, large = (row for row in rows if row["kind"] == kind)
        slower = large["seconds"] / small["seconds"]
        larger = large["peak_gb"] / small["peak_gb"]
        claims.append(
            (
                slower <= MOST_TIME[kind] and larger <= MOST_MEMORY,
                f"{kind}, {large['n_rows']:,} rows for {small['n_rows']:,}: {slower:.2f} times the "
                f"{small['seconds']:.0f} s, {larger:.2f} times the {small['peak_gb']:.2f} GB",
            )
        )
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
