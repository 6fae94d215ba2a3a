"""Claim: a classifier is never worse on our codes than on PCA's codes of the same length.

Accuracy on test rows of one fixed classifier: an MLPClassifier with 256 hidden units and 20 epochs,
in batches of 16 to 128 rows, on standardised codes. Nothing is chosen on test rows. Each seed draws
the training rows (and the test rows, where no split is published), and is the seed of the
autoencoder and of the classifier. Codes are compared seed by seed; the standard error is that of
the differences. PCA is the linear form of `DenseAutoencoder`; where a fit keeps PCA's code, the
accuracy is PCA's. The claims:

- labels not used, `DenseAutoencoder` and, on images, `ConvAutoencoder`: in no cell is the mean
  difference to PCA below -2 standard errors or below -0.5 points;
- labels not used, `DenseAutoencoder` of up to 16 dimensions: files at 16 from 9,000 or more rows
  gain at least 7 points; digits, MNIST and Fashion-MNIST at 8 at least 1;
- ``supervision=1.0``, by a logistic regression, which is linear like the head in training: files
  at 16 from 9,000 or more rows within 2 points of LinearSVC on all columns, at least 10 above PCA;
  at 64 within 1.5 points of it, at least 0.5 above PCA. By the MLPClassifier: digits, MNIST and
  Fashion-MNIST at 8 at least 2 points above the codes without labels.

    python -m benchmarks.classifiers --quick            # digits and three tables
    python -m benchmarks.classifiers                    # also the files of this Python
    python -m benchmarks.classifiers --data FOLDER      # also files and images in FOLDER

Exits with status 1 if a claim is false.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import sem
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import TABLES, load_part
from benchmarks.lib.images import OPENML, SHAPES
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import ConvAutoencoder, DenseAutoencoder

QUICK = (*TABLES, "digits")
NAMES = (*QUICK, "python", "files", *OPENML)
LENGTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
N_ROWS = (1_000, 3_000, 10_000)

RECOMMENDED = 1.0
SUPERVISED_LENGTHS = (8, 16, 64)

# Of `ConvAutoencoder`, for images.
CONV_LENGTHS = (8, 16, 32, 64)

# Names of codes in results.
PCA, OURS, CONV, COLUMNS = "PCA", "ours", "ConvAutoencoder", "all columns"
SUPERVISED = f"supervision={RECOMMENDED:g}"

# Longer codes have no non-linear encoder, whatever the data: without labels nothing is fitted.
LONGEST_FITTED = 256

# A logistic regression of longer codes takes minutes.
LONGEST_LOGISTIC = 256

MOST_LOST = 0.005


def main():
    options = _arguments()
    quick = QUICK if options.quick or not options.data else NAMES
    names = options.names or (quick if options.quick else (*quick, "python"))
    path = RESULTS / f"classifiers-{'quick' if options.quick else 'shared'}.jsonl"
    results = []
    for name in dict.fromkeys(names):
        for n_rows in options.n_rows if name in ("python", "files", *OPENML) else (max(N_ROWS),):
            results += measured(name, n_rows, options)
            write(results, path, replacing=("data", "rows_asked", "latent_dim", "codes"))
    print(table(results))
    print(f"Figures: {path}")
    try:
        from benchmarks.lib.figures import accuracy_by_length
    except ModuleNotFoundError:
        print("Plot: not drawn, matplotlib is missing (pip install 'skae[plot]').")
    else:
        print(f"Plot: {accuracy_by_length(path)}")
    return judge(results)


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits and tables alone")
    parser.add_argument("--names", nargs="+", choices=NAMES, help="some data sets")
    parser.add_argument("--data", type=Path, default=os.environ.get("SKAE_DATA"))
    parser.add_argument("--n-rows", type=int, nargs="+", default=N_ROWS, help="training rows")
    parser.add_argument("--latent-dim", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--supervised", type=int, nargs="*", default=SUPERVISED_LENGTHS)
    parser.add_argument("--conv", type=int, nargs="*", default=CONV_LENGTHS)
    parser.add_argument("--n-seeds", type=int, default=5)
    parser.add_argument("--n-ceilings", type=int, default=5, help="seeds of LinearSVC on X")
    parser.add_argument("--n-networks", type=int, default=2, help="seeds of MLPClassifier on X")
    return parser.parse_args()


def measured(name, n_rows, options):
    """A row of results for each length and kind of code, with the accuracies of all seeds."""
    cells = {}
    for seed in range(options.n_seeds):
        split = load_part(name, n_rows, options.data, seed=seed)
        for key, figures in of_seed(name, split, seed, options):
            print(name, split.X_train.shape[0], *key, seed, figures, flush=True)
            for figure, value in figures.items():
                cells.setdefault(key, {}).setdefault(figure, []).append(value)
    return [
        {
            "data": name,
            "rows_asked": n_rows,
            "n_train": split.X_train.shape[0],
            "n_test": split.X_test.shape[0],
            "latent_dim": latent_dim,
            "codes": codes,
            **figures,
            **circumstances(),
        }
        for (latent_dim, codes), figures in cells.items()
    ]


def of_seed(name, split, seed, options):
    """Yield ((latent_dim, codes), figures) for one seed; 0 dimensions are all columns."""
    shortest_side = min(split.X_train.shape)
    lengths = [k for k in options.latent_dim if k < shortest_side]
    if seed < options.n_ceilings:
        yield (0, COLUMNS), of_columns(split, seed, with_network=seed < options.n_networks)
    if not lengths:
        return
    pca = DenseAutoencoder(max(lengths), hidden_layer_sizes=(), random_state=seed)
    pca.fit(split.X_train)
    all_scores = [pca.transform(X) for X in (split.X_train, split.X_test)]
    for k in lengths:
        scores = [Z[:, :k] for Z in all_scores]
        of_pca = accuracies(*scores, split, seed)
        yield (k, PCA), of_pca
        for power in (0.0, 0.5):
            accuracy = mlp_accuracy(*scaled(*scores, power), split, seed)
            yield (k, f"{PCA}, whiten={power:g}"), {"accuracy": accuracy}
        if k <= LONGEST_FITTED:
            model = DenseAutoencoder(k, random_state=seed).fit(split.X_train)
            yield (k, OURS), of_model(model, split, seed, of_pca)
        if k in options.conv and name in SHAPES:
            model = ConvAutoencoder(k, input_shape=SHAPES[name], random_state=seed)
            yield (k, CONV), of_model(model.fit(split.X_train), split, seed, of_pca)
        if k in options.supervised:
            model = DenseAutoencoder(k, supervision=RECOMMENDED, random_state=seed)
            model.fit(split.X_train, split.y_train)
            yield (k, SUPERVISED), of_model(model, split, seed, of_pca)


def of_model(model, split, seed, of_pca):
    """Figures of a fitted autoencoder, which are those of PCA where it has a linear code."""
    figures = {"variance": model.score(split.X_test), "gain": model.nonlinear_gain_}
    if model.module_.encoder is None:
        return of_pca | figures | {"nonlinear_code": False}
    codes = [model.transform(X) for X in (split.X_train, split.X_test)]
    return accuracies(*codes, split, seed) | figures | {"nonlinear_code": True}


def accuracies(Z_train, Z_test, split, seed):
    """Accuracies on standardised codes."""
    Z_train, Z_test = scaled(Z_train, Z_test, 1.0)
    found = {"accuracy": mlp_accuracy(Z_train, Z_test, split, seed)}
    if Z_train.shape[1] <= LONGEST_LOGISTIC:
        found["logistic"] = _accuracy(LogisticRegression(), Z_train, Z_test, split)
    return found


def scaled(Z_train, Z_test, power):
    """Codes divided by a power of their standard deviations, then all by their root mean square."""
    mean, divisor = Z_train.mean(axis=0), Z_train.std(axis=0) ** power
    divisor = np.where(divisor > 0, divisor, 1.0)
    Z_train, Z_test = ((Z - mean) / divisor for Z in (Z_train, Z_test))
    unit = np.sqrt(np.square(Z_train).mean()) or 1.0
    return Z_train / unit, Z_test / unit


def mlp_accuracy(Z_train, Z_test, split, seed):
    return _accuracy(_network(Z_train, seed), Z_train, Z_test, split)


def _network(Z_train, seed):
    n_batch = int(np.clip(Z_train.shape[0] // 16, 16, 128))
    return MLPClassifier((256,), batch_size=n_batch, max_iter=20, random_state=seed)


def _accuracy(classifier, Z_train, Z_test, split):
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed
        return classifier.fit(Z_train, split.y_train).score(Z_test, split.y_test)


def of_columns(split, seed, *, with_network):
    """Accuracies of LinearSVC and of the network on all columns, sparse ones as they are."""
    is_sparse = hasattr(split.X_train, "nnz")
    svc = make_pipeline("passthrough" if is_sparse else MaxAbsScaler(), LinearSVC())
    found = {"svc": _accuracy(svc, split.X_train, split.X_test, split)}
    if with_network:
        network = _network(split.X_train, seed)
        if not is_sparse:
            network = make_pipeline(StandardScaler(), network)
        found["accuracy"] = _accuracy(network, split.X_train, split.X_test, split)
    return found


def differences(row, other, figure="accuracy", of_other=None):
    """Mean difference of two rows of results over their common seeds, and its standard error."""
    ours, theirs = row[figure], other[of_other or figure]
    n_seeds = min(len(ours), len(theirs))
    found = np.subtract(ours[:n_seeds], theirs[:n_seeds])
    return float(found.mean()), float(sem(found)) if n_seeds > 1 else 0.0


def by_cell(results):
    """Rows of results by data, rows asked for and length, then by kind of code."""
    cells = {}
    for row in results:
        cell = row["data"], row["rows_asked"], row["latent_dim"]
        cells.setdefault(cell, {})[row["codes"]] = row
    return cells


def table(results):
    names = (PCA, f"{PCA}, whiten=0", f"{PCA}, whiten=0.5", OURS, CONV, SUPERVISED)
    head = f"{'data':<15}{'rows':>6}{'k':>6}" + "".join(f"{name:>18}" for name in names)
    lines = [head + f"{'ours - PCA':>18}"]
    for (data, _, latent_dim), cell in by_cell(results).items():
        first = next(iter(cell.values()))
        line = f"{data:<15}{first['n_train']:>6}{latent_dim or 'all':>6}"
        if not latent_dim:
            names_of = {"svc": "LinearSVC", "accuracy": "MLPClassifier"}
            figures = (f"{names_of[k]} {np.mean(first[k]):.4f}" for k in names_of if k in first)
            lines.append(f"{line}  {', '.join(figures)}")
            continue
        for name in names:
            line += f"{np.mean(cell[name]['accuracy']):>18.4f}" if name in cell else " " * 18
        if OURS in cell:
            mean, error = differences(cell[OURS], cell[PCA])
            line += f"{100 * mean:>+10.2f} +- {100 * error:.2f}"
        lines.append(line)
    return "\n".join(lines)


def judge(results):
    """0 if every claim holds, else 1."""
    cells, claims = by_cell(results), []
    for (data, n_rows, latent_dim), cell in cells.items():
        where = f"{data} at {latent_dim} from {next(iter(cell.values()))['n_train']} rows"
        for codes in (OURS, CONV):
            if codes in cell:
                mean, error = differences(cell[codes], cell[PCA])
                holds = mean >= -min(2 * error, MOST_LOST)
                claims.append((holds, f"{where}, {codes}: {_points(mean, error)} against PCA"))
        if OURS in cell:
            mean, _ = differences(cell[OURS], cell[PCA])
            least = _least_gain(data, cell[PCA]["n_train"], latent_dim)
            if least is not None:
                claims.append((mean >= least, f"{where}: at least {100 * least:g} points gained"))
        if SUPERVISED in cell:
            columns = cells.get((data, n_rows, 0), {}).get(COLUMNS)
            claims += _claims_of_labels(where, data, latent_dim, cell, columns)
    return check(claims)


def _least_gain(data, n_rows, latent_dim):
    if data == "files" and latent_dim == 16 and n_rows >= 9_000:
        return 0.07
    return 0.01 if data in ("digits", "mnist", "fashion-mnist") and latent_dim == 8 else None


def _claims_of_labels(where, data, latent_dim, cell, columns):
    """Claims of codes that were trained with labels."""
    supervised = cell[SUPERVISED]
    if data in ("digits", "mnist", "fashion-mnist") and latent_dim == 8 and OURS in cell:
        mean, error = differences(supervised, cell[OURS])
        yield mean >= 0.02, f"{where}, with labels: {_points(mean, error)} against none"
    if data == "files" and supervised["n_train"] >= 9_000 and latent_dim in (16, 64):
        least, most_lost = {16: (0.1, 0.02), 64: (0.005, 0.015)}[latent_dim]
        mean, error = differences(supervised, cell[PCA], "logistic")
        yield mean >= least, f"{where}, with labels: {_points(mean, error)} against PCA"
        if columns is None:  # --n-ceilings 0
            return
        mean, error = differences(supervised, columns, "logistic", "svc")
        yield (
            mean >= -most_lost,
            f"{where}, with labels: {_points(mean, error)} against all columns",
        )


def _points(mean, error):
    return f"{100 * mean:+.2f} points, standard error {100 * error:.2f},"


if __name__ == "__main__":
    sys.exit(main())
