"""Real data of many fields: a folder of NAME.npz files, and what comes with scikit-learn.

A file holds `X`, or a CSR matrix as `data`, `indices`, `indptr` and `shape`; what is known of it,
as `kind` (its first word is one of `KINDS`); and where there are any `y`, class codes or numbers to
predict, and `groups` of rows that belong together.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks.lib.datasets import Split, load_split
from benchmarks.lib.images import OPENML, SHAPES

KINDS = ("table", "spectra", "series", "counts", "text", "picture")
MOST_ROWS = 20_000

# Of fewer groups (six speakers, say) a quarter is one or two, and which ones decides the figures.
FEWEST_GROUPS = 10

# Entries are missing in most of their rows or columns, and PCA takes none.
WITH_GAPS = ("ozone", "usda_food")

BUNDLED = {
    "digits": ("picture 8x8x1", load_digits),
    "breast-cancer": ("table", load_breast_cancer),
    "wine": ("table", load_wine),
    "diabetes": ("table", load_diabetes),
}
OTHERS = ("digits", *OPENML, "files")


@dataclass(frozen=True)
class Field:
    """One data set: its rows as they are modelled, split, and the shape of its pictures."""

    name: str
    kind: str
    split: Split

    @property
    def is_regression(self):
        return self.split.y_train.dtype.kind == "f"

    @property
    def picture(self):
        """(height, width) or (height, width, 3); None of other kinds."""
        if not self.kind.startswith("picture"):
            return None
        shape = tuple(int(n) for n in self.kind.split()[1].split("x"))
        return shape[:2] if shape[2] == 1 else shape


def names_in(data):
    """Names of the sets in the folder ``data`` that have no gaps, and of the others."""
    found = sorted(path.stem for path in Path(data, "fields").glob("*.npz"))
    return [name for name in found if name not in WITH_GAPS] + list(OTHERS)


def load_field(name, data=None):
    """The field of that name: bundled with scikit-learn, or from the folder ``data``.

    Tables are standardised by their training rows, counts are ``log1p`` of what they were, and
    all else is as it is, pictures of bytes in [0, 1]. Test rows are those published, or whole
    groups where there are `FEWEST_GROUPS`, or drawn at random: a quarter of the groups or rows.
    There are at most `MOST_ROWS` training rows.
    """
    if name in BUNDLED:
        kind, load = BUNDLED[name]
        X, y = load(return_X_y=True)
        return _prepared(name, kind, X.astype(np.float32), y)
    if name in OPENML or name == "files":
        split = load_split("files-sqrt" if name == "files" else name, data)
        if name == "files":
            kind = "text"
            split = Split(split.X_train, split.X_test, *_codes(split.y_train, split.y_test))
        else:
            kind = "picture " + "x".join(str(n) for n in (*SHAPES[name], 1)[:3])
        return first_rows(Field(name, kind, split), MOST_ROWS)
    with np.load(Path(data, "fields", f"{name}.npz"), allow_pickle=False) as file:
        kind = str(file["kind"])
        X = file["X"] if "X" in file else _csr(file)
        y = file["y"]
        groups = file.get("groups")
    return _prepared(name, kind, X, y, groups)


def first_rows(field, n_rows):
    """The same field with at most so many training rows, the first ones."""
    split = field.split
    X_train, y_train = split.X_train[:n_rows], split.y_train[:n_rows]
    return replace(field, split=replace(split, X_train=X_train, y_train=y_train))


def _csr(file):
    return sp.csr_matrix((file["data"], file["indices"], file["indptr"]), tuple(file["shape"]))


def _codes(*labels):
    _, codes = np.unique(np.concatenate(labels), return_inverse=True)
    return np.split(codes, [len(labels[0])])


def _prepared(name, kind, X, y, groups=None):
    first = kind.split()[0]
    if first not in KINDS:
        raise ValueError(f"kind={kind!r} of {name} starts with none of {', '.join(KINDS)}")
    if groups is None or len(np.unique(groups)) < FEWEST_GROUPS:
        train, test = train_test_split(np.arange(X.shape[0]), test_size=0.25, random_state=0)
    else:
        splitter = GroupShuffleSplit(1, test_size=0.25, random_state=0)
        train, test = next(splitter.split(X, y, groups))
    if X.dtype == np.uint8:
        X = X.reshape(len(X), -1).astype(np.float32) / 255
    if first == "counts":
        X = X.log1p() if sp.issparse(X) else np.log1p(X)
    train = train[:MOST_ROWS]
    X_train, X_test = X[train], X[test]
    if first == "table":
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    return Field(name, kind, Split(X_train, X_test, y[train], y[test]))
