import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae import ConvAutoencoder


@pytest.fixture
def small():
    """A `ConvAutoencoder` whose networks are small and trained briefly, but are trained."""

    def make(latent_dim=4, **parameters):
        parameters = {
            "channels": (4,),
            "hidden_layer_sizes": (16,),
            "max_epochs": 4,
            "random_state": 0,
            **parameters,
        }
        return ConvAutoencoder(latent_dim, **parameters)

    return make


@pytest.fixture(scope="module")
def images(digits):
    return digits[0].reshape(-1, 8, 8), digits[1].reshape(-1, 8, 8)


# -- Never worse than PCA -------------------------------------------------------------------------


@pytest.mark.slow
def test_more_is_explained_than_by_pca(digits, variance_explained):
    X_train, X_test, _, _ = digits
    pca = PCA(2).fit(X_train)
    of_pca = variance_explained(X_test, pca.inverse_transform(pca.transform(X_test)), pca.mean_)
    autoencoder = ConvAutoencoder(
        2, input_shape=(8, 8), hidden_layer_sizes=(64,), max_epochs=12, random_state=0
    )
    assert autoencoder.fit(X_train).score(X_test) >= of_pca + 0.05


@pytest.mark.slow
def test_signals_are_kept_as_well_as_by_pca(small, variance_explained):
    rng = np.random.default_rng(0)
    at = rng.uniform(10, 54, size=(800, 1))
    X = np.exp(-0.5 * ((np.arange(64) - at) / 3) ** 2) + 0.01 * rng.normal(size=(800, 64))
    pca = PCA(3).fit(X[:600])
    of_pca = variance_explained(X[600:], pca.inverse_transform(pca.transform(X[600:])), pca.mean_)
    bump = small(3, input_shape=(64,), channels=(8, 16), max_epochs=20).fit(X[:600])
    assert bump.score(X[600:]) > of_pca + 0.2


def test_noise_leaves_pca(small):
    X = np.random.default_rng(0).normal(size=(400, 36))
    autoencoder = small(5, input_shape=(6, 6)).fit(X)
    assert autoencoder.nonlinear_gain_ == 0.0
    assert autoencoder.n_iter_ == 0
    pca = PCA(5, svd_solver="full").fit(X)
    codes = pca.transform(X)
    np.testing.assert_allclose(autoencoder.transform(X), codes, atol=1e-8)
    np.testing.assert_allclose(
        autoencoder.inverse_transform(codes), pca.inverse_transform(codes), atol=1e-8
    )
    np.testing.assert_allclose(autoencoder.components_, pca.components_, atol=1e-8)
    np.testing.assert_allclose(
        autoencoder.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-8
    )
    np.testing.assert_allclose(autoencoder.explained_variance_, pca.explained_variance_, rtol=1e-8)


# -- Shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "channel_axis"),
    [
        ((64,), None),
        ((1, 64), None),
        ((5, 13, 3), None),
        ((3, 5, 13), 0),
        ((33, 2), -1),
        ((1, 1), None),
    ],
)
@pytest.mark.parametrize("linear_path", [True, False])
def test_every_shape_comes_back_as_it_came(digits, small, shape, channel_axis, linear_path):
    X = np.resize(digits[0][:200], (200, int(np.prod(shape))))
    autoencoder = small(1, channel_axis=channel_axis, linear_path=linear_path, max_epochs=1)
    pictures = X.reshape(200, *shape)
    if len(shape) > 1:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X is read as")
            codes = autoencoder.fit_transform(pictures)
        assert autoencoder.inverse_transform(codes).shape == pictures.shape
        assert autoencoder.input_shape_ == shape
        assert autoencoder.n_features_in_ == X.shape[1]
    flat = autoencoder.set_params(input_shape=shape).fit(X)
    assert flat.inverse_transform(flat.transform(X)).shape == X.shape
    if len(shape) > 1:
        np.testing.assert_array_equal(flat.transform(pictures), codes)


# -- Kinds of data --------------------------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
def test_bytes_give_what_floats_give(images, small, linear_path, tmp_path):
    X = images[0][:500].astype(np.uint8)
    np.save(tmp_path / "X.npy", X)
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    of_bytes = small(linear_path=linear_path).fit(on_disk)
    codes = of_bytes.transform(X)
    assert codes.dtype == np.float32
    assert of_bytes.inverse_transform(codes).dtype == np.float32
    of_floats = small(linear_path=linear_path).fit(X.astype(np.float32))
    np.testing.assert_array_equal(of_floats.transform(X.astype(np.float32)), codes)


@pytest.mark.parametrize("linear_path", [True, False])
def test_sparse_rows_give_what_dense_rows_give(digits, small, linear_path):
    from scipy import sparse

    X = digits[0][:500].astype(np.float32)
    dense, of_sparse = (
        small(input_shape=(8, 8), linear_path=linear_path, precision="float32").fit(rows)
        for rows in (X, sparse.csr_array(X))
    )
    assert of_sparse.score(X) == pytest.approx(dense.score(X), abs=0.01)


# -- Architectures --------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "axis"), [((28, 28), None), ((5, 7, 3), None), ((200,), None)])
def test_default_networks_of_every_shape_are_trained(shape, axis):
    random = np.random.default_rng(0)
    angles = random.uniform(0, np.pi, (120, 2)) @ random.normal(size=(2, np.prod(shape)))
    X = np.tanh(np.sin(angles) + 0.1 * random.normal(size=angles.shape)).astype(np.float32)
    autoencoder = ConvAutoencoder(
        17, input_shape=shape, channel_axis=axis, max_epochs=1, linear_path=False, random_state=0
    ).fit(X)
    assert autoencoder.n_iter_ > 0
    residual = ConvAutoencoder(
        17,
        input_shape=shape,
        channel_axis=axis,
        fit_inverse_transform=True,
        max_epochs=1,
        random_state=0,
    ).fit(X)
    assert residual.history_
    assert residual.inverse_transform(residual.transform(X)).shape == X.shape
    assert np.isfinite(residual.score(X))


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_map_is_a_code_of_positions(images, small, linear_path):
    autoencoder = small(
        None, bottleneck="map", hidden_layer_sizes="auto", linear_path=linear_path
    ).fit(images[0])
    assert autoencoder.latent_dim_ == 16
    assert autoencoder.transform(images[1]).shape == (len(images[1]), 16)


# -- In the place of PCA --------------------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
def test_one_random_state_gives_the_same_bits_and_so_does_a_pickle(images, small, linear_path):
    train, test = images
    first, second = (small(2, linear_path=linear_path, max_epochs=8).fit(train) for _ in range(2))
    codes = first.transform(test)
    assert first.n_iter_ > 0
    for same in (second, pickle.loads(pickle.dumps(first))):
        assert same.transform(test).tobytes() == codes.tobytes()
        assert same.inverse_transform(codes).tobytes() == first.inverse_transform(codes).tobytes()


# -- Data and parameters that are wrong -----------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"input_shape": (32, 32, 3)}, r"n_features=64 is not 32 x 32 x 3 = 3072"),
        ({"input_shape": (8, 0)}, r"input_shape=\(8, 0\) must be .*positive integers"),
        ({"input_shape": (2, 2, 4, 4)}, r"has 4 axes, but pictures have at most three"),
        ({"input_shape": "8x8"}, r"'input_shape' parameter .* Got '8x8'"),
        ({"input_shape": (8, 8), "channel_axis": 2}, r"channel_axis=2 is not an axis of chann"),
        ({"channel_axis": 0}, r"channel_axis=0 is not an axis of channels in \(64,\)"),
        ({"kernel_size": 4}, r"kernel_size=4 must be odd"),
        ({"channels": (4, -1)}, r"channels=\(4, -1\) must be .*positive integers"),
        ({"channels": ()}, r"channels=\(\) must be .*at least one"),
        ({"bottleneck": "wide"}, r"'bottleneck' parameter .* Got 'wide'"),
        (
            {"bottleneck": "map", "input_shape": (8, 8)},
            r"latent_dim=4 must be 4 x 4 = 16 with bottleneck='map': the positions .* 8 x 8",
        ),
        (
            {"bottleneck": "channels", "hidden_layer_sizes": (5,)},
            r"hidden_layer_sizes=\(5,\) needs bottleneck='dense'",
        ),
        ({"latent_dim": 100}, r"latent_dim=100 must be at most .* = 30, as in PCA"),
        (
            {"output_activation": "sigmoid", "linear_path": True},
            r"output_activation='sigmoid' needs linear_path=False",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:X is read as signals of length 64")
def test_invalid_parameters_raise(digits, small, parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(**parameters).fit(digits[0][:30])


def test_pictures_of_another_shape_get_a_sentence(images, small):
    with pytest.raises(ValueError, match=r"shape \(8, 8\), but input_shape is \(4, 16\)"):
        small(input_shape=(4, 16)).fit(images[0])
    autoencoder = small(max_epochs=1).fit(images[0])
    with pytest.raises(ValueError, match=r"shape \(16, 4\), but input_shape is \(8, 8\)"):
        autoencoder.transform(images[0].reshape(-1, 16, 4))
    with pytest.raises(ValueError, match=r"X has 63 features.*expecting 64"):
        autoencoder.transform(np.ones((3, 63)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_fit_agrees_with_a_cpu_fit(images, small):
    on_gpu, on_cpu = (
        small(8, device=device, precision="float32").fit(images[0][:500])
        for device in ("cuda", "cpu")
    )
    assert on_gpu.score(images[1]) == pytest.approx(on_cpu.score(images[1]), abs=0.02)
    moved = pickle.loads(pickle.dumps(on_gpu)).set_params(device="cpu")
    np.testing.assert_allclose(
        moved.transform(images[1]), on_gpu.transform(images[1]), rtol=1e-3, atol=1e-2
    )


@pytest.mark.parametrize(
    ("shape", "given", "sentence"),
    [
        ((3, 8, 9), {}, "height 3, width 8 and 9 channels. .*pass channel_axis=0, if not"),
        ((8, 3, 9), {}, "height 8, width 3 and 9 channels. .*pass channel_axis=1, if not"),
        ((3, 8, 9), {"input_shape": (3, 8, 9)}, "height 3, width 8 and 9 channels"),
        ((1, 64), {}, r"height 1 and width 64. .*channel_axis=0, if not input_shape=\(1, 64\)"),
        ((64,), {}, r"signals of length 64. For pictures of 8 x 8 pass input_shape=\(8, 8\)"),
    ],
)
def test_a_reading_in_doubt_is_told(digits, small, shape, given, sentence):
    X = np.resize(digits[0], (40, *shape))
    autoencoder = small(2, hidden_layer_sizes=(4,), max_epochs=1, **given)
    with pytest.warns(UserWarning, match=sentence):
        autoencoder.fit(X)
    with pytest.raises(UserWarning, match=sentence):  # under pytest's filter: before long work
        small(2, **given).fit(X)


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((8, 8), {}),
        ((8, 8, 3), {}),
        ((1, 8, 8), {"channel_axis": 2}),
        ((1, 64), {"input_shape": (1, 64)}),
        ((64,), {"input_shape": (8, 8)}),
        ((63,), {}),
    ],
)
def test_a_reading_that_was_given_or_is_plain_is_not_in_doubt(digits, small, shape, given):
    X = np.resize(digits[0], (40, *shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        small(2, hidden_layer_sizes=(4,), max_epochs=1, **given).fit(X)
