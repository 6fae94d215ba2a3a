"""Two processes that share a fit."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from skae import ConvAutoencoder, DenseAutoencoder
from skae._runtime.process_group import indices_of_rank

PROCESS = """
import sys
import numpy as np
import torch
from torch import distributed
from sklearn.datasets import load_digits
from skae import ConvAutoencoder, DenseAutoencoder

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
)
X = load_digits().data[:700]
brief = {"max_epochs": 3, "precision": "float32", "random_state": 0, "device": "cpu"}
codes = {}
for name, model in {
    "plain": DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(32,), **brief),
    "conv": ConvAutoencoder(4, linear_path=False, input_shape=(8, 8), channels=(4,), **brief),
    "weighted": DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(32,), **brief),
}.items():
    weights = np.linspace(0.5, 2, len(X)) if name == "weighted" else None
    codes[name] = model.fit(X, sample_weight=weights).transform(X)
# With the linear path, where rounding is magnified, they still agree on one model.
residual = DenseAutoencoder(4, hidden_layer_sizes=(32,), **brief).fit(X)
codes["residual"] = residual.transform(X)
codes["score"] = residual.score(X)
try:
    DenseAutoencoder(4, random_state=None).fit(X)
except ValueError as error:
    codes["error"] = str(error)
np.savez(f"{folder}/{rank}.npz", **codes)
distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], stderr=subprocess.PIPE, text=True, env=environment
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return [np.load(folder / f"{rank}.npz") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names the loopback interface as Linux does")
def test_two_processes_give_the_model_of_one(of_two, digits):
    X = np.concatenate(digits[:2])[:700]
    brief = {"max_epochs": 3, "precision": "float32", "random_state": 0, "device": "cpu"}
    plain = DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(32,), **brief)
    conv = ConvAutoencoder(4, linear_path=False, input_shape=(8, 8), channels=(4,), **brief)
    weights = np.linspace(0.5, 2, len(X))
    for name, codes in {
        "plain": plain.fit(X).transform(X),
        "conv": conv.fit(X).transform(X),
        "weighted": plain.fit(X, sample_weight=weights).transform(X),
    }.items():
        for found in of_two:
            scale = np.abs(codes).max()
            np.testing.assert_allclose(found[name], codes, rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names the loopback interface as Linux does")
def test_both_processes_have_the_same_model(of_two):
    first, second = of_two
    assert first["residual"].tobytes() == second["residual"].tobytes()
    assert 0.4 < first["score"] < 1
    assert "must be an integer where 2 processes share a fit" in str(first["error"])


@pytest.mark.parametrize("n_rows", [1, 7, 128])
def test_parts_of_a_batch_average_to_the_batch(n_rows, monkeypatch):
    from skae._runtime import process_group

    values, indices = torch.randn(n_rows), np.arange(n_rows)
    monkeypatch.setattr(process_group, "n_processes", lambda: 3)
    means = []
    for rank in range(3):
        monkeypatch.setattr(process_group, "rank", lambda rank=rank: rank)
        part, factor = indices_of_rank(indices)
        means.append(factor * values[part].mean())
    torch.testing.assert_close(torch.stack(means).mean(), values.mean())
