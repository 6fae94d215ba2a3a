"""Claim: rows in files, stores and dask arrays cost at most twice the time of rows in memory.

Overlapping windows over the source files of this Python, fitted and transformed from an array in
memory, from memory-mapped arrays, from stores, and from dask arrays of files on threads and on two
worker processes. Every kind of storage explains the same share of the variance to 0.001. The
memory needed is the claim of `benchmarks.out_of_core`.

    python -m benchmarks.storage              # 0.5 GB of each kind

Linux only; needs the extra ``test``. Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import dask
import dask.array as da
import h5py
import numpy as np
import scipy.sparse as sp
import zarr
from distributed import Client, LocalCluster

from benchmarks.lib.claims import check
from benchmarks.lib.measure import circumstances
from benchmarks.lib.memory import GrowthOfMemory
from benchmarks.lib.records import RESULTS, write
from benchmarks.lib.windows import source_text, write_csr, write_dense
from skae import DenseAutoencoder

N_BLOCKS, CLOSE, MOST_TIME = 8, 1e-3, 2.0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=0.5)
    parser.add_argument("--latent-dim", type=int, default=32)
    options = parser.parse_args()
    text, rows = source_text(), []
    for kind, write_X in {"dense": write_dense, "sparse": write_csr}.items():
        with tempfile.TemporaryDirectory() as folder:
            X = write_X(text, int(options.gigabytes * 1e9), Path(folder))
            for storage, opened in kinds_of_storage(X, Path(folder)).items():
                os.sync()  # else files would still be written while they are read
                row = {"kind": kind, "storage": storage, **measure(opened, X, options.latent_dim)}
                print(row, flush=True)
                rows.append({**row, **circumstances()})
    write(rows, RESULTS / "storage.jsonl")
    return judge(rows)


def kinds_of_storage(X, folder):
    """The same rows in several places: functions that open them, within an `ExitStack`."""
    blocks = np.array_split(np.arange(X.shape[0]), N_BLOCKS)
    paths = []
    for i, block in enumerate(blocks):
        part = X[block[0] : block[-1] + 1]
        paths.append(folder / f"{i}.{'npz' if sp.issparse(X) else 'npy'}")
        if sp.issparse(X):
            sp.save_npz(paths[-1], sp.csr_matrix(part), compressed=False)
        else:
            np.save(paths[-1], part)
    opened = {
        "memory": lambda stack: X.copy(),
        "memory-mapped": lambda stack: X,
    }
    if not sp.issparse(X):
        with h5py.File(folder / "X.h5", "w") as file:
            file.create_dataset("X", data=X, chunks=(4096, X.shape[1]))
        stored = zarr.create_array(
            folder / "X.zarr", shape=X.shape, dtype=X.dtype, chunks=(4096, X.shape[1])
        )
        stored[:] = X
        opened |= {
            "HDF5": lambda stack: stack.enter_context(h5py.File(folder / "X.h5"))["X"],
            "zarr": lambda stack: zarr.open_array(folder / "X.zarr", mode="r"),
        }
    read = dask.delayed(sp.load_npz if sp.issparse(X) else np.load)
    meta = sp.csr_matrix((0, 0), dtype=X.dtype) if sp.issparse(X) else np.empty((0, 0), X.dtype)
    lazy = da.concatenate(
        [
            da.from_delayed(read(path), (len(block), X.shape[1]), meta=meta)
            for path, block in zip(paths, blocks, strict=True)
        ]
    )

    def on_workers(stack):
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        stack.enter_context(Client(stack.enter_context(cluster)))
        return lazy

    return {**opened, "dask, threads": lambda stack: lazy, "dask, two processes": on_workers}


def measure(opened, X, latent_dim):
    """Seconds and memory of fit and of all codes: small networks, one epoch."""
    model = DenseAutoencoder(
        latent_dim, hidden_layer_sizes=(64,), max_epochs=1, batch_size=1024, random_state=0
    )
    with ExitStack() as stack:
        rows = opened(stack)
        start = time.perf_counter()
        with GrowthOfMemory() as growth:
            model.fit(rows)
            fit_seconds = time.perf_counter() - start
            start = time.perf_counter()
            np.asarray(model.transform(rows))
            transform_seconds = time.perf_counter() - start
    n_bytes = X.nnz * 8 if sp.issparse(X) else X.nbytes
    return {
        "n_rows": X.shape[0],
        "n_features": X.shape[1],
        "gigabytes": n_bytes / 1e9,
        "fit_seconds": fit_seconds,
        "transform_seconds": transform_seconds,
        "grown_gb": growth.gigabytes,
        "variance_explained": model.score(X[:: max(1, X.shape[0] // 5000)]),
    }


def judge(rows):
    """0 if the claims hold, else 1; sentences for each kind of rows."""
    claims = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = {row["storage"]: row for row in rows if row["kind"] == kind}
        scores = [row["variance_explained"] for row in of_kind.values()]
        claims.append(
            (
                max(scores) - min(scores) <= CLOSE,
                f"{kind}: {len(scores)} kinds explain {min(scores):.4f} to {max(scores):.4f}",
            )
        )
        seconds = {storage: row["fit_seconds"] for storage, row in of_kind.items()}
        slowest = max(seconds, key=seconds.get)
        claims.append(
            (
                seconds[slowest] <= MOST_TIME * seconds["memory"],
                f"{kind}: the slowest is {slowest}, {seconds[slowest]:.0f} s for "
                f"{seconds['memory']:.0f} s in memory",
            )
        )
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
