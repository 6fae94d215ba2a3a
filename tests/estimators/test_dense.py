import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import DenseAutoencoder

# -- Never worse than PCA -------------------------------------------------------------------------


@pytest.mark.parametrize("latent_dim", [2, 16, 64])
def test_never_below_pca_on_test_digits(digits, latent_dim, variance_explained):
    X_train, X_test, _, _ = digits
    pca = PCA(latent_dim).fit(X_train)
    of_pca = variance_explained(X_test, pca.inverse_transform(pca.transform(X_test)), pca.mean_)
    autoencoder = DenseAutoencoder(
        latent_dim, hidden_layer_sizes=(256,), max_epochs=15, random_state=0
    ).fit(X_train)
    assert autoencoder.score(X_test) >= of_pca - 1e-6
    if latent_dim <= 16:
        assert autoencoder.score(X_test) >= of_pca + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", [2, 64])
def test_never_below_pca_on_test_files(bigrams, latent_dim):
    X_train, X_test, _, _ = bigrams
    pca = DenseAutoencoder(latent_dim, hidden_layer_sizes=(), random_state=0).fit(X_train)
    autoencoder = DenseAutoencoder(
        latent_dim, hidden_layer_sizes=(128,), max_epochs=20, random_state=0
    ).fit(X_train)
    # Which files there are depends on the machine, so that a small gain may differ on test rows.
    assert autoencoder.score(X_test) >= pca.score(X_test) - 1e-4
    if latent_dim == 2:
        assert autoencoder.score(X_test) >= pca.score(X_test) + 0.01


def test_noise_leaves_pca():
    X = np.random.default_rng(0).normal(size=(400, 30))
    autoencoder = DenseAutoencoder(5, max_epochs=10, random_state=0).fit(X)
    assert autoencoder.nonlinear_gain_ == 0.0
    assert autoencoder.n_iter_ == 0
    pca = PCA(5).fit(X)
    np.testing.assert_allclose(autoencoder.transform(X), pca.transform(X), atol=1e-8)


# -- In the place of PCA --------------------------------------------------------------------------


def test_the_linear_form_is_pca(digits):
    X_train, X_test, _, _ = digits
    pca = PCA(10, svd_solver="full").fit(X_train)
    linear = DenseAutoencoder(10, hidden_layer_sizes=()).fit(X_train)
    np.testing.assert_allclose(linear.components_, pca.components_, atol=1e-8)
    np.testing.assert_allclose(linear.mean_, pca.mean_)
    np.testing.assert_allclose(
        linear.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-8
    )
    np.testing.assert_allclose(linear.explained_variance_, pca.explained_variance_, rtol=1e-8)
    assert linear.n_components_ == pca.n_components_
    np.testing.assert_allclose(linear.transform(X_test), pca.transform(X_test), atol=1e-8)
    codes = pca.transform(X_test)
    np.testing.assert_allclose(
        linear.inverse_transform(codes), pca.inverse_transform(codes), atol=1e-8
    )


def test_whitened_codes_are_those_of_whitened_pca(digits):
    X = digits[0]
    pca = PCA(10, whiten=True, svd_solver="full").fit(X)
    linear = DenseAutoencoder(10, whiten=True, hidden_layer_sizes=()).fit(X)
    np.testing.assert_allclose(linear.transform(X), pca.transform(X), atol=1e-7)
    codes = pca.transform(X)
    np.testing.assert_allclose(
        linear.inverse_transform(codes), pca.inverse_transform(codes), atol=1e-7
    )


def script_of_a_pca_user(reducer, X, y):
    """What people do with PCA; reducer is all that changes."""
    codes = reducer.fit_transform(X)
    assert codes.shape == (len(X), 4)
    assert reducer.components_.shape == (4, X.shape[1])
    assert reducer.mean_.shape == (X.shape[1],)
    assert 0 < reducer.explained_variance_ratio_.sum() < 1
    assert reducer.inverse_transform(codes).shape == X.shape
    union = FeatureUnion([("scaled", StandardScaler()), ("codes", clone(reducer))])
    assert union.fit_transform(X).shape == (len(X), X.shape[1] + 4)
    columns = ColumnTransformer([("codes", clone(reducer), slice(0, 32))], remainder="passthrough")
    assert columns.fit_transform(X).shape == (len(X), 4 + X.shape[1] - 32)
    frame = clone(reducer).set_output(transform="pandas").fit_transform(X)
    assert frame.shape == (len(X), 4)
    return make_pipeline(clone(reducer), GaussianNB()).fit(X, y)


def test_a_script_written_for_pca_runs_unchanged(digits, quick):
    X, _, y, _ = digits
    for reducer in (PCA(4), quick(4)):
        pipeline = script_of_a_pca_user(reducer, X, y)
        assert pipeline.score(X, y) > 0.5


def test_grid_search_alone_uses_the_variance_explained(digits, quick):
    search = GridSearchCV(quick(hidden_layer_sizes=()), {"latent_dim": [2, 10, 5]}, cv=3)
    search.fit(digits[0])
    assert search.best_params_ == {"latent_dim": 10}


def test_the_default_length(quick):
    X = np.random.default_rng(0).normal(size=(60, 50))
    assert quick(None).fit(X).latent_dim_ == 32
    assert quick(None).fit(X[:20]).latent_dim_ == 20
    assert quick(None).fit(X[:, :7]).latent_dim_ == 7


# -- Scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
def test_scores_are_those_of_the_reconstruction(digits, quick, variance_explained, linear_path):
    X_train, X_test, _, _ = digits
    autoencoder = quick(linear_path=linear_path).fit(X_train)
    X_hat = autoencoder.inverse_transform(autoencoder.transform(X_test))
    np.testing.assert_allclose(
        autoencoder.score_samples(X_test), -np.square(X_test - X_hat).sum(axis=1), rtol=1e-4
    )
    expected = variance_explained(X_test, X_hat, X_train.mean(axis=0))
    assert autoencoder.score(X_test) == pytest.approx(expected, abs=1e-6)


# -- The plain network ----------------------------------------------------------------------------


def test_the_plain_network_learns(digits):
    X_train, X_test, _, _ = digits
    plain = DenseAutoencoder(
        16, linear_path=False, hidden_layer_sizes=(128,), max_epochs=30, random_state=0
    ).fit(X_train)
    assert plain.score(X_test) > 0.7
    assert not hasattr(plain, "components_")


def test_a_sigmoid_output_stays_between_zero_and_one(digits, quick):
    X_train, X_test, _, _ = digits
    plain = quick(linear_path=False, output_activation="sigmoid").fit(X_train / 16)
    X_hat = plain.inverse_transform(plain.transform(X_test / 16))
    assert X_hat.min() >= 0
    assert X_hat.max() <= 1


# -- State ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
def test_one_random_state_gives_the_same_bits(digits, quick, linear_path):
    X = digits[0]
    first, second = (quick(2, linear_path=linear_path).fit(X) for _ in range(2))
    codes = first.transform(X)
    assert first.n_iter_ > 0
    assert second.transform(X).tobytes() == codes.tobytes()
    assert second.inverse_transform(codes).tobytes() == first.inverse_transform(codes).tobytes()


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_pickle_gives_the_same_bits(digits, quick, linear_path):
    X = digits[0]
    autoencoder = quick(linear_path=linear_path, whiten=True).fit(X)
    restored = pickle.loads(pickle.dumps(autoencoder))
    codes = autoencoder.transform(X)
    assert restored.transform(X).tobytes() == codes.tobytes()
    expected = autoencoder.inverse_transform(codes)
    assert restored.inverse_transform(codes).tobytes() == expected.tobytes()


def test_a_fit_that_fails_leaves_the_estimator_as_it_was(digits, quick):
    X = digits[0]
    autoencoder = quick().fit(X)
    codes = autoencoder.transform(X)
    with pytest.raises(ValueError, match="latent_dim"):
        autoencoder.set_params(latent_dim=1000).fit(X[:, :30])
    assert autoencoder.transform(X).tobytes() == codes.tobytes()

    never = quick(1000)
    with pytest.raises(ValueError, match="latent_dim"):
        never.fit(X)
    with pytest.raises(NotFittedError):
        never.transform(X)


@pytest.mark.parametrize("linear_path", [True, False])
def test_warm_start_goes_on_from_the_fitted_networks(digits, quick, linear_path):
    X = digits[0]
    settings = {"linear_path": linear_path, "max_epochs": 10}
    warm = quick(8, warm_start=True, **settings).fit(X)
    first = warm.history_[-1]["train_loss"]
    cold = quick(8, **settings).fit(X)
    np.testing.assert_array_equal(cold.transform(X), warm.transform(X))
    assert warm.fit(X).history_[-1]["train_loss"] < 0.97 * first
    assert warm.score(digits[1]) > cold.score(digits[1])


@pytest.mark.filterwarnings("ignore:.*(exploded|behind PCA)")
@pytest.mark.parametrize("linear_path", [True, False])
def test_a_rate_that_is_far_too_high_never_gives_worse_than_pca_or_no_numbers(
    digits, quick, linear_path
):
    wild = quick(4, learning_rate=1e4, linear_path=linear_path).fit(digits[0])
    assert np.isfinite(wild.transform(digits[1])).all()
    if linear_path:
        pca = quick(4, hidden_layer_sizes=()).fit(digits[0])
        assert wild.score(digits[1]) >= pca.score(digits[1]) - 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_fit_agrees_with_a_cpu_fit(digits, quick):
    X = digits[0]
    on_gpu, on_cpu = (
        quick(8, device=device, precision="float32").fit(X) for device in ("cuda", "cpu")
    )
    assert on_gpu.score(X) == pytest.approx(on_cpu.score(X), abs=0.02)
    moved = pickle.loads(pickle.dumps(on_gpu)).set_params(device="cpu")
    np.testing.assert_allclose(moved.transform(X), on_gpu.transform(X), rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_a_plain_encoder_trained_on_masked_rows_restores_them_better(digits):
    X_train, X_test, _, _ = digits
    rng = np.random.default_rng(0)
    masked = np.where(rng.random(X_test.shape) < 0.3, X_train.mean(axis=0), X_test)

    def error(corruption):
        autoencoder = DenseAutoencoder(
            12,
            hidden_layer_sizes=(64,),
            linear_path=False,
            corruption=corruption,
            max_epochs=40,
            random_state=0,
        ).fit(X_train)
        restored = autoencoder.inverse_transform(autoencoder.transform(masked))
        return np.square(X_test - restored).sum()

    assert error(0.3) < 0.95 * error(0.0)
