"""Claim: on byte bigrams an autoencoder never keeps less of test files than PCA.

At 16 dimensions it explains at least 5 points more of the variance. At 1,024 dimensions `fit` and
`transform` are several times faster than TruncatedSVD's, in about its memory. The rows are 4 KiB
chunks of files, as square roots of byte-bigram frequencies. The test rows are chunks from other
folders (or other groups, with ``--data``). Each model is fitted, timed and tested in a process of
its own.

    python -m benchmarks.bigrams --quick            # the files of this Python, 16 dimensions
    python -m benchmarks.bigrams                    # up to 1,024 dimensions
    python -m benchmarks.bigrams --data FOLDER      # your files, with a MANIFEST.csv

Exits with status 1 if the claim is false.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from tqdm import tqdm

from benchmarks.lib.claims import SLACK, check
from benchmarks.lib.corpus import load_corpus
from benchmarks.lib.datasets import split_bigrams
from benchmarks.lib.measure import MODELS, accuracy, accuracy_standardised, measure_apart
from benchmarks.lib.records import RESULTS, write

QUICK = {
    "latent_dims": [16],
    "per_format": 1500,
    "models": ["PCA", "DenseAutoencoder"],
    "classify": accuracy_standardised,
}
FULL = {
    "latent_dims": [16, 64, 256, 1024],
    "per_format": 2000,
    "models": list(MODELS),
    "classify": accuracy,
}

# PCA's only solvers for sparse rows are ARPACK, which slows down quickly with the length of the
# code, and the 65,536 x 65,536 covariance, which takes 34 GB.
LONGEST_ARPACK = 64
NOT_RUN = (
    "PCA was not run beyond {} dimensions: its ARPACK solver would take many minutes. "
    "The linear DenseAutoencoder is the same model."
)

SHORT_CODE, SHORT_CODE_GAIN = 16, 0.05

# At a long code, as shares of what TruncatedSVD takes.
LONG_CODE = 1024

# What a code of this length gains on the files of 19 formats, as shares.
FILES_GAINS = {
    16: {"variance_explained": 0.056, "accuracy": 0.06},
    64: {"variance_explained": 0.03},
}
MOST_OF_TRUNCATED_SVD = {
    ("DenseAutoencoder, linear", "fit_seconds"): 0.10,
    ("DenseAutoencoder", "fit_seconds"): 0.30,
    ("DenseAutoencoder", "transform_seconds"): 0.25,
    ("DenseAutoencoder", "peak_memory_gb"): 1.5,
}


def main():
    options = _arguments()
    settings = QUICK if options.quick else FULL
    latent_dims = options.latent_dim or settings["latent_dims"]
    corpus = load_corpus(options.data, per_format=settings["per_format"])
    split = split_bigrams(corpus, root=True, seed=options.seed)
    X, formats = split.X_train, sorted(set(corpus.formats))
    print(
        f"{X.shape[0]:,} training and {split.X_test.shape[0]:,} test chunks of {len(formats)} "
        f"formats ({', '.join(formats)}); 65,536 columns, {X.nnz / np.prod(X.shape):.1%} non-zero"
    )
    jobs = [
        (model, latent_dim)
        for latent_dim in latent_dims
        for model in settings["models"]
        if model != "PCA" or latent_dim <= LONGEST_ARPACK
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sp.save_npz(Path(folder, "train.npz"), split.X_train, compressed=False)
        sp.save_npz(Path(folder, "test.npz"), split.X_test, compressed=False)
        np.savez(Path(folder, "labels.npz"), train=split.y_train, test=split.y_test)
        progress = tqdm(jobs, unit="model", leave=False)
        for model, latent_dim in progress:
            progress.set_description(f"{model}({latent_dim})")
            row = measure_apart(model, latent_dim, options.seed, folder, settings["classify"])
            rows.append({"corpus": corpus.name, "transform": "square root", **row})
    print(_table(rows))
    for latent_dim in latent_dims:
        print(_in_words(rows, latent_dim))
    if any(latent_dim > LONGEST_ARPACK for latent_dim in latent_dims):
        print(NOT_RUN.format(LONGEST_ARPACK))
    _write(rows, f"bigrams-{corpus.name}{'-quick' if options.quick else ''}")
    return judge(rows)


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few files, 16 dimensions")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SKAE_FILES"),
        help="folder of files with a MANIFEST.csv (default: $SKAE_FILES, else this Python's files)",
    )
    parser.add_argument("--latent-dim", type=int, nargs="+", help="lengths of the code")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _table(rows):
    head = (
        "model                     latent_dim  variance explained  accuracy"
        "   fit s  transform s  peak GB"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        lines.append(
            f"{row['model']:<26}{row['latent_dim']:>10}{row['variance_explained']:>20.4f}"
            f"{row['accuracy']:>10.3f}{row['fit_seconds']:>8.1f}{row['transform_seconds']:>13.2f}"
            f"{row['peak_memory_gb']:>9.2f}"
        )
    return "\n".join(["", *lines, ""])


def _in_words(rows, latent_dim):
    """What the rows of one length show and what it cost: DenseAutoencoder against PCA."""
    found = {row["model"]: row for row in rows if row["latent_dim"] == latent_dim}
    # Beyond the reach of scikit-learn's solvers the linear form is PCA.
    name = "PCA" if "PCA" in found else "DenseAutoencoder, linear"
    pca, ours = found[name], found["DenseAutoencoder"]
    variances = [row["variance_explained"] for row in (pca, ours)]
    accuracies = [row["accuracy"] for row in (pca, ours)]
    memory = (
        f",\n{pca['peak_memory_gb']:.1f} GB and {ours['peak_memory_gb']:.1f} GB of memory."
        if pca["peak_memory_gb"] > 0  # it is NaN where the system does not report it
        else "."
    )
    return (
        f"Each chunk of 4 KiB became a code of {latent_dim:,} dimensions. From the codes of "
        f"{ours['n_test']:,} test chunks,\nwhich no model was fitted on:\n"
        f"- {name} reconstructs {variances[0]:.1%} of the variance and DenseAutoencoder "
        f"{variances[1]:.1%} ({100 * (variances[1] - variances[0]):+.1f} points).\n"
        f"- A small neural network (MLPClassifier) recognises the format of {accuracies[0]:.1%} "
        f"and {accuracies[1]:.1%} ({100 * (accuracies[1] - accuracies[0]):+.1f} points).\n"
        f"What it cost: {pca['fit_seconds']:.1f} s of fit for {name} and "
        f"{ours['fit_seconds']:.1f} s for DenseAutoencoder{memory}\n"
    )


def _write(rows, name):
    path = RESULTS / f"{name}.jsonl"
    write(rows, path, replacing=("latent_dim",))
    print(f"Figures: {path}")
    try:
        from benchmarks.lib.figures import seconds_by_length, variance_and_accuracy
    except ModuleNotFoundError:
        print("Plot: not drawn, matplotlib is missing (pip install 'skae[plot]').")
    else:
        print(f"Plot: {variance_and_accuracy(path)}")
        if len({row["latent_dim"] for row in rows}) > 1:
            print(f"Plot: {seconds_by_length(path)}")


def judge(rows):
    """0 if every claim holds, else 1; a sentence for each."""
    by_model = {(row["model"], row["latent_dim"]): row for row in rows}
    return check(
        [
            *_claims_of_variance(by_model),
            *_claims_on_files(by_model),
            *_claims_of_speed(by_model),
        ]
    )


def _claims_of_variance(by_model):
    for (model, latent_dim), row in by_model.items():
        if model not in ("PCA", "DenseAutoencoder, linear"):
            continue
        ours = by_model["DenseAutoencoder", latent_dim]
        gain = ours["variance_explained"] - row["variance_explained"]
        wanted = SHORT_CODE_GAIN if latent_dim == SHORT_CODE else -SLACK
        yield (
            gain >= wanted,
            f"at {latent_dim} dimensions DenseAutoencoder explains {100 * gain:.2f} points more "
            f"of the variance than {model} (claimed: at least {100 * wanted:+.2f})",
        )


def _claims_on_files(by_model):
    """What the corpus of 19 formats allows to claim beyond that."""
    for (model, latent_dim), row in by_model.items():
        if model != "DenseAutoencoder, linear" or row.get("corpus") != "files":
            continue
        ours = by_model["DenseAutoencoder", latent_dim]
        for key, least in FILES_GAINS.get(latent_dim, {}).items():
            gain = ours[key] - row[key]
            yield (
                gain >= least,
                f"files at {latent_dim} dimensions: {100 * gain:+.2f} points of {key} against the "
                f"linear form (claimed: at least {100 * least:+.2f})",
            )


def _claims_of_speed(by_model):
    rival = by_model.get(("TruncatedSVD", LONG_CODE))
    if rival is None:
        return
    for (model, key), most in MOST_OF_TRUNCATED_SVD.items():
        share = by_model[model, LONG_CODE][key] / rival[key]
        if np.isnan(share):  # memory, where the system does not report it
            continue
        yield (
            share <= most,
            f"at {LONG_CODE} dimensions {model} takes {share:.2f} of TruncatedSVD's {key} "
            f"(claimed: at most {most})",
        )


if __name__ == "__main__":
    sys.exit(main())
