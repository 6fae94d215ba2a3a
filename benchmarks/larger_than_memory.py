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
import sysconfig
import tempfile
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import scipy.sparse as sp

from benchmarks.claims import check
from benchmarks.measure import circumstances
from benchmarks.records import RESULTS, write
from skae import ByteBigrams, DenseAutoencoder

# So many gigabytes of X, and by how many the process may grow.
MOST = {1: 1.0, 8: 2.0}
WINDOW, AT_ONCE = 1024, 4096


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


def source_text():
    """The bytes of every Python file of this installation."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = [path.read_bytes() for path in sorted(folder.rglob("*.py")) if path.is_file()]
    return np.frombuffer(b"".join(files), np.uint8)


def write_dense(text, n_bytes, folder):
    """Windows of so many bytes of float32 in all."""
    n_rows = n_bytes // (4 * WINDOW)
    X = np.memmap(folder / "dense", np.float32, "w+", shape=(n_rows, WINDOW))
    windows = windows_of(text, WINDOW, n_rows)
    for start in range(0, n_rows, AT_ONCE):
        X[start : start + AT_ONCE] = windows[start : start + AT_ONCE]
    X.flush()
    return np.memmap(folder / "dense", np.float32, "r", shape=(n_rows, WINDOW))


def write_csr(text, n_bytes, folder):
    """Bigram frequencies of windows, with non-zeros of so many bytes in all."""
    names, n_entries, indptr = [folder / "data", folder / "indices"], 0, [np.zeros(1, np.int64)]
    windows = windows_of(text, 4 * WINDOW, n_bytes // (4 * WINDOW))
    with open(names[0], "wb") as data, open(names[1], "wb") as indices:
        for start in range(0, len(windows), AT_ONCE):
            part = ByteBigrams().transform([w.tobytes() for w in windows[start : start + AT_ONCE]])
            data.write(part.data.tobytes())
            indices.write(part.indices.astype(np.int32).tobytes())
            indptr.append(n_entries + part.indptr[1:])
            n_entries += part.nnz
            if 8 * n_entries >= n_bytes:
                break
    arrays = [np.memmap(names[0], np.float32, "r"), np.memmap(names[1], np.int32, "r")]
    indptr = np.concatenate(indptr).astype(np.int32)  # as long as there are fewer than 2^31
    return sp.csr_array((*arrays, indptr), shape=(len(indptr) - 1, 65_536))


def windows_of(text, width, n_rows):
    """So many windows, as far apart as there is text for."""
    step = max(1, (len(text) - width) // n_rows)
    return np.lib.stride_tricks.sliding_window_view(text, width)[::step][:n_rows]


class GrowthOfMemory:
    """Watches how much memory the process holds for itself beyond what it held at first."""

    def __enter__(self):
        self._done, self._first, self._most = Event(), held(), 0
        self._watch = Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self):
        while not self._done.wait(0.02):
            self._most = max(self._most, held())

    def __exit__(self, *_):
        self._done.set()
        self._watch.join()

    @property
    def gigabytes(self):
        return (self._most - self._first) / 1e9

    @property
    def peak_gigabytes(self):
        return self._most / 1e9


def held():
    """Bytes of memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


if __name__ == "__main__":
    sys.exit(main())
