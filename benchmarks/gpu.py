"""Claim: on a GPU wide sparse rows fit in seconds, and an epoch takes 1.05 times a bare loop's.

Byte bigrams, 20,000 x 65,536, to 16, 64 and 1,024 dimensions, linear and whole; pictures of the
size of MNIST and CIFAR-10; the plain network 65,536-2048-2048-1024; and epochs of a plain network
in turns with those of a bare torch loop on rows that are on the GPU. Beside them TruncatedSVD of
scikit-learn on the CPU, and that of cuML where it is installed. Seconds, peak memory of the GPU,
launches, and the share of the time in which the GPU computed. Without a folder of data, bigrams and
pictures are random. What does not fit into the minutes is left out.

    python -m benchmarks.gpu                    # at most eight minutes on an H100
    python -m benchmarks.gpu --data FOLDER      # with subfolders "files", "mnist", "cifar10"
    python -m benchmarks.gpu --quick            # small rows: does it run?

Exits with status 1 if a claim is false. Seconds are claimed of an H100 alone.
"""

import argparse
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.device import measured, name_of, profiled
from benchmarks.lib.images import load_images
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import ConvAutoencoder, DenseAutoencoder

DEVICE = torch.device("cuda")

# Most seconds of a fit on an H100, and times the bytes of X and the basis of its peak memory.
MOST_SECONDS = {
    ("bigrams, linear", 1024): 3.0,
    ("bigrams, whole", 1024): 6.0,
    ("bigrams, whole", 16): 4.0,
}
MOST_OF_BARE, MOST_MEMORY = 1.05, 3.0

# Bytes of a file of which bigrams are counted, and kinds of files, in random bigrams.
_CHUNK, _N_KINDS = 4096, 40

_LOOP = {"batch_size": 256, "max_epochs": 6, "early_stopping": False, "validation_fraction": 0.1}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device")
    warnings.simplefilter("ignore", ConvergenceWarning)
    end, rows = time.perf_counter() + 60 * options.minutes, []
    start_up(options.quick)
    for name, measure in parts(options):
        if time.perf_counter() > end:
            print(f"{name}: left out, {options.minutes:g} minutes are over")
            continue
        row = {"part": name, "device": name_of(DEVICE), "quick": options.quick, **measure()}
        rows.append({**row, **circumstances()})
        figures = (f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        print(f"{name}: {', '.join(figures)}", flush=True)
    path = RESULTS / ("gpu-quick.jsonl" if options.quick else "gpu.jsonl")
    write(rows, path)
    print(f"Figures: {path}")
    return judge(rows)


def start_up(quick):
    """What a process does once: libraries, memory, kernels."""
    rng = np.random.default_rng(0)
    X = sp.random(300, 2000, 0.05, "csr", np.float32, random_state=rng)
    small = {"device": DEVICE.type, "max_epochs": 1, "random_state": 0}
    DenseAutoencoder(8, **small).fit(X).score(X)
    if not quick:
        ConvAutoencoder(8, **small).fit(rng.random((500, 16, 16), dtype=np.float32))


def parts(options):
    """Names and measurements, what is claimed first."""
    quick = options.quick
    X = bigrams(options)
    lengths = (4, 8) if quick else (1024, 16, 64)
    brief = {"max_epochs": 2} if quick else {}
    yield "epochs", lambda: epochs_in_turns(rows_like_mnist(options), quick)
    for k in lengths:
        for form in ("linear", "whole"):
            yield f"bigrams, {form}, {k}", lambda k=k, form=form: fit_bigrams(X, k, form, brief)
    for name, k in (("mnist", 12), ("cifar10", 64)):
        yield name, lambda name=name, k=k: fit_pictures(name, k, options, brief)
    yield "plain, 65,536-2048-2048-1024", lambda: fit_plain(X, quick)
    k = lengths[-1]
    yield "TruncatedSVD, CPU", lambda: beside(TruncatedSVD(k, random_state=0), X, k)
    if find_spec("cuml"):
        yield "TruncatedSVD, cuML", lambda: cuml_svd(X, k)


def bigrams(options):
    """Square roots of bigram frequencies: of files, or of random kinds of files."""
    if options.data is not None and (options.data / "files").is_dir():
        return load_split("files-sqrt", options.data).X_train
    n, p = (300, 2000) if options.quick else (20_000, 65_536)
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, p + 1) ** 0.7
    blocks = []
    for kind in np.array_split(np.arange(n), _N_KINDS):
        shares = rng.permutation(popularity) * rng.exponential(size=p)
        bounds = np.cumsum(shares) / shares.sum()
        columns = np.searchsorted(bounds, rng.random(len(kind) * _CHUNK, dtype=np.float32))
        rows = np.repeat(np.arange(len(kind)), _CHUNK)
        ones = np.full(len(rows), 1 / _CHUNK, np.float32)
        columns = np.minimum(columns, p - 1)
        blocks.append(sp.csr_matrix((ones, (rows, columns)), shape=(len(kind), p)))
    X = sp.vstack(blocks, format="csr")[rng.permutation(n)]
    return X.sqrt()


def rows_like_mnist(options):
    """60,000 flat pictures of 28 x 28: those of MNIST, or random ones."""
    return pictures("mnist", options).reshape(-1, 784)


def pictures(name, options):
    """Training pictures as float32 in [0, 1]."""
    if options.data is not None and (options.data / name).is_dir():
        X = load_images(name, options.data)[0]
        return X.reshape(-1, *((28, 28) if name == "mnist" else (32, 32, 3)))
    side, channels, n = (28, (), 60_000) if name == "mnist" else (32, (3,), 50_000)
    n = 200 if options.quick else n
    rng = np.random.default_rng(0)
    n_pixels = side * side * int(np.prod(channels))
    X = rng.random((n, 24), dtype=np.float32) @ rng.random((24, n_pixels), dtype=np.float32)
    return (np.sin(X) ** 2).reshape(n, side, side, *channels)


def fit_bigrams(X, k, form, brief):
    """One fit, then `transform` of all rows and of one; launches and busy time of a second fit."""
    settings = {"hidden_layer_sizes": ()} if form == "linear" else brief
    model = DenseAutoencoder(k, device=DEVICE.type, random_state=0, **settings)
    _, row = measured(lambda: model.fit(X), DEVICE)
    stored = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes + model.components_.nbytes
    row |= {
        "model": f"bigrams, {form}",
        "latent_dim": k,
        "n_rows": X.shape[0],
        "memory_of_x": row["device_gb"] * 1e9 / stored,
        "variance_explained": float(model.score(X[:2000])),
    }
    row["transform_seconds"] = measured(lambda: model.transform(X), DEVICE)[1]["seconds"]
    row["one_row_seconds"] = measured(lambda: model.transform(X[:1]), DEVICE)[1]["seconds"]
    return row | profiled(lambda: model.fit(X), DEVICE)


def fit_pictures(name, k, options, brief):
    """`ConvAutoencoder` of pictures."""
    X = pictures(name, options)
    if options.quick:
        brief = {**brief, "channels": (4,)}
    model = ConvAutoencoder(k, device=DEVICE.type, random_state=0, **brief)
    _, row = measured(lambda: model.fit(X), DEVICE)
    error = np.square(X[:2000] - model.inverse_transform(model.transform(X[:2000]))).mean()
    return row | {"model": name, "latent_dim": k, "n_rows": len(X), "error": float(error)}


def fit_plain(X, quick):
    """Three epochs of the plain network from random weights."""
    hidden, k = ((32, 32), 8) if quick else ((2048, 2048), 1024)
    settings = {"linear_path": False, "hidden_layer_sizes": hidden, "learning_rate": 0.0005}
    model = DenseAutoencoder(k, device=DEVICE.type, max_epochs=3, random_state=0, **settings)
    _, row = measured(lambda: model.fit(X), DEVICE)
    seconds = float(np.median([epoch["dur"] for epoch in model.history_[1:]]))
    return row | {"model": "plain", "latent_dim": k, "epoch_seconds": seconds}


def epochs_in_turns(X, quick):
    """Median seconds of an epoch of 784-512-12-512-784, of ours and of a bare loop."""
    ours, bare = [], []
    model = DenseAutoencoder(
        12,
        linear_path=False,
        hidden_layer_sizes=(512,),
        device=DEVICE.type,
        precision="float32",
        random_state=0,
        **_LOOP,
    )
    for _ in range(1 if quick else 3):
        model.fit(X)
        ours += [epoch["dur"] for epoch in model.history_[1:]]
        bare += bare_epochs(X)[1:]
    row = {"ours": float(np.median(ours)), "bare": float(np.median(bare))}
    return row | {"model": "epochs", **profiled(lambda: model.fit(X), DEVICE)}


def bare_epochs(X):
    """Seconds of each epoch of a loop of PyTorch alone: training, then validation."""
    n_validation, width = int(_LOOP["validation_fraction"] * len(X)), X.shape[1]
    module = nn.Sequential(
        nn.Linear(width, 512),
        nn.GELU(),
        nn.Linear(512, 12),
        nn.Linear(12, 512),
        nn.GELU(),
        nn.Linear(512, width),
    ).to(DEVICE)
    X = torch.from_numpy(X).to(DEVICE)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    validation, X = X[:n_validation], X[n_validation:]

    def loss_of(x):
        return (x - module(x)).square().sum(dim=1).mean()

    seconds = []
    for _ in range(_LOOP["max_epochs"]):
        start, total = time.perf_counter(), 0.0
        for indices in torch.randperm(len(X)).to(DEVICE).split(_LOOP["batch_size"]):
            optimizer.zero_grad()
            loss = loss_of(X[indices])
            loss.backward()
            optimizer.step()
            total = total + loss.detach()
        with torch.no_grad():
            for x in validation.split(_LOOP["batch_size"]):
                total = total + loss_of(x)
        float(total)
        seconds.append(time.perf_counter() - start)
    return seconds


def beside(model, X, k):
    """Seconds of another estimator."""
    start = time.perf_counter()
    model.fit(X)
    return {"model": "TruncatedSVD", "latent_dim": k, "seconds": time.perf_counter() - start}


def cuml_svd(X, k):
    from cuml import TruncatedSVD

    X = X.toarray()  # it takes dense rows
    _, row = measured(lambda: TruncatedSVD(n_components=k).fit(X), DEVICE)
    return {"model": "TruncatedSVD of cuML", "latent_dim": k, **row}


def judge(rows):
    """0 if every claim holds, else 1; a sentence for each. Small rows prove nothing."""
    claims = []
    for row in rows:
        if row["quick"]:
            continue
        if row["model"] == "epochs":
            share = row["ours"] / row["bare"]
            sentence = f"an epoch takes {share:.2f} of a bare loop's (claimed: {MOST_OF_BARE})"
            claims.append((share <= MOST_OF_BARE, sentence))
        most = MOST_SECONDS.get((row["model"], row.get("latent_dim")))
        if most is not None and "H100" in row["device"]:
            sentence = f"{row['part']}: {row['seconds']:.1f} s (claimed: at most {most:g})"
            claims.append((row["seconds"] <= most, sentence))
        if row["model"] == "bigrams, linear" and row["latent_dim"] == 1024:
            times = row["memory_of_x"]
            sentence = f"{row['part']}: peak memory is {times:.1f} times X and the basis"
            claims.append((times <= MOST_MEMORY, f"{sentence} (claimed: {MOST_MEMORY:g})"))
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
