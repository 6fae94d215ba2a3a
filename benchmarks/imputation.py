"""Claim: autoencoders fill hidden entries of new rows better than the mean with PCA does.

Entries of training and test rows are hidden at random: 10, 30 and 50 %. Each method learns from
the training rows and fills the test rows; its error is the share of the variance of the hidden
entries of test rows, about the mean of the observed training entries, that it does not explain.
Autoencoders fill by `inverse_transform(transform(X))`. The claims, on the mean over the seeds:

- on digits and on two tables of scikit-learn, standardised, the error is smaller than that of PCA
  of rows filled with the mean, of whichever length of the code is best for it;
- on digits, which are pictures, it is smaller than that of KNNImputer.

    python -m benchmarks.imputation            # three seeds
    python -m benchmarks.imputation --quick    # one seed

Exits with status 1 if a claim is false.
"""

import argparse
import sys
import time
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401, makes it importable
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.lib.claims import check
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

# The loader of each data set, whether its columns are standardised, and the length of our codes.
DATA = {
    "wine": (load_wine, True, 4),
    "breast cancer": (load_breast_cancer, True, 8),
    "digits": (load_digits, False, 24),
}

SHARES = (0.1, 0.3, 0.5)

# Lengths of the code of which the best is counted for the mean with PCA.
LENGTHS_OF_PCA = (1, 2, 4, 8, 16, 24)

OURS = "DenseAutoencoder"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed")
    options = parser.parse_args()
    rows = []
    for name in DATA:
        for share in SHARES:
            for seed in range(1 if options.quick else 3):
                rows += [
                    {"data": name, "missing": share, "seed": seed, **row, **circumstances()}
                    for row in measured(name, share, seed)
                ]
            print(
                table([row for row in rows if (row["data"], row["missing"]) == (name, share)]),
                flush=True,
            )
    path = RESULTS / f"imputation{'-quick' if options.quick else ''}.jsonl"
    write(rows, path)
    print(f"\n{table(rows)}\nFigures: {path}")
    return judge(rows)


def measured(name, share, seed):
    """A row for each method: its error and its time of fitting and filling, in seconds."""
    load, standardised, latent_dim = DATA[name]
    X_train, X_test = train_test_split(load().data, random_state=seed)
    if standardised:
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    rng = np.random.RandomState(seed)
    hidden_train, hidden = rng.random_sample(X_train.shape) < share, rng.random_sample(X_test.shape)
    hidden = hidden < share
    A, B = np.where(hidden_train, np.nan, X_train), np.where(hidden, np.nan, X_test)
    variance = np.square(X_test - np.nanmean(A, axis=0))[hidden].sum()
    for method, imputer in methods(X_train.shape[1], latent_dim, seed):
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # IterativeImputer's ten rounds
            X_hat = filled(imputer.fit(A), B)
        seconds = time.perf_counter() - start
        error = np.square(X_test - X_hat)[hidden].sum() / variance
        yield {"method": method, "error": error, "seconds": seconds}


def methods(n_features, latent_dim, seed):
    for length in LENGTHS_OF_PCA:
        if length < n_features:
            yield f"mean + PCA({length})", make_pipeline(SimpleImputer(), PCA(length))
    yield "KNNImputer", KNNImputer()
    yield "IterativeImputer", IterativeImputer(random_state=seed)
    yield OURS, DenseAutoencoder(latent_dim, missing_values=np.nan, random_state=seed)


def filled(fitted, X):
    """Rows that a fitted method returns for X."""
    if isinstance(fitted, DenseAutoencoder):
        return fitted.inverse_transform(fitted.transform(X))
    if hasattr(fitted, "steps"):
        return fitted[-1].inverse_transform(fitted.transform(X))
    return fitted.transform(X)


def errors(rows):
    """Mean error over the seeds by data, share and method; of PCA that of the best length."""
    of_methods = {}
    for row in rows:
        cell = of_methods.setdefault((row["data"], row["missing"]), {})
        cell.setdefault(row["method"], []).append(row["error"])
    for cell, found in of_methods.items():
        means = {method: float(np.mean(values)) for method, values in found.items()}
        pca = min(value for method, value in means.items() if method.startswith("mean + PCA"))
        others = {method: value for method, value in means.items() if "PCA" not in method}
        of_methods[cell] = {"mean + PCA": pca, **others}
    return of_methods


def table(rows):
    found = errors(rows)
    names = list(next(iter(found.values())))
    lines = [f"{'data':<16}{'missing':>8}" + "".join(f"{name:>18}" for name in names)]
    lines.append("-" * len(lines[0]))
    for (data, share), cell in found.items():
        lines.append(f"{data:<16}{share:>8.0%}" + "".join(f"{cell[name]:>18.3f}" for name in names))
    return "\n".join(lines)


def judge(rows):
    """0 if every claim holds, else 1."""
    claims = []
    for (data, share), cell in errors(rows).items():
        rivals = ("mean + PCA", "KNNImputer") if data == "digits" else ("mean + PCA",)
        for rival in rivals:
            sentence = f"{data}, {share:.0%}: {cell[OURS]:.3f} against {cell[rival]:.3f} of {rival}"
            claims.append((cell[OURS] < cell[rival], sentence))
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
