"""The data sets of the grid, by name: training rows, test rows and their labels."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks.lib.corpus import load_corpus
from benchmarks.lib.images import OPENML, load_images
from skae import ByteBigrams

EMBEDDED = ("digits", "files-raw", "files-sqrt")
NAMES = (*EMBEDDED, *OPENML)

# Small tables, with columns of different units.
TABLES = {"iris": load_iris, "wine": load_wine, "breast-cancer": load_breast_cancer}


@dataclass(frozen=True)
class Split:
    """Rows to fit, rows never seen, and the labels of both."""

    X_train: object
    X_test: object
    y_train: np.ndarray
    y_test: np.ndarray


def load_split(name, data=None, *, seed=0, per_format=2000):
    """One data set, split.

    Parameters
    ----------
    name : one of NAMES
        "files-raw" and "files-sqrt" are byte-bigram frequencies of 4 KiB chunks and their square
        roots, whole groups of related files held out; rows of "digits" are held out at random;
        images as published.
    data : path or None
        Folder with subfolders "files", "mnist", ...; None takes this Python's files, and asks
        openml.org for images.
    seed : int
        Of the split.
    per_format : int
        Most chunks of each format of file.
    """
    if name in OPENML:
        return Split(*load_images(name, data))
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return Split(*train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed))
    corpus = load_corpus(None if data is None else f"{data}/files", per_format=per_format)
    return split_bigrams(corpus, root=name == "files-sqrt", seed=seed)


def split_bigrams(corpus, *, root, seed):
    """Bigram frequencies of a corpus, or their roots, a quarter of the groups held out."""
    X = ByteBigrams().fit_transform(corpus.chunks)
    if root:
        X = X.sqrt()
    splitter = StratifiedGroupKFold(n_splits=4, shuffle=True, random_state=seed)
    train, test = next(splitter.split(X, corpus.formats, corpus.groups))
    return Split(X[train], X[test], corpus.formats[train], corpus.formats[test])


def load_part(name, n_rows, data=None, *, seed=0):
    """A data set, split, with a given number of training rows that a seed draws.

    Parameters
    ----------
    name : str
        "files" are the files in the folder, and "python" those of the running Python, as square
        roots of byte-bigram frequencies, with whole groups of test rows; else one of `TABLES`,
        whose columns are standardised, or "digits", or images.
    n_rows : int
        Training rows; as many as there are, if there are fewer. Of files there are as many rows of
        each format, in their order, and at most a quarter of these are of one group.
    data : path or None
        As in `load_split`.
    seed : int
        Of the rows, and of the split where no split is published.
    """
    rng = np.random.RandomState(seed)
    if name in ("files", "python"):
        X, formats, groups = _roots_of_bigrams(data if name == "files" else None)
        splitter = StratifiedGroupKFold(n_splits=4, shuffle=True, random_state=seed)
        train, test = next(splitter.split(X, formats, groups))
        if n_rows < len(train):
            train = train[_rows_of_groups(formats[train], groups[train], n_rows, rng)]
        return Split(X[train], X[test], formats[train], formats[test])
    if name in OPENML:
        X_train, X_test, y_train, y_test = _images(name, data)
        kept = np.sort(rng.permutation(len(X_train))[:n_rows])
        return Split(X_train[kept], X_test, y_train[kept], y_test)
    X, y = (TABLES.get(name) or load_digits)(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=seed
    )
    if name in TABLES:
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    return Split(X_train[:n_rows], X_test, y_train[:n_rows], y_test)


@cache
def _roots_of_bigrams(data):
    corpus = load_corpus(None if data is None else f"{data}/files", per_format=2000)
    return ByteBigrams().fit_transform(corpus.chunks).sqrt(), corpus.formats, corpus.groups


_images = cache(load_images)


def _rows_of_groups(formats, groups, n_rows, rng):
    """Indices of about n_rows rows, as many of each format, from groups in random order."""
    kinds = np.unique(formats)
    share = n_rows // len(kinds)
    kept = []
    for kind in kinds:
        members = np.flatnonzero(formats == kind)
        found = [
            members[groups[members] == group][: -(-share // 4)]
            for group in rng.permutation(np.unique(groups[members]))
        ]
        kept.append(np.concatenate(found)[:share])
    return np.sort(np.concatenate(kept))
