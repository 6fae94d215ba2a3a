"""Claim: principal directions of wide sparse rows are those of ARPACK, in a fraction of its time.

The rows are square roots of byte-bigram frequencies, of 65,536 columns. The truth is the
eigenproblem of all products of two rows, in float64, to which ARPACK is equal to eight digits.
The claims, for the linear form at each length:

- the leading half of the components have a cosine of at least 0.999 with the true ones;
- the share of the variance differs from the true one by at most 1e-5 up to 64 dimensions, and by
  at most 5e-4 beyond;
- no later component is arbitrary: the variance of its codes is at least 0.9 of the true one.

Networks get 256 directions beyond those of the code, which need not be converged. The claim is that
the networks explain at most 0.001 more of the variance of test rows where they are, in the mean of
four seeds, within two standard errors.

Text that is hashed into 2^20 columns, most of which are never used, costs at most 1.5 times the
seconds and the memory of TruncatedSVD.

    python -m benchmarks.directions --quick            # this Python's files, 16 dimensions
    python -m benchmarks.directions --data FOLDER      # FOLDER/files, with a MANIFEST.csv

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_part
from benchmarks.lib.exact_pca import ExactPCA
from benchmarks.lib.measure import circumstances
from benchmarks.lib.memory import peak_resident_bytes
from benchmarks.lib.records import RESULTS, write
from skae import DenseAutoencoder

LENGTHS, QUICK_LENGTHS, LONGEST_ARPACK = (16, 64, 1024), (16,), 64
LEAST_COSINE, LEAST_VARIANCE = 0.999, 0.9
MOST_OF_SHARE = {16: 1e-5, 64: 1e-5, 1024: 5e-4}
MOST_OF_NETWORKS, SEEDS = 0.001, range(4)
HASHED_COLUMNS, HASHED_DIMENSIONS, TIMES_TRUNCATED_SVD = 2**20, 32, 1.5
MOST_ROWS, QUICK_ROWS = 10_000, 3_000


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="16 dimensions alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    options = parser.parse_args()
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    name = "python" if options.quick or options.data is None else "files"
    split = load_part(name, QUICK_ROWS if options.quick else MOST_ROWS, options.data)
    values, components = true_directions(split.X_train, max(lengths))
    rows = []
    for k in lengths:
        rows.append(
            {"data": name, "latent_dim": k, **compared(split.X_train, k, values, components)}
        )
        if k <= LONGEST_ARPACK:
            rows[-1] |= with_all_directions_accurate(split, k)
        print(in_words(rows[-1]), flush=True)
    rows.append({"data": "hashed text", "latent_dim": HASHED_DIMENSIONS, **hashed_text()})
    print(f"hashed text: {rows[-1]}")
    path = RESULTS / f"directions-{'quick' if options.quick else 'shared'}.jsonl"
    write([{**row, **circumstances()} for row in rows], path)
    print(f"Figures: {path}")
    return check(claims_of(rows))


def true_directions(X, k):
    """Shares of the variance along the k leading directions, and these, of shape (k, p)."""
    X = X.astype(np.float64)
    exact = ExactPCA(X, k)
    squares = np.square(exact.codes(X, k)).sum(axis=0)
    return squares * exact.variance_explained(X, k) / squares.sum(), exact.components


def compared(X, k, values, components):
    """Cosines, shares and seconds of the linear form, and of ARPACK at short codes."""
    start = time.perf_counter()
    model = DenseAutoencoder(k, hidden_layer_sizes=(), random_state=0).fit(X)
    row = {"seconds": time.perf_counter() - start}
    found = np.asarray(model.components_, dtype=np.float64)
    codes = model.transform(X).astype(np.float64)
    shares = model.explained_variance_ratio_
    variances = codes.var(axis=0, ddof=1) / model.explained_variance_ * shares
    row["cosines"] = np.abs(np.einsum("ij,ij->i", found, components[:k])).tolist()
    row["variances"] = (variances / values[:k]).tolist()
    row["share"], row["true_share"] = float(variances.sum()), float(values[:k].sum())
    if k <= LONGEST_ARPACK:
        start = time.perf_counter()
        exact = PCA(k, svd_solver="arpack", random_state=0).fit(X.astype(np.float64))
        row["arpack_seconds"] = time.perf_counter() - start
        row["arpack_cosines"] = np.abs(
            np.einsum("ij,ij->i", exact.components_, components[:k])
        ).tolist()
    return row


def with_all_directions_accurate(split, k):
    """Shares of the variance of test rows, with directions as they are and with accurate ones."""
    from skae._estimators import fitting

    def of_all(*arguments, n_accurate, **settings):
        return fitting_basis(*arguments, tol=1e-8, **settings)

    fitting_basis = fitting.principal_basis

    def shares():
        fits = (DenseAutoencoder(k, random_state=seed).fit(split.X_train) for seed in SEEDS)
        return [fit.score(split.X_test) for fit in fits]

    with patch.object(fitting, "principal_basis", of_all):
        accurate = shares()
    return {"networks": shares(), "networks_if_accurate": accurate}


def hashed_text():
    """Seconds and memory of the linear form and of TruncatedSVD, in processes of their own."""
    row = {}
    for name in ("TruncatedSVD", "ours"):
        with get_context("spawn").Pool(1) as pool:
            row[name] = pool.apply(_fit_of_hashed_text, (name,))
    return row


def _fit_of_hashed_text(name):
    X = sp.csr_matrix(HashingVectorizer(n_features=HASHED_COLUMNS).fit_transform(_paragraphs()))
    model = {
        "TruncatedSVD": TruncatedSVD(HASHED_DIMENSIONS, random_state=0),
        "ours": DenseAutoencoder(HASHED_DIMENSIONS, hidden_layer_sizes=(), random_state=0),
    }[name]
    start = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_gb": peak_resident_bytes() / 1e9, "n_rows": X.shape[0]}


def _paragraphs():
    """Pieces of 40 lines of the modules of this Python."""
    folder = Path(os.__file__).parent
    for path in sorted(folder.glob("*.py")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for start in range(0, len(lines), 40):
            yield "\n".join(lines[start : start + 40])


def in_words(row):
    k, cosines = row["latent_dim"], row["cosines"]
    return (
        f"{row['data']} at {k}: least cosine of the leading half {min(cosines[: k // 2]):.6f}, of "
        f"all {min(cosines):.4f}; share {row['share']:.6f} (truth {row['true_share']:.6f}); "
        f"{row['seconds']:.1f} s (ARPACK {row.get('arpack_seconds', np.nan):.1f} s)"
    )


def claims_of(rows):
    """(holds, sentence) of each claim."""
    for row in rows:
        if row["data"] == "hashed text":
            for key, unit in (("seconds", "seconds"), ("peak_gb", "memory")):
                times = row["ours"][key] / row["TruncatedSVD"][key]
                sentence = f"hashed text: {times:.2f} times the {unit} of TruncatedSVD"
                yield times <= TIMES_TRUNCATED_SVD, sentence
            continue
        k = row["latent_dim"]
        cell = f"{row['data']} at {k}"
        least = min(row["cosines"][: k // 2])
        yield least >= LEAST_COSINE, f"{cell}: least cosine of the leading half {least:.6f}"
        away = abs(row["share"] - row["true_share"])
        yield away <= MOST_OF_SHARE[k], f"{cell}: the share differs from the true one by {away:.1e}"
        least = min(row["variances"])
        sentence = f"{cell}: the least variance is {least:.3f} of the true one"
        yield least >= LEAST_VARIANCE, sentence
        if "networks" in row:
            gains = np.subtract(row["networks_if_accurate"], row["networks"])
            gain, error = gains.mean(), gains.std(ddof=1) / len(gains) ** 0.5
            sentence = (
                f"{cell}: {gain:+.4f} of the variance if all directions were accurate, "
                f"with a standard error of {error:.4f}"
            )
            yield gain <= MOST_OF_NETWORKS + 2 * error, sentence
        if "arpack_seconds" in row and row["data"] == "files":
            times = row["seconds"] / row["arpack_seconds"]
            yield times <= 1, f"{cell}: {times:.2f} of ARPACK's seconds"


if __name__ == "__main__":
    sys.exit(main())
