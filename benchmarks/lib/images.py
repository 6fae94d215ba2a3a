"""Images with their labels: from a folder if they lie there, else from openml.org.

Rows are flat float32 images in [0, 1]. MNIST and Fashion-MNIST are split as published; a folder's
CIFAR-10 may hold fewer images than the published 50,000 and 10,000.
"""

import gzip
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml

# Name: (name and version on openml.org, how many of the first rows are for training).
OPENML = {
    "mnist": ("mnist_784", 1, 60_000),
    "fashion-mnist": ("Fashion-MNIST", 1, 60_000),
    "cifar10": ("CIFAR_10", 1, 50_000),
}
# Of a picture of each set.
SHAPES = {
    "digits": (8, 8),
    "mnist": (28, 28),
    "fashion-mnist": (28, 28),
    "cifar10": (32, 32, 3),
}

# How many test pictures are kept to look at.
N_SHOWN = 10

_IDX_PARTS = ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1")


def load_images(name, data=None):
    """``(X_train, X_test, y_train, y_test)`` of "mnist", "fashion-mnist" or "cifar10".

    Parameters
    ----------
    name : str
    data : path or None
        A folder with a subfolder of that name: the four published idx files of the MNISTs,
        gzipped, or for CIFAR-10 an .npz file of luma planes (n, 32, 32) and half-size chroma
        planes (n, 2, 16, 16), as JPEG keeps them. Without it, openml.org is asked; scikit-learn
        keeps what it fetched.
    """
    folder = None if data is None else Path(data, name)
    if folder is None or not folder.is_dir():
        return _from_openml(*OPENML[name])
    if name == "cifar10":
        return _from_planes(next(folder.glob("*.npz")))
    X_train, X_test, y_train, y_test = (
        _read_idx(folder / f"{part}-ubyte.gz") for part in _IDX_PARTS
    )
    return _flat(X_train), _flat(X_test), y_train, y_test


def _from_openml(name, version, n_train):
    X, y = fetch_openml(name, version=version, return_X_y=True, as_frame=False)
    X, y = _flat(X), y.astype(int)
    return X[:n_train], X[n_train:], y[:n_train], y[n_train:]


def _read_idx(path):
    """The array of an idx file: two zero bytes, type (8: uint8), number of axes, their lengths."""
    data = gzip.decompress(path.read_bytes())
    n_axes = data[3]
    shape = np.frombuffer(data, ">u4", count=n_axes, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def _from_planes(path):
    planes = np.load(path)
    images = [_flat(_rgb(planes[f"{part}_y"], planes[f"{part}_c"])) for part in ("train", "test")]
    return *images, planes["train_labels"], planes["test_labels"]


def _rgb(luma, chroma):
    """(n, 32, 32, 3) from luma and half-size chroma planes, by the JFIF formula."""
    blue, red = chroma.repeat(2, axis=2).repeat(2, axis=3).astype(np.float32).swapaxes(0, 1) - 128
    luma = luma.astype(np.float32)
    rgb = [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
    return np.stack(rgb, axis=-1).clip(0, 255)


def _flat(images):
    return images.reshape(len(images), -1).astype(np.float32) / 255
