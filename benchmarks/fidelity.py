"""Claim: the linear form is PCA, as close to the truth as PCA with the full solver of that dtype.

For each component the error of its direction, of its variance and of its codes, and for all of
them the error of reconstructions, are at most twice those of `PCA(svd_solver="full")` on rows of
the same dtype, or below a floor of a few digits of that dtype. The truth of rows in float32 is PCA
in float64; that of rows in float64 is the spectrum that they were made of. Weights are compared
with PCA of rows that are repeated as often.

    python -m benchmarks.fidelity --quick           # small made rows and digits
    python -m benchmarks.fidelity --data FOLDER     # spectra of the folder `fields` as well

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from benchmarks.lib.claims import check
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

# Errors may be so many times PCA's, or as large as the floor of the dtype.
MOST, FLOOR = 2.0, {"float32": 2e-6, "float64": 1e-9}

MEASURES = ("direction", "variance", "code", "reconstruction")


@dataclass
class Truth:
    """Directions of shape (k, p), variances of shape (k,), and the mean of rows."""

    components: np.ndarray
    variances: np.ndarray
    mean: np.ndarray

    def codes(self, X):
        return (X - self.mean) @ self.components.T


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small rows alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for name, X, truth, k in data_sets(options):
        for weighted in (False, True):
            row = {"data": name, "dtype": str(X.dtype), "weights": weighted}
            row |= {"n_samples": len(X), "n_features": X.shape[1], "latent_dim": k}
            row |= measure(X, truth, k, weighted, options.seed)
            print(in_words(row), flush=True)
            rows.append({**row, **circumstances()})
    suffix = "quick" if options.quick else "shared" if options.data else "made"
    path = RESULTS / f"fidelity-{suffix}.jsonl"
    write(rows, path)
    print(f"Figures: {path}")
    return judge(rows)


def data_sets(options):
    """Name, rows, their truth where they were made of one, and the number of components."""
    rng = np.random.default_rng(options.seed)
    for name, shape, spectrum in made_spectra(options.quick):
        X, truth = made(shape, spectrum, rng)
        k = min(len(spectrum), 100)
        yield name, X, truth, k
        yield name, X.astype(np.float32), None, k
    X = rng.normal(size=(1000, 9)) @ np.linalg.qr(rng.normal(size=(9, 9)))[0]
    X = (X + 0.3 * X[:, :1] + 2) * 10.0 ** np.arange(9)
    yield "columns of scales 1 to 1e8", X.astype(np.float32), None, 9
    yield "digits", load_digits().data.astype(np.float32), None, 40
    if options.data is not None and not options.quick:
        for name in ("nir_soil", "jasper_ridge"):
            X = np.load(options.data / "fields" / f"{name}.npz")["X"]
            yield name, X.astype(np.float32), None, 20


def made_spectra(quick):
    yield "eight decades, more rows", (300, 120), np.logspace(0, -8, 30)
    yield "eight decades, more columns", (120, 300), np.logspace(0, -8, 30)
    if not quick:
        yield "3,000 x 2,500", (3000, 2500), 1 / np.arange(1, 201)


def made(shape, singular_values, rng):
    """Rows with given singular values around their mean, and their truth."""
    n, p = shape
    left = rng.normal(size=(n, len(singular_values)))
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(rng.normal(size=(p, len(singular_values))))[0]
    X = (left * singular_values) @ right.T
    return X, Truth(right.T, singular_values**2 / (n - 1), np.zeros(p))


def measure(X, truth, k, weighted, seed):
    """Errors of PCA and of the linear form: a list with one for each component."""
    weights, repeated = None, X
    if weighted:
        weights = np.random.default_rng(seed).integers(1, 4, len(X))
        repeated, truth = np.repeat(X, weights, axis=0), None
    if truth is None:
        exact = PCA(k, svd_solver="full").fit(repeated.astype(np.float64))
        truth = Truth(exact.components_, exact.explained_variance_, exact.mean_)
    pca = PCA(k, svd_solver="full")
    ours = DenseAutoencoder(k, hidden_layer_sizes=(), random_state=seed)
    seconds = {}
    for name, fit in {
        "PCA": lambda: pca.fit(repeated),
        "ours": lambda: ours.fit(X, sample_weight=weights),
    }.items():
        start = time.process_time()
        fit()
        seconds[name] = time.process_time() - start
    return {
        "seconds": seconds,
        "PCA": errors(pca, X, truth, k),
        "ours": errors(ours, X, truth, k),
    }


def errors(model, X, truth, k):
    components = model.components_.astype(np.float64)
    true = truth.components[:k]
    cosines = np.sum(components * true, axis=1)
    sines = np.linalg.norm(components - cosines[:, None] * true, axis=1)
    exact = truth.codes(X.astype(np.float64))[:, :k]
    codes = model.transform(X).astype(np.float64) * np.sign(cosines)
    sizes = np.linalg.norm(exact, axis=0)
    X_hat = model.inverse_transform(model.transform(X)).astype(np.float64)
    expected = exact @ true + truth.mean
    return {
        "direction": sines.tolist(),
        "variance": np.abs(model.explained_variance_ / truth.variances[:k] - 1).tolist(),
        "code": (np.linalg.norm(codes - exact, axis=0) / sizes).tolist(),
        "reconstruction": [float(np.linalg.norm(X_hat - expected) / np.linalg.norm(sizes))],
    }


def in_words(row):
    worst = ", ".join(
        f"{name} {max(row['ours'][name]):.1e} ({max(row['PCA'][name]):.1e})" for name in MEASURES
    )
    with_weights = ", weights" if row["weights"] else ""
    return f"{row['data']}, {row['dtype']}{with_weights}: largest errors (PCA's): {worst}"


def judge(rows):
    """0 if the claims hold, else 1; a sentence for each kind of rows and measure."""
    claims = []
    for row in rows:
        for name in MEASURES:
            ours, pca = (np.array(row[model][name]) for model in ("ours", "PCA"))
            # Of neighbouring components some are close to the truth by chance.
            pca = np.maximum.accumulate(pca)
            excess = (ours / np.maximum(MOST * pca, FLOOR[row["dtype"]])).max()
            weights = " with weights" if row["weights"] else ""
            claims.append(
                (
                    excess <= 1,
                    f"{row['data']}, {row['dtype']}{weights}: the error of each {name} is at most "
                    f"{excess:.2g} of what is claimed",
                )
            )
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
