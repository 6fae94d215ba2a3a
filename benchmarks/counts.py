"""Claim: multinomial deviance explains counts best, and codes of square roots name them best.

Counts of byte bigrams in chunks of files, groups of related files held out. `DenseAutoencoder` with
``loss="multinomial"`` explains more of the multinomial deviance of test rows than non-negative
matrix factorisation (NMF), latent Dirichlet allocation (LDA) and PCA of the square roots. Codes of
square roots, PCA's or an autoencoder's, let a classifier name more rows right than codes of NMF and
LDA do.

    python -m benchmarks.counts --quick            # digits as counts, 8 dimensions
    python -m benchmarks.counts                    # files of this Python, 32 dimensions
    python -m benchmarks.counts --data FOLDER      # your files, in FOLDER/files

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.special import xlogy
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, LatentDirichletAllocation
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from tqdm import tqdm

from benchmarks.lib.claims import check
from benchmarks.lib.corpus import load_corpus
from benchmarks.lib.datasets import Split
from benchmarks.lib.measure import accuracy, circumstances
from benchmarks.lib.records import RESULTS, read, write
from skae import ByteBigrams, DenseAutoencoder

# Reconstructed shares are mixed with so much of the mean, whichever suits the training rows best:
# a zero where a count is would be an infinite deviance.
MIXTURES = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3)


def plain(loss):
    """The plain network of a loss: one hidden layer."""
    return lambda k, seed: DenseAutoencoder(
        k, linear_path=False, hidden_layer_sizes=(256,), loss=loss, random_state=seed
    )


# Name: (whether it is given square roots, the model).
MODELS = {
    "PCA, roots": (True, lambda k, seed: PCA(k, svd_solver="arpack", random_state=seed)),
    "skae, roots": (True, lambda k, seed: DenseAutoencoder(k, random_state=seed)),
    "skae, counts": (False, lambda k, seed: DenseAutoencoder(k, random_state=seed)),
    "skae, multinomial": (False, plain("multinomial")),
    "skae, poisson": (False, plain("poisson")),
    "NMF": (
        False,
        lambda k, seed: NMF(
            k, init="nndsvda", solver="mu", beta_loss="kullback-leibler", random_state=seed
        ),
    ),
    "LDA": (
        False,
        lambda k, seed: LatentDirichletAllocation(k, n_jobs=-1, random_state=seed),
    ),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits, 8 dimensions")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="some models")
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument("--per-format", type=int, default=200, help="chunks of a format at most")
    parser.add_argument("--n-seeds", type=int, default=3, help="of the classifiers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    suffix = "quick" if options.quick else "shared" if options.data else "python"
    split = digits(options) if options.quick else files(options)
    path = RESULTS / f"counts-{suffix}.jsonl"
    for name in tqdm(options.models, leave=False):
        row = measure(name, split, 8 if options.quick else options.latent_dim, options)
        write([row], path, replacing=("model",))
        print(table([row]).splitlines()[-1], flush=True)
    rows = read(path)
    print(table(rows))
    print(f"Figures: {path}")
    return judge(rows)


def digits(options):
    """The digits' 64 grey values, from 0 to 16, as counts."""
    X, y = load_digits(return_X_y=True)
    return Split(*train_test_split(X, y, test_size=0.25, stratify=y, random_state=options.seed))


def files(options):
    """Byte-bigram counts of chunks of files, a quarter of the groups of related files held out."""
    folder = None if options.data is None else options.data / "files"
    corpus = load_corpus(folder, per_format=options.per_format)
    X = ByteBigrams(norm=None).fit_transform(corpus.chunks).astype(np.float32)
    splitter = StratifiedGroupKFold(n_splits=4, shuffle=True, random_state=options.seed)
    train, test = next(splitter.split(X, corpus.formats, corpus.groups))
    return Split(X[train], X[test], corpus.formats[train], corpus.formats[test])


def measure(name, split, latent_dim, options):
    """How much of the multinomial deviance of test rows a model explains, and its accuracy."""
    of_roots, make = MODELS[name]
    given = [np.sqrt(X) if of_roots else X for X in (split.X_train, split.X_test)]
    model = make(latent_dim, options.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # NMF stops after 200 iterations
        start = time.perf_counter()
        codes_train = model.fit(given[0]).transform(given[0])
        seconds = time.perf_counter() - start
        codes_test = model.transform(given[1])
    counts = np.asarray(split.X_train.sum(axis=0)).ravel().astype(float) + 1
    mean = counts / counts.sum()
    some = slice(None, None, 4)
    on_training = deviances(model, of_roots, codes_train[some], split.X_train[some], mean)
    best = int(np.argmin(on_training[1:]))
    found = deviances(model, of_roots, codes_test, split.X_test, mean)
    accuracies = [
        accuracy(codes_train, split.y_train, codes_test, split.y_test, seed)
        for seed in range(options.seed, options.seed + options.n_seeds)
    ]
    return {
        "model": name,
        "latent_dim": latent_dim,
        "deviance_explained": float(1 - found[1 + best] / found[0]),
        "mixture": MIXTURES[best],
        "accuracy": float(np.mean(accuracies)),
        "fit_seconds": seconds,
        "n_train": len(codes_train),
        "n_test": len(codes_test),
        "seed": options.seed,
        **circumstances(),
    }


def deviances(model, of_roots, codes, X, mean):
    """Sum of the multinomial deviances by the mean, and by each mixture with the reconstruction."""
    total = np.zeros(1 + len(MIXTURES))
    for start in range(0, len(codes), 256):
        rows = slice(start, start + 256)
        x = X[rows].toarray() if sp.issparse(X) else X[rows]
        x_hat = reconstruct(model, codes[rows]).clip(0)
        if of_roots:
            x_hat = np.square(x_hat)
        shares = x_hat / np.maximum(x_hat.sum(axis=1, keepdims=True), 1e-12)
        entropy = xlogy(x, x / np.maximum(x.sum(axis=1, keepdims=True), 1)).sum()
        total[0] += 2 * (entropy - (x @ np.log(mean)).sum())
        for i, mixture in enumerate(MIXTURES, start=1):
            mixed = (1 - mixture) * shares + mixture * mean
            total[i] += 2 * (entropy - (x * np.log(mixed)).sum())
    return total


def reconstruct(model, codes):
    if isinstance(model, LatentDirichletAllocation):  # which has no inverse_transform
        topics = model.components_ / model.components_.sum(axis=1, keepdims=True)
        return codes @ topics
    return model.inverse_transform(codes)


def table(rows):
    head = "model               latent_dim  deviance explained  accuracy    fit s"
    lines = [head, "-" * len(head)]
    for row in rows:
        lines.append(
            f"{row['model']:<20}{row['latent_dim']:>10}{row['deviance_explained']:>20.4f}"
            f"{row['accuracy']:>10.4f}{row['fit_seconds']:>9.1f}"
        )
    return "\n".join(lines)


def judge(rows):
    explained = {row["model"]: row["deviance_explained"] for row in rows}
    accuracies = {row["model"]: row["accuracy"] for row in rows}
    claims = []
    for name in ("PCA, roots", "NMF", "LDA"):
        gain = explained["skae, multinomial"] - explained[name]
        claims.append(
            (gain > 0, f"multinomial: {100 * gain:+.1f} points of deviance beyond {name}")
        )
    for name in ("PCA, roots", "skae, roots"):
        for other in ("NMF", "LDA"):
            lift = accuracies[name] - accuracies[other]
            claims.append(
                (lift > 0, f"{name}: {100 * lift:+.1f} points of accuracy beyond {other}")
            )
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
