"""Overlapping windows over the source files of this Python, as rows of any number."""

import sysconfig
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skae import ByteBigrams

WINDOW, AT_ONCE = 1024, 4096


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
