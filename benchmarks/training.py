"""Claim: an epoch takes no more than 1.10 times that of a bare torch loop, transform 1.25 times.

The same network, rows, batches, optimizer and precision, in the same process: an epoch of
`fit(linear_path=False)`, as `history_` has it, and one of a loop that knows nothing but PyTorch, in
turns. On CSR rows also skorch with its own Dataset, which fetches them one by one: over five
times the seconds to fetch. Then codes a second, against the matrix products that codes consist of.

    python -m benchmarks.training

Exits with status 1 if a claim is false.
"""

import argparse
import sys
import time
import warnings
from copy import deepcopy

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch.dataset import Dataset
from torch.utils.data import DataLoader

from benchmarks.lib.claims import check
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import ConvAutoencoder, DenseAutoencoder
from skae._runtime.device import multiplies_bfloat16

MOST_OF_BARE, MOST_OF_PRODUCTS, LEAST_OVER_SKORCH = 1.10, 1.25, 5.0
N_EPOCHS = 3


def dense_rows(rng):
    """50,000 x 256, of rank 40 and noise."""
    X = rng.normal(size=(50_000, 40)) @ rng.normal(size=(40, 256))
    return (X + rng.normal(size=X.shape)).astype(np.float32)


def sparse_rows(rng):
    """3,000 x 65,536, 2 % non-zero."""
    return sp.random(3000, 65_536, density=0.02, format="csr", dtype=np.float32, random_state=rng)


def small_pictures(rng):
    """10,000 x 28 x 28: scikit-learn's digits, enlarged."""
    pictures = load_digits().images[rng.integers(1797, size=10_000)] / 16
    enlarged = np.kron(pictures, np.ones((1, 3, 3)))
    return np.pad(enlarged, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784).astype(np.float32)


PLAIN = {"linear_path": False, "early_stopping": False, "max_epochs": N_EPOCHS, "random_state": 0}
CASES = {
    "dense, 50,000 x 256": (
        dense_rows,
        DenseAutoencoder(32, hidden_layer_sizes=(512, 256), batch_size=256, **PLAIN),
    ),
    "CSR, 3,000 x 65,536": (
        sparse_rows,
        DenseAutoencoder(64, hidden_layer_sizes=(256,), batch_size=128, **PLAIN),
    ),
    "pictures, 10,000 x 28 x 28": (
        small_pictures,
        ConvAutoencoder(12, input_shape=(28, 28), batch_size=128, **PLAIN),
    ),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = []
    for name, (make, autoencoder) in CASES.items():
        X = make(np.random.default_rng(0))
        rows.append(
            {"data": name, **epochs_in_turns(autoencoder, X, options.rounds), **circumstances()}
        )
        print(f"{name}: ours {rows[-1]['ours']:.3f} s, bare loop {rows[-1]['bare']:.3f} s")
        if sp.issparse(X):
            rows[-1] |= fetching(X, autoencoder.batch_size)
        else:
            rows[-1] |= transforms_in_turns(autoencoder, X, options.rounds)
    path = RESULTS / "training.jsonl"
    write(rows, path)
    print(f"Figures: {path}")
    return judge(rows)


def epochs_in_turns(autoencoder, X, n_rounds):
    """Median seconds of an epoch of ours and of the bare loop."""
    ours, bare = [], []
    for _ in range(n_rounds):
        autoencoder.fit(X)
        ours += [epoch["dur"] for epoch in autoencoder.history_]
        bare += bare_epochs(deepcopy(autoencoder.module_), X, autoencoder)
    return {"ours": float(np.median(ours)), "bare": float(np.median(bare))}


def bare_epochs(module, X, autoencoder):
    """Seconds of each epoch of a plain PyTorch loop: training, then the loss of validation rows."""
    n_validation = int(autoencoder.validation_fraction * X.shape[0])
    batch_size, n_fitted = autoencoder.batch_size, X.shape[0] - n_validation
    unit = module.scale.item()
    module.mean /= unit
    module.scale /= unit
    dense = None if sp.issparse(X) else torch.from_numpy(X / np.float32(unit))
    sparse = (X / unit).astype(np.float32) if sp.issparse(X) else None
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-3, total_steps=N_EPOCHS * -(-n_fitted // batch_size)
    )
    bfloat16 = multiplies_bfloat16(torch.device("cpu"))  # as precision="auto" has it

    def batch_of(indices):
        if dense is not None:
            return dense[indices]
        return torch.from_numpy(sparse[indices.numpy()].toarray())

    def loss_of(x):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            x_hat = module(x)
        return (x - x_hat).square().sum(dim=1).mean()

    seconds = []
    for _ in range(N_EPOCHS):
        start = time.perf_counter()
        module.train()
        total = 0.0
        for indices in torch.randperm(n_fitted).split(batch_size):
            optimizer.zero_grad()
            loss = loss_of(batch_of(indices))
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        module.eval()
        with torch.no_grad():
            for indices in torch.arange(n_fitted, X.shape[0]).split(batch_size):
                total += loss_of(batch_of(indices))
        float(total)
        seconds.append(time.perf_counter() - start)
    return seconds


def fetching(X, batch_size):
    """Seconds to make every row dense once: whole batches, and skorch's Dataset row by row."""
    start = time.perf_counter()
    for indices in torch.randperm(X.shape[0]).split(batch_size):
        torch.from_numpy(X[indices.numpy()].toarray())
    batches = time.perf_counter() - start
    start = time.perf_counter()
    for _ in DataLoader(Dataset(sp.csr_matrix(X)), batch_size=batch_size, shuffle=True):
        pass
    return {"fetch": batches, "fetch_by_skorch": time.perf_counter() - start}


def transforms_in_turns(autoencoder, X, n_rounds):
    """Median seconds of `transform` and of the same products without it."""
    module, x = autoencoder.module_, torch.from_numpy(X)
    ours, bare = [], []
    for _ in range(n_rounds):
        start = time.perf_counter()
        autoencoder.transform(X)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.inference_mode():
            torch.cat([module.encode(batch) for batch in x.split(2048)])
        bare.append(time.perf_counter() - start)
    return {"transform": float(np.median(ours)), "products": float(np.median(bare))}


def judge(rows):
    """0 if every claim holds, else 1; a sentence for each."""
    claims = []
    for row in rows:
        share = row["ours"] / row["bare"]
        claims.append(
            (share <= MOST_OF_BARE, f"{row['data']}: an epoch takes {share:.2f} of a bare loop's")
        )
        if "fetch" in row:
            times = row["fetch_by_skorch"] / row["fetch"]
            claims.append(
                (
                    times >= LEAST_OVER_SKORCH,
                    f"{row['data']}: skorch's Dataset takes {times:.1f} "
                    "times as long to fetch the rows",
                )
            )
        else:
            share = row["transform"] / row["products"]
            claims.append(
                (
                    share <= MOST_OF_PRODUCTS,
                    f"{row['data']}: transform takes {share:.2f} of its matrix products",
                )
            )
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
