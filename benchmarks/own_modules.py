"""Claim: own modules err at most 1.05 times as much as in a bare PyTorch loop.

The same encoder and decoder, from the same weights, for the same rows, epochs and batches: by
``DenseAutoencoder(encoder=..., decoder=..., linear_path=False)`` and by a loop that knows nothing
but PyTorch, with Adam at the best of three learning rates. Decoders end in a sigmoid, ReLU,
softplus or nothing; losses are the squared error, the absolute error and the cross-entropy, for
which the decoder's outputs are logits. The error is that of test rows, by the loss, mean of seeds;
a mean above 1.05 counts where it is so by two standard errors of the seeds. Over all networks the
mean of the ratios is at most 1.

    python -m benchmarks.own_modules --quick            # digits, one seed
    python -m benchmarks.own_modules                    # also as pictures of 28 x 28
    python -m benchmarks.own_modules --data FOLDER      # also MNIST

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
import warnings
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom
from scipy.stats import sem
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

MOST_OF_BARE = 1.05
RATES = (0.0005, 0.001, 0.003)
N_EPOCHS, BATCH = 30, 64

LOSSES = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "bce": binary_cross_entropy_with_logits,
}
OUTPUTS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "softplus": nn.Softplus, "linear": nn.Identity}

# Widths from the columns to the code, the last activation and the loss.
OF_DIGITS = [
    *(((64, 128, 64, 12), output, "mse") for output in OUTPUTS),
    *(((64, 128, 64, 12), output, "mae") for output in OUTPUTS),
    ((64, 128, 64, 12), "linear", "bce"),
    ((64, 128, 64, 12, 3), "sigmoid", "mse"),
]
OF_PICTURES = [
    ((784, 128, 64, 12, 3), "sigmoid", "mse"),
    ((784, 128, 64, 12), "sigmoid", "mse"),
    ((784, 128, 64, 12), "linear", "bce"),
]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits, one seed")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--n-seeds", type=int, default=5)
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.n_seeds)
    suffix = "-quick" if options.quick else ""
    path = RESULTS / f"own-modules{suffix}.jsonl"
    rows = []
    for name, splits, cells in data_sets(options):
        for cell in cells:
            rows.append({"data": name, **compare(splits, *cell, seeds), **circumstances()})
            print(sentence(rows[-1]), flush=True)
            write(rows, path)
    print(f"Figures: {path}")
    return judge(rows)


def judge(rows):
    """0 if the claim holds, else 1; a sentence for each network, and one for all."""
    claims = []
    for row in rows:
        beyond = np.array(row["errors"]) - MOST_OF_BARE * np.array(row["bare_errors"])
        error = sem(beyond) if len(beyond) > 1 else 0.0
        claims.append((beyond.mean() <= 2 * error, sentence(row)))
    mean = np.mean([ratio(row) for row in rows])
    return check([*claims, (mean <= 1, f"the mean of the {len(rows)} ratios is {mean:.2f}")])


def data_sets(options):
    """Name, training and test rows in [0, 1], and the networks for them."""
    pictures = load_digits().images / 16
    yield "digits", split(pictures), OF_DIGITS
    if options.quick:
        return
    larger = np.stack([zoom(picture, 3.5, order=1) for picture in pictures])
    yield "digits of 28 x 28", split(larger), OF_PICTURES
    if options.data:
        mnist = load_split("mnist", options.data)
        rows = (np.asarray(X, np.float32) / np.max(X) for X in (mnist.X_train, mnist.X_test))
        yield "mnist", tuple(X[:10_000] for X in rows), OF_PICTURES


def split(pictures):
    X = pictures.reshape(len(pictures), -1).clip(0, 1).astype(np.float32)
    return X[:1300], X[1300:]


def networks(widths, output, seed):
    """A new encoder and decoder with ReLU between their layers."""
    torch.manual_seed(seed)
    encoder, decoder = [], []
    for n_inputs, n_outputs in pairwise(widths):
        encoder += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    for n_inputs, n_outputs in pairwise(widths[::-1]):
        decoder += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    decoder[-1] = OUTPUTS[output]()
    return nn.Sequential(*encoder[:-1]), nn.Sequential(*decoder)


def compare(splits, widths, output, loss, seeds):
    """Errors of test rows and seconds: ours, and those of the bare loop at its best rate."""
    X_train, X_test = splits
    errors, seconds = [], []
    bare_errors, bare_seconds = {rate: [] for rate in RATES}, []
    for seed in seeds:
        encoder, decoder = networks(widths, output, seed)
        start = time.perf_counter()
        model = DenseAutoencoder(
            widths[-1],
            encoder=encoder,
            decoder=decoder,
            linear_path=False,
            loss=loss,
            max_epochs=N_EPOCHS,
            early_stopping=False,
            batch_size=BATCH,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X_train)
        seconds.append(time.perf_counter() - start)
        errors.append(float(-model.score_samples(X_test).mean() / X_test.shape[1]))
        for rate in RATES:
            start = time.perf_counter()
            network = nn.Sequential(*deepcopy((encoder, decoder)))
            fit_bare(network, X_train, LOSSES[loss], rate)
            bare_seconds.append(time.perf_counter() - start)
            bare_errors[rate].append(error_of(network, X_test, loss))
    rate = min(RATES, key=lambda rate: np.mean(bare_errors[rate]))
    return {
        "widths": list(widths),
        "output": output,
        "loss": loss,
        "errors": errors,
        "bare_errors": bare_errors[rate],
        "bare_rate": rate,
        "seconds": float(np.mean(seconds)),
        "bare_seconds": float(np.mean(bare_seconds)),
    }


def fit_bare(network, X, loss, rate):
    optimizer = torch.optim.Adam(network.parameters(), rate)
    rows = torch.from_numpy(X)
    for _ in range(N_EPOCHS):
        for batch in torch.randperm(len(rows)).split(BATCH):
            optimizer.zero_grad()
            loss(network(rows[batch]), rows[batch]).backward()
            optimizer.step()


@torch.no_grad()
def error_of(network, X, loss):
    """Mean error of an entry, in the units of `score_samples`: deviances, zero where X is met."""
    rows = torch.from_numpy(X)
    error = LOSSES[loss](network(rows), rows)
    if loss == "bce":
        entropy = torch.xlogy(rows, rows) + torch.xlogy(1 - rows, 1 - rows)
        error = 2 * (error + entropy.mean())
    return float(error)


def ratio(row):
    return np.mean(row["errors"]) / np.mean(row["bare_errors"])


def sentence(row):
    widths = "-".join(map(str, row["widths"]))
    return (
        f"{row['data']}, {widths}, {row['output']}, {row['loss']}: an error of "
        f"{np.mean(row['errors']):.4f}, {ratio(row):.2f} times the bare loop's, in "
        f"{row['seconds']:.1f} s and {row['bare_seconds']:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
