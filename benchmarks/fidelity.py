"""Claim: the linear form is PCA, as close to the truth as PCA with the full solver of that dtype.

For each component the error of its direction, of its variance and of its codes, and for all of
them the error of reconstructions, are at most twice those of `PCA(svd_solver="full")` on rows of
the same dtype, or below a floor: a few digits of that dtype, or two units in the last digit of the
longest direction, by which rows themselves are rounded. The truth of rows in float32 is PCA
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
    for name, X, truth, k, weighted in data_sets(options):
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
    """Name, rows, their truth where they were made of one, number of components; if weighted."""
    for name, shape, spectrum in made_spectra(options.quick):
        for weighted in (False, True):
            X, truth = made(shape, spectrum, np.random.default_rng(options.seed), weighted)
            k = min(len(spectrum), 100)
            yield name, X, truth, k, weighted
            yield name, X.astype(np.float32), None, k, weighted
    real = {"columns of scales 1 to 1e8": (columns_of_scales(options.seed), 9)}
    real["digits"] = load_digits().data, 40
    if options.data is not None and not options.quick:
        for name in ("nir_soil", "jasper_ridge"):
            real[name] = np.load(options.data / "fields" / f"{name}.npz")["X"], 20
    for name, (X, k) in real.items():
        for weighted in (False, True):
            yield name, X.astype(np.float32), None, k, weighted


def made_spectra(quick):
    yield "eight decades, more rows", (300, 120), np.logspace(0, -8, 30)
    yield "eight decades, more columns", (120, 300), np.logspace(0, -8, 30)
    if not quick:
        yield "3,000 x 2,500", (3000, 2500), 1 / np.arange(1, 201)


def weights_for(n, seed=0):
    """How often each of n rows counts."""
    return np.random.default_rng(seed).integers(1, 4, n)


def made(shape, singular_values, rng, weighted=False):
    """Rows with given singular values around their mean, and their truth.

    With weights W of `weights_for` these are the singular values of ``sqrt(W) X``.
    """
    n, p = shape
    weights = weights_for(n) if weighted else np.ones(n)
    roots = np.sqrt(weights)[:, None]
    left = rng.normal(size=(n, len(singular_values)))
    left -= roots * (roots.T @ left) / weights.sum()  # the weighted mean of X is zero
    left = np.linalg.qr(left)[0]
    right = np.linalg.qr(rng.normal(size=(p, len(singular_values))))[0]
    X = (left / roots * singular_values) @ right.T
    return X, Truth(right.T, singular_values**2 / (weights.sum() - 1), np.zeros(p))


def columns_of_scales(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(1000, 9)) @ np.linalg.qr(rng.normal(size=(9, 9)))[0]
    return (X + 0.3 * X[:, :1] + 2) * 10.0 ** np.arange(9)


def measure(X, truth, k, weighted, seed):
    """Errors of PCA and of the linear form: a list with one for each component."""
    weights, repeated = None, X
    if weighted:
        weights = weights_for(len(X))
        repeated = np.repeat(X, weights, axis=0)
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
        "rounding": (2 * np.finfo(X.dtype).eps * falls(truth.variances[:k])).tolist(),
        "PCA": errors(pca, X, truth, k),
        "ours": errors(ours, X, truth, k),
    }


def falls(variances):
    """How many times the longest direction is longer than each."""
    return np.sqrt(variances[0] / np.fmax(variances, 1e-300))


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


def excesses(row):
    """The largest error of the linear form for each measure, as a share of what is claimed."""
    found = {}
    for name in MEASURES:
        ours, pca = (np.array(row[model][name]) for model in ("ours", "PCA"))
        # Of neighbouring components some are close to the truth by chance.
        limits = np.fmax(MOST * np.maximum.accumulate(pca), FLOOR[row["dtype"]])
        if len(ours) > 1:
            limits = np.fmax(limits, row["rounding"])
        found[name] = float((ours / limits).max())
    return found


def judge(rows):
    """0 if the claims hold, else 1; a sentence for each kind of rows and measure."""
    claims = []
    for row in rows:
        weights = " with weights" if row["weights"] else ""
        for name, excess in excesses(row).items():
            sentence = (
                f"{row['data']}, {row['dtype']}{weights}: the largest error of a {name} is "
                f"{excess:.2g} of what is claimed"
            )
            claims.append((excess <= 1, sentence))
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
