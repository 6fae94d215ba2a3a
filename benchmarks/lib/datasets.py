"""The data sets of the grid, by name: training rows, test rows and their labels."""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from benchmarks.lib.corpus import load_corpus
from benchmarks.lib.images import OPENML, load_images
from skae import ByteBigrams

EMBEDDED = ("digits", "files-raw", "files-sqrt")
NAMES = (*EMBEDDED, *OPENML)


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
