"""Processes of a group that fit one model, each with its own rows."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from skae import ConvAutoencoder, DenseAutoencoder, ProcessRows

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="names the loopback interface as Linux does"
)

MODELS = """
brief = {"max_epochs": 2, "precision": "float32", "random_state": 0, "device": "cpu"}
conv = {"input_shape": (8, 8), "channels": (4,), **brief}
linear = DenseAutoencoder(4, hidden_layer_sizes=(), **brief)
plain = DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(16,), **brief)
residual = DenseAutoencoder(4, hidden_layer_sizes=(16,), **brief)
# Each with its X, and with weights or labels.
MODELS = {
    "linear": (linear, X, {}),
    "weighted": (linear, X, {"sample_weight": weights}),
    "sparse": (linear, sp.csr_array(X), {}),
    "Krylov": (linear, wide, {}),
    "plain": (plain, X / 16, {}),
    "plain, weighted": (plain, X / 16, {"sample_weight": weights}),
    "plain, sparse": (plain, sp.csr_array(X / 16), {}),
    "cross-entropy": (clone(plain).set_params(loss="bce"), X / 16, {}),
    "convolutions": (ConvAutoencoder(4, **conv), X / 16, {"sample_weight": weights}),
    "labels": (ConvAutoencoder(4, supervision=1.0, **conv), X / 16, {"y": y}),
}
"""

DATA = """
import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_digits
from skae import ConvAutoencoder, DenseAutoencoder, ProcessRows

X, y = (part[:700] for part in load_digits(return_X_y=True))
weights = np.linspace(0.5, 2, 700)
wide = sp.random(700, 17_000, 0.003, "csr", random_state=np.random.default_rng(0))
"""

PROCESS = """
import sys
import torch
from torch import distributed

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
)
own = slice(0, 500) if rank == 0 else slice(500, 700)
found = {}
for name, (model, rows, of_rows) in MODELS.items():
    of_own = {key: values[own] for key, values in of_rows.items()}
    found[name] = model.fit(ProcessRows(rows[own]), **of_own).transform(rows)
found["few"] = linear.fit(ProcessRows(X[own][:25])).transform(X)
found["residual score"] = residual.fit(ProcessRows(X[own])).score(X)
# Rows that every process has.
found["shared"] = plain.fit(X / 16, sample_weight=weights).transform(X / 16)
found["shared convolutions"] = ConvAutoencoder(4, linear_path=False, **conv).fit(X).transform(X)
found["shared residual"] = residual.fit(X).transform(X)

def sentence(model, rows, **of_rows):
    try:
        model.fit(rows, **of_rows)
    except (ValueError, RuntimeError) as error:
        return str(error)

found["no random_state"] = sentence(DenseAutoencoder(4, random_state=None), X)
some = weights[own] if rank else None
found["some weights"] = sentence(linear, ProcessRows(X[own]), sample_weight=some)
kinds = y[own] % 2 if rank else np.array(["a", "b"])[y[own] % 2]
found["two kinds"] = sentence(
    clone(residual).set_params(supervision=1.0), ProcessRows(X[own]), y=kinds
)
np.savez(f"{folder}/{rank}.npz", **found)
X[600, 0] = np.nan
print(sentence(linear, ProcessRows(X[own])), flush=True)
rows = ProcessRows(X[:100])
if rank:
    sys.exit(3)
linear.fit(rows)
"""


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What each of two processes found, and what both said before they ended."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-W", "ignore", "-c", DATA + MODELS + PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment, **pipes)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert (folder / "0.npz").exists(), said
    found = [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]
    return found, said, [process.returncode for process in processes]


@linux
@pytest.mark.slow
def test_own_rows_of_processes_give_the_model_of_all_rows(of_two):
    (first, second), *_ = of_two
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name
    here = {}
    exec(DATA + MODELS, here)
    X = here["X"]
    for name, (model, rows, of_rows) in here["MODELS"].items():
        codes = model.fit(rows, **of_rows).transform(rows)
        share = np.square(first[name] - codes).sum() / np.square(codes).sum()
        # Networks that start from PCA begin with gradients near zero: Adam magnifies rounding.
        tolerance = {"Krylov": 1e-6, "convolutions": 1e-3, "labels": 1e-3}.get(name, 1e-9)
        assert share < tolerance, name
    few = here["linear"].fit(np.concatenate([X[:25], X[500:525]])).transform(X)
    np.testing.assert_allclose(first["few"], few, atol=1e-8 * np.abs(few).max())
    assert first["residual score"] == pytest.approx(here["residual"].fit(X).score(X), abs=0.01)


@linux
@pytest.mark.slow
def test_processes_that_share_all_rows_give_the_model_of_one(of_two):
    (first, second), *_ = of_two
    here = {}
    exec(DATA + MODELS, here)
    X, conv = here["X"], ConvAutoencoder(4, linear_path=False, **here["conv"])
    for name, codes in {
        "shared": here["plain"].fit(X / 16, sample_weight=here["weights"]).transform(X / 16),
        "shared convolutions": conv.fit(X).transform(X),
    }.items():
        np.testing.assert_allclose(first[name], codes, rtol=1e-3, atol=1e-3 * np.abs(codes).max())
    assert first["shared residual"].tobytes() == second["shared residual"].tobytes()


@linux
@pytest.mark.slow
def test_what_one_process_cannot_do_is_told_by_all(of_two):
    found, said, status = of_two
    for each in found:
        assert "must be an integer where 2 processes share a fit" in str(each["no random_state"])
        assert str(each["some weights"]) == (
            "sample_weight must be given by all processes or by none: process 0 of 2 has none."
        )
        assert str(each["two kinds"]) == (
            "y must be of one kind in all processes, got numbers and strings."
        )
    (first, error), (second, _) = said
    assert "Process 1 of 2 failed: ValueError: Input X contains NaN" in first
    assert "Input X contains NaN" in second
    assert "Another process of the 2 that share a fit has ended" in error
    assert 0 not in status


def test_one_process_has_all_rows(digits):
    X, weights = digits[0][:200], np.linspace(1, 2, 200)
    linear = DenseAutoencoder(4, hidden_layer_sizes=(), device="cpu")
    expected = linear.fit(X, sample_weight=weights).transform(X)
    found = linear.fit(ProcessRows(X), sample_weight=weights).transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


def test_fewer_rows_than_columns_are_read_from_all_processes(digits):
    X = digits[0][:40]
    linear = DenseAutoencoder(4, hidden_layer_sizes=(), device="cpu")
    found = linear.fit(ProcessRows(X)).transform(X)
    np.testing.assert_allclose(found, linear.fit(X).transform(X), atol=1e-8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_own_rows_are_trained_on_a_gpu(digits):
    X = digits[0][:300]
    conv = ConvAutoencoder(
        4, input_shape=(8, 8), channels=(4,), max_epochs=1, random_state=0, device="cuda"
    )
    found = conv.fit(ProcessRows(X)).transform(X)
    np.testing.assert_allclose(found, conv.fit(X).transform(X), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("linear_path", [False, True])
def test_one_process_trains_other_networks_on_all_rows(digits, linear_path):
    X = digits[0][:300]
    brief = {"max_epochs": 2, "precision": "float32", "random_state": 0, "device": "cpu"}
    conv = ConvAutoencoder(4, linear_path=linear_path, input_shape=(8, 8), channels=(4,), **brief)
    found = conv.fit(ProcessRows(X)).transform(X)
    np.testing.assert_allclose(found, conv.fit(X).transform(X), rtol=1e-4, atol=1e-4)
