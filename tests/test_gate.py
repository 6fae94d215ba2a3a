import numpy as np
import pytest
import torch

from skae._data.rows import rows_of
from skae._nn.autoencoders import ResidualAutoencoder
from skae._nn.layers import perceptron
from skae._nn.losses import SquaredError
from skae._pca.solvers import principal_basis
from skae._training.residual import ScoresProblem
from skae._training.selection import select
from skae._training.trainer import TrainingOptions

OPTIONS = TrainingOptions(
    loss=SquaredError,
    max_epochs=40,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=0.01,
    early_stopping=True,
    n_iter_no_change=10,
    tol=1e-4,
    bfloat16=False,
    device=torch.device("cpu"),
)


def selection_on(X, k):
    rows = rows_of(X)
    basis = principal_basis(rows, X.shape[1])

    def build(scale, encoder):
        torch.manual_seed(0)
        sizes = [len(scale), 64, k]
        f = perceptron(sizes, "gelu") if encoder else None
        g = perceptron(sizes[::-1], "gelu")
        return ResidualAutoencoder(scale, k, f, g)

    with torch.random.fork_rng(devices=[]):
        problem = ScoresProblem(rows, basis, k, build, torch.device("cpu"))
        return select(problem, OPTIONS, 0.2, np.random.RandomState(0))


def test_a_curve_that_its_first_direction_determines_gets_a_decoder_alone():
    t = np.random.default_rng(0).uniform(-1, 1, size=1000)
    result = selection_on(np.stack([3 * t, 0.5 * t**2, 0.5 * t**3], axis=1), 1)
    assert result.module.encoder is None
    assert result.module.decoder is not None
    assert result.gain > 0.002


def test_a_curve_that_bends_back_gets_an_encoder_too():
    t = np.random.default_rng(0).uniform(0, 1.75 * np.pi, size=1000)
    result = selection_on(np.stack([np.cos(t), np.sin(t)], axis=1), 1)
    assert result.module.encoder is not None
    assert result.gain > 0.2


def test_noise_gets_neither():
    X = np.random.default_rng(0).normal(size=(600, 12))
    assert selection_on(X, 3).module is None


@pytest.mark.parametrize("k", [2, 12])
def test_nothing_is_trained_where_there_is_nothing_to_gain(k, monkeypatch):
    monkeypatch.setattr(
        "skae._training.selection.train", lambda *args, **kwargs: pytest.fail("trained")
    )
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 12))  # rank 2
    assert selection_on(X, k).module is None


def test_a_small_gain_is_trained_no_longer_than_tried():
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=1000)
    noise = 0.4 * rng.normal(size=(1000, 2))  # of which nothing can be gained
    slight = selection_on(np.c_[3 * t, 0.3 * t**2, noise], 1)
    assert 0 < slight.gain < 0.004
    assert slight.n_epochs <= OPTIONS.max_epochs / 4
    large = selection_on(np.stack([3 * t, 3 * t**2], axis=1), 1)
    assert large.n_epochs > OPTIONS.max_epochs / 2
