"""Custom networks as encoder and decoder."""

import pickle
from threading import Lock

import numpy as np
import pytest
import torch
from torch import nn

from skae import ConvAutoencoder, DenseAutoencoder

BRIEF = {"max_epochs": 12, "random_state": 0}


class Wide(nn.Module):
    """A network that is not an `nn.Sequential`, with dropout and normalisation."""

    def __init__(self, n_inputs, n_outputs, width=64):
        super().__init__()
        self.first = nn.Linear(n_inputs, width)
        self.normalise = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.1)
        self.last = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.last(self.dropout(torch.relu(self.normalise(self.first(x)))))


class Shuffled(nn.Module):
    """A convolutional encoder of pictures that halves extents by pixel shuffling."""

    def __init__(self, shape, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * shape[0], 16, 3, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(16 * shape[1] * shape[2] // 4, n_outputs),
        )

    def forward(self, x):
        return self.layers(x)


def decode(n_inputs, shape):
    n_positions = shape[1] * shape[2]
    return nn.Sequential(nn.Linear(n_inputs, n_positions), nn.Unflatten(1, shape))


@pytest.mark.slow
@pytest.mark.parametrize("linear_path", [True, False])
def test_custom_networks_replace_the_default_ones(digits, linear_path):
    X_train, X_test, _, _ = digits
    autoencoder = DenseAutoencoder(
        4, encoder=Wide, decoder=Wide, linear_path=linear_path, max_epochs=40, random_state=0
    ).fit(X_train)
    assert any(isinstance(layer, Wide) for layer in autoencoder.module_.modules())
    pca = DenseAutoencoder(4, hidden_layer_sizes=()).fit(X_train)
    assert autoencoder.score(X_test) > pca.score(X_test) + 0.02
    again = pickle.loads(pickle.dumps(autoencoder))
    assert again.transform(X_test).tobytes() == autoencoder.transform(X_test).tobytes()


@pytest.mark.slow
def test_a_custom_module_is_copied_and_not_changed(digits):
    custom = Wide(64, 4)
    before = {name: weight.clone() for name, weight in custom.state_dict().items()}
    first, second = (DenseAutoencoder(4, encoder=custom, **BRIEF).fit(digits[0]) for _ in range(2))
    assert first.transform(digits[1]).tobytes() == second.transform(digits[1]).tobytes()
    for name, weight in custom.state_dict().items():
        assert torch.equal(weight, before[name])
    assert isinstance(custom.dropout, nn.Dropout)


@pytest.mark.parametrize("linear_path", [True, False])
def test_custom_networks_take_pictures(digits, linear_path):
    images = digits[0].reshape(-1, 8, 8)
    autoencoder = ConvAutoencoder(
        4, encoder=Shuffled, decoder=decode, linear_path=linear_path, **BRIEF
    ).fit(images)
    assert autoencoder.inverse_transform(autoencoder.transform(images)).shape == images.shape
    assert autoencoder.score(images) > 0.2


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"encoder": nn.Linear(7, 4)},
            r"encoder must turn rows of shape \(64,\) into rows of shape \(4,\), but fails on",
        ),
        (
            {"decoder": nn.Linear(4, 60)},
            r"decoder must turn .* into rows of shape \(64,\), but returns \(60,\)",
        ),
        ({"encoder": lambda n_inputs, n_outputs: n_inputs}, "must make a torch.nn.Module, got int"),
    ],
)
@pytest.mark.parametrize("linear_path", [True, False])
def test_networks_of_wrong_shapes_raise_an_error_before_training(
    digits, parameters, sentence, linear_path
):
    with pytest.raises(ValueError, match=sentence):
        DenseAutoencoder(**{"latent_dim": 4, **parameters}, linear_path=linear_path).fit(digits[0])


def test_an_encoder_that_is_never_used_raises_an_error(digits):
    with pytest.raises(ValueError, match="encoder needs latent_dim <= 256 with the linear path"):
        DenseAutoencoder(300, encoder=Wide).fit(np.tile(digits[0], 5))


@pytest.mark.parametrize("encoder", [None, nn.Linear])
def test_a_custom_encoder_of_a_longer_code_is_tried_with_few_rows(digits, encoder):
    parameters = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
    model = DenseAutoencoder(20, encoder=encoder, **parameters).fit(digits[0][:400])
    stages = {epoch["stage"] for epoch in model.history_}
    assert stages == ({"training"} if encoder is not None else set())


def normalised(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, 8), nn.BatchNorm1d(8), nn.Linear(8, n_outputs))


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_one_row_at_a_time_is_too_few_for_layers_that_need_two(name, linear_path):
    X = np.random.default_rng(0).normal(size=(101, 6))
    autoencoder = DenseAutoencoder(
        2, batch_size=1, linear_path=linear_path, max_epochs=1, **{name: normalised}
    )
    with pytest.raises(ValueError, match=f"batch_size=1 is too small for {name}"):
        autoencoder.fit(X)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_one_row_of_a_stream_is_too_few_for_layers_that_need_two(name):
    X = np.random.default_rng(0).normal(size=(101, 6))
    autoencoder = DenseAutoencoder(
        2, hidden_layer_sizes=(8,), random_state=0, **{name: normalised}
    ).partial_fit(X[:100])
    codes = autoencoder.transform(X)
    with pytest.raises(ValueError, match=f"X with 1 row is too small for {name}, which cannot"):
        autoencoder.partial_fit(X[100:])
    np.testing.assert_array_equal(autoencoder.transform(X), codes)
    one_row = (
        DenseAutoencoder(2, encoder=Wide, max_epochs=2, random_state=0).fit(X).partial_fit(X[:1])
    )
    assert np.isfinite(one_row.transform(X)).all()


@pytest.mark.parametrize("batch_size", [2, 20, 1000])
@pytest.mark.parametrize("linear_path", [True, False])
def test_no_batch_of_one_row_is_left_over(linear_path, batch_size):
    X = np.random.default_rng(0).normal(size=(101, 6))
    autoencoder = DenseAutoencoder(
        2,
        batch_size=batch_size,
        linear_path=linear_path,
        encoder=normalised,
        decoder=normalised,
        max_epochs=2,
        random_state=0,
    ).fit(X)
    assert np.isfinite(autoencoder.transform(X)).all()
    if linear_path:
        assert np.isfinite(autoencoder.partial_fit(X[:21]).transform(X)).all()


class Own(nn.Module):
    """A linear layer, and a function of its input or its output."""

    def __init__(self, n_inputs, n_outputs, before=None, after=None):
        super().__init__()
        self.layer = nn.Linear(n_inputs, n_outputs)
        self.before, self.after = before or nn.Identity(), after or nn.Identity()

    def forward(self, x):
        return self.after(self.layer(self.before(x)))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


PLAIN = {"linear_path": False, "max_epochs": 2, "random_state": 0}
FROZEN = nn.Linear(64, 4).requires_grad_(False), nn.Linear(4, 64).requires_grad_(False)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"encoder": Own(64, 4, after=Function(torch.fft.fft))}, "floats, but returns torch.compl"),
        ({"decoder": Own(4, 64, after=Function(torch.sqrt))}, "must return finite values"),
        ({"encoder": Own(64, 4, after=Function(Lock()))}, "encoder must be a module that can be c"),
        (dict(zip(("encoder", "decoder"), FROZEN, strict=True)), "no weights that can be trained"),
    ],
    ids=range(4),
)
@pytest.mark.filterwarnings("ignore:The loss exploded")
def test_networks_that_cannot_be_trained_are_refused_in_words(digits, parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        DenseAutoencoder(4, **parameters, **PLAIN).fit(digits[0])


@pytest.mark.parametrize("linear_path", [True, False])
def test_networks_of_float32_alone_take_rows_of_any_type(digits, linear_path):
    X = digits[0]
    encoder = Own(64, 4, before=Function(torch.Tensor.float))
    model = DenseAutoencoder(4, encoder=encoder, **PLAIN | {"linear_path": linear_path}).fit(X)
    codes = model.transform(X)
    assert codes.dtype == np.float64
    assert np.isfinite(model.inverse_transform(codes)).all()


def test_weights_that_encoder_and_decoder_share_stay_shared(digits):
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.of = encoder

        def forward(self, z):
            return z @ self.of.weight

    encoder = nn.Linear(64, 4, bias=False)
    model = DenseAutoencoder(4, encoder=encoder, decoder=Transposed(), **PLAIN).fit(digits[0])
    assert [weight.shape for weight in model.module_.parameters()] == [(4, 64)]


def test_the_users_codes_and_the_mode_of_networks_do_not_matter(digits):
    dropping = nn.Sequential(nn.Linear(64, 4), nn.Dropout(0.5))
    in_place = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 64))
    model = DenseAutoencoder(4, encoder=dropping, decoder=in_place, **PLAIN).fit(digits[0])
    codes = model.transform(digits[1])
    before = codes.copy()
    model.inverse_transform(codes)
    np.testing.assert_array_equal(codes, before)
    model.module_.train()  # as for training it further
    np.testing.assert_array_equal(model.transform(digits[1]), before)
