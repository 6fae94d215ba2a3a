"""Claim: the tutorials' convolutional network errs more than PCA of the same length; ours less.

CIFAR-10 to 200 (or 1,000) dimensions, 3 x 3 convolutions 16-16-32-32-64-64, ten epochs of Adam, as
`benchmarks.lib.literature` has it: loss of every batch, of training and of test pictures, and
what ten test pictures look like after every epoch, beside PCA and `ConvAutoencoder`.

    python -m benchmarks.tutorial                  # fetched from openml.org
    python -m benchmarks.tutorial --data FOLDER    # the file in FOLDER/cifar10; ten minutes

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from benchmarks.lib.claims import check
from benchmarks.lib.images import N_SHOWN, SHAPES, load_images
from benchmarks.lib.literature import Literature
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import ConvAutoencoder

NETWORK, SHAPE = "16-16-32-32-64-64", SHAPES["cifar10"]

# Test pictures whose loss is taken after every batch, and every how many.
N_JUDGES, EVERY = 64, 5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--latent-dim", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    X_train, X_test, _, _ = load_images("cifar10", options.data)
    judges, shown = X_test[:N_JUDGES], X_test[-N_SHOWN:]
    losses, pictures, rows = [], {}, []

    def on_batch(epoch, loss):
        test = losses[-1][1] if len(losses) % EVERY else error_of(tutorial, judges)
        losses.append((loss / 4, test))  # its pixels are twice as far apart as in [0, 1]

    def on_epoch(epoch, model):
        pictures[f"epoch {epoch}"] = reconstruction(model, shown)
        error = error_of(model, X_test)
        rows.append({"model": NETWORK, "epoch": epoch, "error": error})
        print(f"epoch {epoch:>2}: {error:.5f}", flush=True)

    tutorial = Literature(
        NETWORK, options.latent_dim, options.seed, on_batch=on_batch, on_epoch=on_epoch
    )
    tutorial.fit(X_train)
    for model in (
        PCA(options.latent_dim, random_state=options.seed),
        ConvAutoencoder(options.latent_dim, input_shape=SHAPE, random_state=options.seed),
    ):
        start = time.perf_counter()
        model.fit(X_train)
        seconds = time.perf_counter() - start
        name, error = type(model).__name__, error_of(model, X_test)
        pictures[name] = reconstruction(model, shown)
        rows.append({"model": name, "error": error, "fit_seconds": seconds})
        print(f"{name}: {error:.5f} in {seconds:.0f} s", flush=True)
    settings = {"latent_dim": options.latent_dim, "seed": options.seed, **circumstances()}
    stem = RESULTS / f"tutorial-{options.latent_dim}"
    write([{**row, **settings} for row in rows], stem.with_suffix(".jsonl"))
    _draw(np.array(losses), pictures, rows, shown, stem)
    return judge(rows)


def reconstruction(model, X):
    return model.inverse_transform(model.transform(X))


def error_of(model, X):
    return float(np.square(X - reconstruction(model, X), dtype=np.float64).mean())


def _draw(losses, pictures, rows, shown, stem):
    try:
        from benchmarks.lib.figures import losses_by_batch, reconstructions
    except ModuleNotFoundError:
        print("Pictures: not drawn, matplotlib is missing (pip install 'skae[plot]').")
        return
    levels = {row["model"]: row["error"] for row in rows if "epoch" not in row}
    made = {
        name: [X.reshape(-1, *SHAPE) for X in (shown, X_hat)] for name, X_hat in pictures.items()
    }
    path = stem.with_name(f"{stem.name}-pictures.png")
    print(f"Losses: {losses_by_batch(losses, levels, stem.with_suffix('.png'))}")
    print(f"Pictures: {reconstructions('CIFAR-10, test pictures', made, path)}")


def judge(rows):
    """0 if the claim holds, else 1; a sentence for each half of it."""
    error = {row["model"]: row["error"] for row in rows}  # of the last epoch
    claims = [
        (
            error[NETWORK] > error["PCA"],
            f"{NETWORK} errs {error[NETWORK] / error['PCA']:.2f} of PCA's",
        ),
        (
            error["ConvAutoencoder"] < error["PCA"],
            f"ConvAutoencoder errs {error['ConvAutoencoder'] / error['PCA']:.2f} of PCA's",
        ),
    ]
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
