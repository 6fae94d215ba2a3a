from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae._data.rows import rows_of
from skae._nn.autoencoders import LinearPathAutoencoder, ResidualAutoencoder
from skae._nn.layers import perceptron
from skae._nn.losses import SquaredError
from skae._pca.solvers import principal_basis
from skae._training.early_stopping import BestSoFar
from skae._training.residual import RowsProblem, ScoresProblem
from skae._training.selection import _Selection, select
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


def scores_problem(X, k):
    rows = rows_of(X)

    def build(scale, encoder):
        torch.manual_seed(0)
        sizes = [len(scale), 64, k]
        f = perceptron(sizes, "gelu") if encoder else None
        g = perceptron(sizes[::-1], "gelu")
        return ResidualAutoencoder(scale, k, f, g)

    basis = principal_basis(rows, X.shape[1])
    return ScoresProblem(rows, basis, k, build, torch.device("cpu"))


def rows_problem(X, k):
    rows = rows_of(X)

    def build(mean, directions, scale, encoder):
        torch.manual_seed(0)
        sizes = [len(mean), 64, k]
        f = perceptron(sizes, "gelu") if encoder else None
        g = perceptron(sizes[::-1], "gelu")
        return LinearPathAutoencoder(mean, directions, scale, f, g)

    return RowsProblem(rows, principal_basis(rows, k), build)


@pytest.fixture(params=[scores_problem, rows_problem])
def new_problem(request):
    with torch.random.fork_rng(devices=[]):
        yield request.param


def selection_on(X, k, problem=scores_problem):
    with torch.random.fork_rng(devices=[]):
        return select(problem(X, k), OPTIONS, 0.2, np.random.RandomState(0))


# In a unit far from one, around a mean that is not zero.
ANGLES = np.random.default_rng(0).uniform(0, 1.75 * np.pi, size=500)
CURVE = 3e3 + 1e3 * np.stack([np.cos(ANGLES), np.sin(ANGLES), np.cos(2 * ANGLES)], axis=1)


@pytest.mark.parametrize("encoder", [False, True])
def test_modules_of_a_problem_equal_pca_until_they_are_trained(new_problem, encoder):
    rows = np.arange(500)
    for problem in new_problem(CURVE, 2).in_both_bases(rows[:400], rows[400:]):
        errors = problem.errors(problem.new_module(encoder), rows)
        np.testing.assert_allclose(errors, problem.linear_errors, rtol=1e-3, atol=1)
    pca = PCA(2).fit(CURVE)
    expected = np.square(CURVE - pca.inverse_transform(pca.transform(CURVE))).sum(axis=1)
    np.testing.assert_allclose(errors, expected, rtol=1e-3, atol=1)


def test_a_selected_module_is_in_the_unit_of_the_rows(new_problem):
    problem = new_problem(CURVE, 1)
    result = select(problem, replace(OPTIONS, max_epochs=16), 0.2, np.random.RandomState(0))
    x = torch.from_numpy(CURVE)
    if new_problem is scores_problem:
        x = (x - x.mean(dim=0)) @ problem.basis.directions.double()
    pca = PCA(1).fit(CURVE)
    linear = np.square(CURVE - pca.inverse_transform(pca.transform(CURVE))).sum()
    with torch.inference_mode():
        module = result.module.double()
        error = (x - module(x)).square().sum()
    variance = np.square(CURVE - CURVE.mean(axis=0)).sum()
    assert result.gain > 0.1
    assert linear - error > 0.5 * result.gain * variance


@pytest.mark.slow
def test_a_curve_that_its_first_direction_determines_gets_a_decoder_alone():
    t = np.random.default_rng(0).uniform(-1, 1, size=1000)
    result = selection_on(np.stack([3 * t, 0.5 * t**2, 0.5 * t**3], axis=1), 1)
    assert result.module.encoder is None
    assert result.module.decoder is not None
    assert result.gain > 0.002


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_small_gain_is_trained_no_longer_than_tried():
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=1000)
    noise = 0.4 * rng.normal(size=(1000, 2))  # of which nothing can be gained
    slight = selection_on(np.c_[3 * t, 0.3 * t**2, noise], 1)
    assert 0 < slight.gain < 0.004
    assert slight.n_epochs <= OPTIONS.max_epochs / 4
    large = selection_on(np.stack([3 * t, 3 * t**2], axis=1), 1)
    assert large.n_epochs > OPTIONS.max_epochs / 2


@pytest.mark.slow
def test_convolutions_are_trained_longer_than_tried_for_larger_gains_alone():
    """On 10,000 pictures of CIFAR-10 a gain of 6 % of PCA's error was lost, and more."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=1000)
    X = np.c_[3 * t, 0.5 * t**2, 0.4 * rng.normal(size=(1000, 2))]
    share = selection_on(X, 1).gain / (1 - PCA(1).fit(X).explained_variance_ratio_.sum())
    assert 0.04 < share < 0.08
    assert selection_on(X, 1).n_epochs > OPTIONS.max_epochs / 4
    assert selection_on(X, 1, rows_problem).n_epochs <= OPTIONS.max_epochs / 4


def stages_of(problem):
    options = replace(OPTIONS, max_epochs=4)
    with torch.random.fork_rng(devices=[]):
        result = select(problem, options, 0.2, np.random.RandomState(0))
    return {epoch["stage"] for epoch in result.history}


@pytest.mark.parametrize("n_rows", [16 * 150, 17 * 150 - 1, 17 * 150])
def test_an_encoder_of_a_longer_code_is_tried_with_150_rows_for_each_dimension(n_rows):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 24)) * np.geomspace(1, 0.3, 24)
    tried = "trial run of both networks" in stages_of(scores_problem(X, 17))
    assert tried == (n_rows == 17 * 150)


def test_an_encoder_of_a_shorter_code_is_tried_with_few_rows():
    X = np.random.default_rng(0).normal(size=(300, 24))
    assert "trial run of both networks" in stages_of(scores_problem(X, 16))


def test_an_encoder_that_takes_rows_is_tried_with_few_rows():
    X = np.random.default_rng(0).normal(size=(300, 24))
    assert "trial run of both networks" in stages_of(rows_problem(X, 17))


@pytest.mark.parametrize(
    ("losses", "gain", "expected"),
    [
        ([3.0, 1.0, 2.0, 2.5], 0.005, (1, False)),  # a small gain, and then overfitting
        ([3.0, 2.0, 1.5, 1.0], 0.005, (4, False)),  # a small gain that still grows
        ([3.0, 1.0, 2.0, 2.5], 0.05, (6, False)),  # a large gain
    ],
)
def test_small_gains_are_not_trained_beyond_where_the_trial_run_overfitted(losses, gain, expected):
    problem = SimpleNamespace(
        row_set=lambda indices: SimpleNamespace(measure=None), safe_gain=ScoresProblem.safe_gain
    )
    selection = SimpleNamespace(
        options=OPTIONS,
        trial_problem=problem,
        validation=None,
        explained_by_pca=0.8,
        n_trial_epochs=4,
        max_final_epochs=12,
    )
    trial = SimpleNamespace(total_gain=gain, history=[{"valid_loss": loss} for loss in losses])
    assert _Selection._final_epochs(selection, trial) == expected


def test_a_trial_run_ends_where_the_loss_rises_at_falling_rates():
    best = BestSoFar(torch.nn.Linear(1, 1), patience=10, tol=0.0)
    ends = []
    for epoch, loss in enumerate([1.0, 2.0, 3.0, 0.5, 0.6, 0.7, 0.8, 0.9], 1):
        best.update(loss, torch.nn.Linear(1, 1))
        ends.append(best.is_overfitting(epoch / 8))
    assert ends == [False] * 5 + [True] * 3
    assert not best.stalled


def test_a_trial_run_that_overfits_is_cut_short_and_the_training_is_brief():
    generator = np.random.RandomState(0)
    bend = generator.uniform(-1, 1, (150, 1))
    X = np.hstack([bend, bend**2, np.zeros((150, 14))]) + 0.3 * generator.randn(150, 16)
    options = replace(OPTIONS, max_epochs=80, learning_rate=0.02, weight_decay=0.0)
    result = select(rows_problem(X, 2), options, 0.2, np.random.RandomState(0))
    trial = [epoch for epoch in result.history if epoch["stage"] == "trial run of both networks"]
    assert 10 < len(trial) < 20
