"""Claim: with the defaults more training gains little, and no other setting gains more in the time.

Points of variance of test rows that an autoencoder explains beyond exact PCA, against the seconds
of the whole `fit`: by epochs, width of the networks, batch size and learning rate, each changed
alone from the default. PCA and TruncatedSVD of scikit-learn are in the same run, and on dense rows
the peers: 512 units before and after the code, five epochs.

    python -m benchmarks.curve --quick            # digits
    python -m benchmarks.curve                    # digits and the files of this Python
    python -m benchmarks.curve --data FOLDER      # also images and more files; two hours on a core

Exits with status 1 if the claim is false: if a setting or a peer takes at most as long as the
default and gains more by half a point and by a tenth of the default's gain, or if four times the
epochs gain more than a quarter again.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_part, load_split
from benchmarks.lib.exact_pca import ExactPCA
from benchmarks.lib.images import SHAPES
from benchmarks.lib.measure import (
    circumstances,
    explained_by_reconstructions,
    variance_explained,
)
from benchmarks.lib.peers import PEERS
from benchmarks.lib.records import RESULTS, write
from skae import ConvAutoencoder, DenseAutoencoder
from skae._estimators.auto import auto_channels, training_options

# Data, form of the networks, length of the code. "python" are the files of this Python.
DIGITS = [("digits", form, k) for form in ("dense", "conv") for k in (2, 8)]
PYTHON = [("python", "dense", 16)]
FILES = [("files-sqrt", "dense", 16), ("files-sqrt", "dense", 64)]
IMAGES = [
    (name, form, k)
    for form in ("dense", "conv")
    for name, lengths in (("mnist", (12, 64)), ("fashion-mnist", (12, 64)), ("cifar10", (32, 200)))
    for k in lengths
]

# The most that a setting of at most the default's seconds may gain beyond it: in points, and as a
# share of the default's gain. The most that four times the epochs may gain, as a share of it.
POINTS, SHARE, SHARE_OF_LONG = 0.5, 0.1, 0.25

# The default is as fast as another setting if it takes at most so many times as long.
AS_FAST = 1.1


def main():
    options = _arguments()
    warnings.simplefilter("ignore", ConvergenceWarning)  # that fewer epochs are fewer
    cells = DIGITS if options.quick else DIGITS + PYTHON
    if options.data and not options.quick:
        cells = cells + FILES + IMAGES
    asked = options.names, options.forms, options.lengths
    cells = [
        cell
        for cell in cells
        if all(not chosen or value in chosen for value, chosen in zip(cell, asked, strict=True))
    ]
    suffix = "quick" if options.quick else "shared" if options.data else "python"
    path = RESULTS / f"curve-{suffix}.jsonl"
    rows = []
    for cell in cells:
        rows += measure_cell(*cell, options)
        write(rows, path, replacing=("data", "form", "latent_dim", "n_train"))
    print(f"Figures: {path}")
    try:
        from benchmarks.lib.figures import gain_by_seconds
    except ModuleNotFoundError:
        print("Plot: not drawn, matplotlib is missing (pip install 'skae[plot]').")
    else:
        print(f"Plot: {gain_by_seconds(path)}")
    return check(claim for cell in cells for claim in claims_of(cell, rows))


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone")
    parser.add_argument("--names", nargs="+", help="some data sets")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--forms", nargs="+", choices=("dense", "conv"), help="one of the two")
    parser.add_argument("--lengths", nargs="+", type=int, help="some lengths of the code")
    parser.add_argument("--most-rows", type=int, default=10_000, help="training rows at most")
    parser.add_argument("--n-seeds", type=int, default=2, help="of digits; else there is one")
    return parser.parse_args()


def settings_of_default(autoencoder, shape):
    """What "auto" means for rows of this shape."""
    device = torch.device("cpu")
    options = training_options(autoencoder, autoencoder._schedule(*shape), shape[0], device)
    default = {
        name: getattr(options, name) for name in ("max_epochs", "batch_size", "learning_rate")
    }
    if isinstance(autoencoder, ConvAutoencoder):
        default["channels"] = auto_channels(autoencoder.input_shape[:2])
    return default


def settings(form, default):
    """Changes to the default by name: epochs, batch size, learning rate, widths, one at a time."""
    changes = {"default": {}}
    for factor in (0.25, 0.5, 2, 4):
        n_epochs = max(1, round(factor * default["max_epochs"]))
        changes[f"epochs x {factor:g}"] = {"max_epochs": n_epochs}
    for factor in (0.5, 2):
        changes[f"batch x {factor:g}"] = {"batch_size": int(factor * default["batch_size"])}
        changes[f"rate x {factor:g}"] = {"learning_rate": factor * default["learning_rate"]}
    if form == "dense":
        for widths in ((256, 64), (1024, 256), (2048, 1024, 512)):
            changes[f"layers {widths}"] = {"hidden_layer_sizes": widths}
    else:
        for factor in (0.5, 2):
            channels = tuple(int(factor * n) for n in default["channels"])
            changes[f"channels {channels}"] = {"channels": channels}
    return changes


def measure_cell(name, form, latent_dim, options):
    """One row of results for each setting and seed, and for each model of others."""
    if name == "python":
        split = load_part(name, options.most_rows)
    else:
        split = load_split(name, options.data)
    X_train, X_test = split.X_train[: options.most_rows], split.X_test
    if not sp.issparse(X_train):
        X_train, X_test = X_train.astype(np.float32), X_test.astype(np.float32)  # as peers need
    kind = {"dense": DenseAutoencoder, "conv": ConvAutoencoder}[form]
    shape = {} if form == "dense" else {"input_shape": SHAPES[name]}
    common = {
        "data": name,
        "form": form,
        "latent_dim": latent_dim,
        "n_train": X_train.shape[0],
        **circumstances(),
    }
    explained_by_pca = ExactPCA(X_train, latent_dim).variance_explained(X_test, latent_dim)
    rows = []

    def record(setting, seed, model, explained):
        start = time.perf_counter()
        model.fit(X_train)
        seconds = time.perf_counter() - start
        points = 100 * (explained(model) - explained_by_pca)
        row = {"setting": setting, "seed": seed, "fit_seconds": seconds, "points": points}
        rows.append({**common, **row})

    for other, model in others(X_train, latent_dim).items():
        record(other, 0, model, lambda model: explained_by(model, X_train, X_test))
    kind(latent_dim, **shape, max_epochs=1).fit(X_train[:500])  # imports what it needs
    default = settings_of_default(kind(latent_dim, **shape), X_train.shape)
    changes = settings(form, default)
    for setting, change in tqdm(changes.items(), desc=f"{name} {form} {latent_dim}", leave=False):
        for seed in range(options.n_seeds if name == "digits" else 1):
            autoencoder = kind(latent_dim, **shape, **change, random_state=seed)
            record(setting, seed, autoencoder, lambda model: model.score(X_test))
    print(table(rows), flush=True)
    return rows


def others(X_train, latent_dim):
    """Models by other hands: scikit-learn's, and for dense rows the peers that are installed."""
    models = {
        "PCA": PCA(latent_dim, random_state=0),
        "TruncatedSVD": TruncatedSVD(latent_dim, random_state=0),
    }
    if not sp.issparse(X_train):
        peers = {name: peer(0, X_train.shape[1], latent_dim) for name, peer in PEERS.items()}
        models |= {name: peer for name, peer in peers.items() if peer is not None}
    return models


def explained_by(model, X_train, X_test):
    """Share of the variance of the test rows, around the mean of the training rows."""
    Z_test = model.transform(X_test)
    if sp.issparse(X_test):
        return variance_explained(model, X_train, X_test, Z_test)
    return explained_by_reconstructions(X_train, X_test, model.inverse_transform(Z_test))


def table(rows):
    first = rows[0]
    lines = [f"{first['data']}, {first['form']}, {first['latent_dim']} dimensions"]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        seconds, points = means(rows, setting)
        lines.append(f"    {setting:<26}{seconds:>9.2f} s{points:>+8.2f} points beyond PCA")
    return "\n".join(lines)


def means(rows, setting):
    found = [row for row in rows if row["setting"] == setting]
    keys = ("fit_seconds", "points")
    return [sum(row[key] for row in found) / len(found) for key in keys]


def claims_of(cell, rows):
    name, form, latent_dim = cell
    rows = [row for row in rows if (row["data"], row["form"], row["latent_dim"]) == cell]
    default_seconds, default_points = means(rows, "default")
    where = f"{name}, {form}, {latent_dim}"
    for setting in dict.fromkeys(row["setting"] for row in rows):
        seconds, points = means(rows, setting)
        if setting == "default" or seconds > AS_FAST * default_seconds:
            continue
        most = default_points + max(POINTS, SHARE * default_points)
        sentence = f"{setting} gains {points:+.2f} points, default {default_points:+.2f}"
        yield points <= most, f"{where}: {sentence}, in at most its seconds"
    _, points = means(rows, "epochs x 4")
    most = max(POINTS, (1 + SHARE_OF_LONG) * default_points)
    sentence = f"four times the epochs gain {points:+.2f} points, default {default_points:+.2f}"
    yield points <= most, f"{where}: {sentence}"


if __name__ == "__main__":
    sys.exit(main())
