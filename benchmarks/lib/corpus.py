"""Data that is already there: the files of the running Python installation, or a folder of yours.

A corpus is a list of chunks (4 KiB each) with a format and a group for each. Chunks of one group
are related and must not be split between training and testing.
"""

import csv
import hashlib
import os
import sysconfig
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHUNK = 4096


@dataclass(frozen=True)
class Corpus:
    """Chunks of files, the format of each, and the group of related files that it belongs to."""

    name: str
    chunks: list
    formats: np.ndarray
    groups: np.ndarray


def load_corpus(data=None, *, per_format):
    """The corpus of the folder ``data``, or of the Python installation if that is None.

    Parameters
    ----------
    data : path or None
        A folder of files with a MANIFEST.csv that has the columns path, ext and group.
    per_format : int or None
        At most so many chunks of each format.
    """
    if data is None:
        return _assemble("python", _python_files(), per_format, per_file=16)
    return _assemble("files", _manifest_files(Path(data)), per_format, per_file=64)


def _python_files():
    """(path, format, group) of the files of the running Python; a folder is a group."""
    paths = sysconfig.get_paths()
    for root in dict.fromkeys(paths[key] for key in ("stdlib", "purelib", "platlib")):
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(set(subfolders) - {"site-packages", "dist-packages"})
            relative = Path(folder).relative_to(root)
            group = relative.parent if relative.name == "__pycache__" else relative
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix[1:].isalpha() and not path.is_symlink():
                    yield path, path.suffix[1:], group.as_posix()


def _manifest_files(root):
    with open(root / "MANIFEST.csv", newline="", encoding="utf-8") as manifest:
        for row in csv.DictReader(manifest):
            yield root / row["path"], row["ext"], row["group"]


def _hash_of_name(member):
    """What files are sorted by: the same choice each time, but not the alphabet's."""
    path, group = member
    return hashlib.sha1(f"{group}/{path.name}".encode(), usedforsecurity=False).digest()


def _assemble(name, files, per_format, per_file, fewest_chunks=60, fewest_groups=5):
    """At most per_file chunks of a file and per_format of a format; rare formats are left out."""
    by_format = defaultdict(list)
    for path, extension, group in files:
        if path.stat().st_size >= CHUNK:
            by_format[extension].append((path, group))
    chunks, formats, groups = [], [], []
    for extension, members in sorted(by_format.items()):
        members.sort(key=_hash_of_name)
        found, group_of_piece = [], []
        for path, group in members:
            if per_format is not None and len(found) >= per_format:
                break
            pieces = _chunks_of(path, per_file)
            found += pieces
            group_of_piece += [group] * len(pieces)
        if len(found) >= fewest_chunks and len(set(group_of_piece)) >= fewest_groups:
            found, group_of_piece = found[:per_format], group_of_piece[:per_format]
            chunks += found
            groups += group_of_piece
            formats += [extension] * len(found)
    return Corpus(name, chunks, np.array(formats), np.array(groups))


def _chunks_of(path, most):
    """Whole chunks of a file, evenly spread over it if there are too many."""
    n_chunks = path.stat().st_size // CHUNK
    kept = np.unique(np.linspace(0, n_chunks - 1, min(n_chunks, most)).astype(int))
    chunks = []
    with path.open("rb") as file:  # libraries of hundreds of megabytes are not read in full
        for i in kept:
            file.seek(int(i) * CHUNK)
            chunks.append(file.read(CHUNK))
    return chunks
