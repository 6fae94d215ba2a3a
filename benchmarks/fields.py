"""Claim: on data of many fields, codes are better than PCA's wherever a long training's are.

Every data set at codes of 2, 8, 16 and 32 dimensions, as long as these are at most half of the
columns: scikit-learn's PCA, `DenseAutoencoder` with its defaults, and the far end, the same model
trained six to ten times as long by the documented way. Measured are the share of the variance of
test rows, around the mean of the training rows; the seconds of `fit`; whether the code is PCA's;
and the accuracy, or R2, of a small MLP on standardised codes. Sets with missing entries are left
out (ozone, usda_food).

    python -m benchmarks.fields --quick            # what comes with scikit-learn
    python -m benchmarks.fields --data FOLDER      # FOLDER/fields/*.npz, images and files
    python -m benchmarks.fields --data FOLDER --sets letter,trec --dimensions 2,8 --no-far

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from benchmarks.lib.fields_data import BUNDLED, load_field, names_in
from benchmarks.lib.measure import circumstances, variance_explained
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

DIMENSIONS = (2, 8, 16, 32)


def far_end(n_train):
    """Parameters of six to ten times the work: about 3,500 batches, or 150 epochs of few rows."""
    return {"max_epochs": min(150, max(60, 900_000 // n_train))}


def main():
    options = _arguments()
    warnings.simplefilter("ignore", ConvergenceWarning)  # that a model could train on
    names = list(BUNDLED) if options.quick else names_in(options.data)
    names = options.sets or names
    path = options.output or RESULTS / f"fields-{'quick' if options.quick else 'shared'}.jsonl"
    rows = []
    for name in tqdm(names, desc="sets", leave=False):
        field = load_field(name, options.data)
        n_features = field.split.X_train.shape[1]
        for latent_dim in (k for k in options.dimensions if k <= n_features // 2):
            rows.append(measure_cell(field, latent_dim, options))
            write(rows[-1:], path, replacing=("data", "latent_dim"))
            print(line_of(rows[-1]), flush=True)
    print(f"Figures: {path}")
    return 0


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = {"type": lambda text: text.split(","), "metavar": "NAME,..."}
    parser.add_argument("--quick", action="store_true", help="sets of scikit-learn alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--sets", **listed, help="some data sets")
    parser.add_argument(
        "--dimensions",
        type=lambda text: [int(k) for k in text.split(",")],
        metavar="N,...",
        default=DIMENSIONS,
    )
    parser.add_argument("--no-far", action="store_true", help="without the far end")
    parser.add_argument("--output", type=Path, help="JSON lines of the results")
    options = parser.parse_args()
    if options.data is None and not options.quick:
        parser.error("--data FOLDER or --quick is needed")
    return options


def measure_cell(field, latent_dim, options):
    """One row of results: PCA, the default and the far end at one length of the code."""
    split = field.split
    n_train, n_features = split.X_train.shape
    pca, pca_seconds, pca_cpu = fitted(pca_of(split.X_train, latent_dim), split.X_train)
    ours, seconds, cpu = fitted(DenseAutoencoder(latent_dim, random_state=0), split.X_train)
    row = {
        "data": field.name,
        "kind": field.kind,
        "latent_dim": latent_dim,
        "n_train": n_train,
        "n_features": n_features,
        "pca": share_of(pca, split),
        "ours": share_of(ours, split),
        "code_is_pca": code_is_pca(ours),
        "nonlinear_gain": float(ours.nonlinear_gain_),
        "pca_seconds": pca_seconds,
        "pca_cpu_seconds": pca_cpu,
        "seconds": seconds,
        "cpu_seconds": cpu,
    }
    if not options.no_far:
        far = DenseAutoencoder(latent_dim, **far_end(n_train), random_state=0)
        far, seconds, cpu = fitted(far, split.X_train)
        row |= {"far": share_of(far, split), "far_seconds": seconds, "far_cpu_seconds": cpu}
    return row | circumstances()


def pca_of(X, latent_dim):
    """scikit-learn's PCA with an exact solver; of few columns that is the fastest one too."""
    wide = sp.issparse(X) or X.shape[1] > 500
    solver = "arpack" if wide else "covariance_eigh"
    return PCA(latent_dim, svd_solver=solver, random_state=0)


def fitted(model, X):
    """The model, fitted; and the seconds that passed, and those of the processor."""
    start, cpu_start = time.perf_counter(), time.process_time()
    model.fit(X)
    return model, time.perf_counter() - start, time.process_time() - cpu_start


def share_of(model, split):
    """Share of the variance of test rows that a model explains, around the training mean."""
    X_train, X_test = split.X_train, split.X_test
    Z = model.transform(X_test)
    if sp.issparse(X_train):
        return float(variance_explained(model, X_train, X_test, Z))
    mean = X_train.mean(axis=0, dtype=np.float64)
    total = np.square(X_test - mean).sum()
    return float(1 - np.square(X_test - model.inverse_transform(Z), dtype=np.float64).sum() / total)


def code_is_pca(model):
    found = getattr(model, "code_is_pca_", None)
    return bool(model.module_.encoder is None if found is None else found)


def line_of(row):
    far = f"{row['far']:.3f} {row['far_seconds']:6.1f} s" if "far" in row else ""
    return (
        f"{row['data']:<15}{row['latent_dim']:>3}  PCA {row['pca']:.3f}  ours {row['ours']:.3f}"
        f" {row['seconds']:6.1f} s ({row['cpu_seconds']:.1f} of processor)"
        f"{' code is PCA' if row['code_is_pca'] else ''}  far {far}"
    )


if __name__ == "__main__":
    sys.exit(main())
