import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae import DenseAutoencoder
from skae._data.rows import rows_of
from skae._nn.autoencoders import LinearPathAutoencoder, ResidualAutoencoder
from skae._nn.layers import perceptron
from skae._nn.losses import SquaredError
from skae._pca.solvers import principal_basis
from skae._training.gate import Wishes, runs_to_try, select
from skae._training.residual import RowsProblem, ScoresProblem
from skae._training.run import TrainingOptions

OPTIONS = TrainingOptions(
    loss=SquaredError,
    max_epochs=40,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=0.01,
    early_stopping=True,
    validation_fraction=0.2,
    tol=0.1,
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

    return RowsProblem(rows, principal_basis(rows, k), build, torch.device("cpu"))


@pytest.fixture(params=[scores_problem, rows_problem])
def new_problem(request):
    with torch.random.fork_rng(devices=[]):
        yield request.param


BOTH, DECODER = "training", "training of the decoder"


def selection_on(X, k, problem=scores_problem, runs=(BOTH, DECODER)):
    with torch.random.fork_rng(devices=[]):
        return select(problem(X, k), OPTIONS, np.random.RandomState(0), runs=list(runs))


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


def test_a_decoder_alone_is_trained_if_it_is_asked_for():
    t = np.random.default_rng(0).uniform(-1, 1, size=1000)
    X = np.stack([3 * t, 0.5 * t**2, 0.5 * t**3], axis=1)
    result = selection_on(X, 1, runs=[DECODER])
    assert result.module.encoder is None
    assert result.module.decoder is not None
    assert result.gain > 0.002


def test_networks_are_not_worse_than_pca_on_noise():
    """A curved surface may fit noise somewhat better than a plane, also that of new rows."""
    X, fresh = np.split(np.random.default_rng(0).normal(size=(4600, 12)), [600])
    model = DenseAutoencoder(3, hidden_layer_sizes=(64,), random_state=0).fit(X)
    pca = DenseAutoencoder(3, hidden_layer_sizes=()).fit(X)
    assert model.score(fresh) >= pca.score(fresh) - 1e-3


@pytest.mark.parametrize("k", [2, 12])
def test_nothing_is_trained_where_there_is_nothing_to_gain(k):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 12))  # rank 2
    model = DenseAutoencoder(k, random_state=0).fit(X)
    assert model.history_ == []
    assert model.code_is_pca_


def test_one_far_row_does_not_make_a_model_worse_than_pca():
    """Of word counts, one row far beyond the training rows has cost half of the test share."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 1.75 * np.pi, size=600)
    X = np.stack([np.cos(t), np.sin(t), 0.5 * np.cos(2 * t), 0.5 * np.sin(3 * t)], axis=1)
    test = np.concatenate([X[500:], [[40.0, 30.0, -30.0, 20.0]]])
    model = DenseAutoencoder(1, hidden_layer_sizes=(128,), random_state=0).fit(X[:500])
    pca = PCA(1).fit(X[:500])
    errors = np.square(test - pca.inverse_transform(pca.transform(test))).sum(axis=1)
    assert model.nonlinear_gain_ > 0.1
    assert -model.score_samples(test[-1:]) < 1.01 * errors[-1]
    assert model.score(test) > 1 - errors.sum() / np.square(test - pca.mean_).sum()


@pytest.mark.parametrize(
    ("shape", "latent_dim", "share_left", "expected"),
    [
        ((300, 24), 16, 0.5, ["training"]),  # a short code
        ((300, 24), 17, 0.5, []),  # too few rows for a longer one
        ((680, 24), 17, 0.5, ["training"]),
        ((680, 24), 17, 0.005, []),  # too little is left
        ((2000, 5000), 17, 0.5, []),  # columns far outnumber rows
        ((2550, 6000), 17, 0.5, ["training"]),
        ((10**6, 1000), 257, 0.5, []),
        ((300, 24), 2, 0.001, []),
    ],
)
def test_networks_are_trained_where_the_code_may_gain(shape, latent_dim, share_left, expected):
    assert runs_to_try(shape, latent_dim, Wishes(), share_left) == expected


def test_what_the_user_asks_for_is_tried():
    shape, left = (300, 24), 0.5
    assert runs_to_try(shape, 20, Wishes(custom_encoder=True), left) == ["training"]
    assert runs_to_try(shape, 20, Wishes(decoder=True), left) == ["training of the decoder"]
    labelled = runs_to_try(shape, 20, Wishes(labels=True), left)
    assert labelled == ["training with labels"]


@pytest.mark.parametrize("latent_dim", [20])
def test_where_the_code_stays_pcas_the_model_is_pca(digits, latent_dim):
    X, X_test = digits[:2]
    model = DenseAutoencoder(latent_dim, random_state=0).fit(X[:600])
    pca = PCA(latent_dim, svd_solver="full").fit(X[:600])
    assert model.code_is_pca_
    assert model.history_ == []
    assert model.module_.decoder is None
    np.testing.assert_allclose(model.transform(X_test), pca.transform(X_test), atol=1e-8)
    decoder = DenseAutoencoder(
        latent_dim,
        hidden_layer_sizes=(64,),
        max_epochs=10,
        fit_inverse_transform=True,
        random_state=0,
    ).fit(X[:600])
    assert decoder.code_is_pca_
    np.testing.assert_allclose(decoder.transform(X_test), pca.transform(X_test), atol=1e-8)
    assert decoder.score(X_test) >= model.score(X_test)
