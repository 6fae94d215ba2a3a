"""Processes of a group that fit one model, each with its own rows."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from skae import ConvAutoencoder, DenseAutoencoder, ProcessRows

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="names the loopback interface as Linux does"
)

PROCESS = """
import sys
import numpy as np
import scipy.sparse as sp
import torch
from torch import distributed
from sklearn.datasets import load_digits
from skae import ConvAutoencoder, DenseAutoencoder, ProcessRows

rank, n_processes, folder, what = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=n_processes
)
X = load_digits().data[:700]
ends = {2: [0, 500, 700], 3: [0, 100, 600, 700]}[n_processes]
own = slice(*ends[rank : rank + 2])
brief = {"max_epochs": 2, "precision": "float32", "random_state": 0, "device": "cpu"}
linear = DenseAutoencoder(4, hidden_layer_sizes=(), **brief)
if what == "dies":
    rows = ProcessRows(X[own])
    if rank:
        sys.exit(3)
    linear.fit(rows)
if what == "is invalid":
    X[600, 0] = np.nan
    linear.fit(ProcessRows(X[own]))
codes, weights = {}, np.linspace(0.5, 2, len(X))
codes["linear"] = linear.fit(ProcessRows(X[own])).transform(X)
codes["weighted"] = linear.fit(ProcessRows(X[own]), sample_weight=weights[own]).transform(X)
codes["sparse"] = linear.fit(ProcessRows(sp.csr_array(X)[own])).transform(X)
codes["few"] = linear.fit(ProcessRows(X[own][:25])).transform(X)
wide = sp.random(700, 3000, density=0.02, random_state=0, format="csr")
krylov = DenseAutoencoder(4, hidden_layer_sizes=(), random_state=0, device="cpu")
from skae._pca import solvers
solvers._EXACT_SIDE = solvers._EXACT_SIDE_OF_LONG = 8
codes["krylov"] = krylov.fit(ProcessRows(wide[own])).transform(wide)
residual = DenseAutoencoder(4, hidden_layer_sizes=(32,), **brief)
codes["residual"] = residual.fit(ProcessRows(X[own])).transform(X)
codes["score"] = residual.score(X)
y = load_digits().target[:700]
conv = {"input_shape": (8, 8), "channels": (4,), **brief}
for name, model in {
    "plain": DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(32,), **brief),
    "cross-entropy": DenseAutoencoder(
        4, linear_path=False, loss="bce", hidden_layer_sizes=(32,), **brief
    ),
    "plain convolutions": ConvAutoencoder(4, linear_path=False, **conv),
    "convolutions": ConvAutoencoder(4, **conv),
    "labels": ConvAutoencoder(4, supervision=1.0, **conv),
}.items():
    for weighting in ("", " weighted") if name in ("plain", "convolutions") else ("",):
        arguments = {"sample_weight": weights[own]} if weighting else {}
        if name == "labels":
            arguments["y"] = y[own]
        codes[name + weighting] = model.fit(ProcessRows(X[own] / 16), **arguments).transform(X / 16)
sparse = DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(32,), **brief)
codes["sparse plain"] = sparse.fit(ProcessRows(sp.csr_array(X / 16)[own])).transform(X / 16)
np.savez(f"{folder}/{rank}.npz", **codes)
distributed.destroy_process_group()
"""


def outcome(n_processes, folder, what):
    """Exit status and errors of processes."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(n_processes), str(folder), what],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(n_processes)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    return [process.returncode for process in processes], errors


@linux
@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [2, 3])
def test_own_rows_of_processes_give_the_model_of_all_rows(n_processes, tmp_path, monkeypatch):
    status, errors = outcome(n_processes, tmp_path, "fits")
    assert status == [0] * n_processes, errors
    first, *others = (np.load(tmp_path / f"{rank}.npz") for rank in range(n_processes))
    for other in others:
        for name in first.files:
            assert first[name].tobytes() == other[name].tobytes(), name
    X, weights = load_digits().data[:700], np.linspace(0.5, 2, 700)
    linear = DenseAutoencoder(4, hidden_layer_sizes=(), random_state=0, device="cpu")
    wide = sp.random(700, 3000, density=0.02, random_state=0, format="csr")
    ends = {2: [0, 500, 700], 3: [0, 100, 600, 700]}[n_processes]
    few = np.concatenate([X[start:end][:25] for start, end in pairwise(ends)])
    expected = {
        "few": linear.fit(few).transform(X),
        "linear": linear.fit(X).transform(X),
        "sparse": linear.fit(sp.csr_array(X)).transform(X),
        "weighted": linear.fit(X, sample_weight=weights).transform(X),
    }
    for name, codes in expected.items():
        np.testing.assert_allclose(first[name], codes, atol=1e-8 * np.abs(codes).max())
    from skae._pca import solvers

    monkeypatch.setattr(solvers, "_EXACT_SIDE", 8)
    monkeypatch.setattr(solvers, "_EXACT_SIDE_OF_LONG", 8)
    codes = linear.fit(wide).transform(wide)
    np.testing.assert_allclose(first["krylov"], codes, atol=1e-3 * np.abs(codes).max())
    residual = DenseAutoencoder(
        4, hidden_layer_sizes=(32,), max_epochs=2, precision="float32", random_state=0, device="cpu"
    )
    assert first["score"] == pytest.approx(residual.fit(X).score(X), abs=0.01)
    _check_networks_on_rows(first, X / 16, load_digits().target[:700], weights)


def _check_networks_on_rows(found, X, y, weights):
    """Networks on batches of own rows are those of one process to rounding."""
    brief = {"max_epochs": 2, "precision": "float32", "random_state": 0, "device": "cpu"}
    conv = {"input_shape": (8, 8), "channels": (4,), **brief}
    plain = DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(32,), **brief)
    for name, model, labels in [
        ("plain", plain, None),
        ("sparse plain", plain, None),
        ("cross-entropy", clone(plain).set_params(loss="bce"), None),
        ("plain convolutions", ConvAutoencoder(4, linear_path=False, **conv), None),
        ("convolutions", ConvAutoencoder(4, **conv), None),
        ("labels", ConvAutoencoder(4, supervision=1.0, **conv), y),
    ]:
        for weighting in ("", " weighted"):
            if name + weighting not in found:
                continue
            model.fit(X, y=labels, sample_weight=weights if weighting else None)
            codes = model.transform(X)
            difference = found[name + weighting] - codes
            share = np.square(difference).sum() / np.square(codes).sum()
            # Networks that start from PCA begin with gradients near zero: Adam magnifies rounding.
            assert share < (1e-3 if model.linear_path else 1e-9), name + weighting


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "sentences"),
    [
        ("dies", ["Another process of the 2 that share a fit has ended", ""]),
        ("is invalid", ["Process 1 of 2 failed: ValueError: Input X contains NaN", "NaN"]),
    ],
)
def test_a_process_that_fails_ends_the_others_with_a_sentence(tmp_path, what, sentences):
    status, errors = outcome(2, tmp_path, what)
    assert 0 not in status
    for error, sentence in zip(errors, sentences, strict=True):
        assert sentence in error


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
