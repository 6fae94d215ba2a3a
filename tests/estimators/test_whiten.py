"""`whiten`: codes divided by a power of their standard deviation."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import ConvAutoencoder, DenseAutoencoder, load, save, to_torch

BRIEF = {"max_epochs": 4, "random_state": 0}
MODELS = {
    "linear": DenseAutoencoder(5, hidden_layer_sizes=()),
    "networks": DenseAutoencoder(5, hidden_layer_sizes=(32,), learning_rate=0.005, **BRIEF),
    "ordered": DenseAutoencoder(5, hidden_layer_sizes=(32,), truncations=(2,), **BRIEF),
    "variational": DenseAutoencoder(5, hidden_layer_sizes=(32,), penalty="variational", **BRIEF),
    "convolutions": ConvAutoencoder(5, input_shape=(8, 8), channels=(8,), **BRIEF),
}


def with_power(name, power):
    return clone(MODELS[name]).set_params(whiten=power)


@pytest.fixture(scope="module", params=MODELS)
def pair(request, digits):
    """The same model with plain codes, and with codes divided by the root of their deviation."""
    X = digits[0][:600].astype(np.float32)
    return tuple(with_power(request.param, power).fit(X) for power in (0, 0.5))


def test_each_dimension_has_the_power_of_its_standard_deviation(pair, digits):
    plain, scaled = (model.transform(digits[0][:600]).std(axis=0, ddof=1) for model in pair)
    np.testing.assert_allclose(scaled, np.sqrt(plain), rtol=1e-4)


def test_the_power_is_undone(pair, digits):
    plain, scaled = pair
    X = digits[1]
    for expected, found in (
        (
            plain.inverse_transform(plain.transform(X)),
            scaled.inverse_transform(scaled.transform(X)),
        ),
        (plain.score_samples(X), scaled.score_samples(X)),
        (plain.score(X), scaled.score(X)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if hasattr(plain, "sample"):
        rows = (model.sample(20, random_state=0) for model in pair)
        np.testing.assert_allclose(*rows, rtol=1e-4, atol=1e-4)


def test_other_forms_of_the_model_have_the_same_codes(pair, digits, tmp_path):
    scaled = pair[1]
    X = digits[1].astype(np.float32)
    codes = scaled.transform(X)
    save(scaled, tmp_path / "scaled.skae")
    loaded = load(tmp_path / "scaled.skae")
    assert loaded.whiten == 0.5
    np.testing.assert_array_equal(loaded.transform(X), codes)
    torch_codes = to_torch(scaled)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(torch_codes, codes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["linear", "ordered"])
def test_truncated_codes_keep_their_divisors(name, digits):
    X = digits[1]
    scaled = with_power(name, 0.5).fit(digits[0])
    shorter = scaled.truncate(2)
    codes = shorter.transform(X)
    np.testing.assert_allclose(codes, scaled.transform(X)[:, :2], rtol=1e-4, atol=1e-4)
    errors = np.square(X - shorter.inverse_transform(codes)).sum(axis=1)
    np.testing.assert_allclose(-shorter.score_samples(X), errors, rtol=1e-3)


def test_numbers_and_booleans_are_the_same_power(digits):
    def codes(power):
        return with_power("linear", power).fit_transform(digits[0])

    for same in (
        (True, 1, 1.0, np.True_, np.int64(1), np.array(True)),
        (False, 0, 0.0, np.False_, np.uint8(0)),
        (0.25, np.float16(0.25), np.array(0.25), Fraction(1, 4)),
    ):
        expected = codes(same[0])
        for power in same[1:]:
            np.testing.assert_array_equal(codes(power), expected)


@pytest.mark.parametrize("power", [-0.1, 1.1, float("nan"), 2, "0.5", None, [0.5]])
def test_other_powers_are_refused(power, digits):
    with pytest.raises(ValueError, match=r"The 'whiten' parameter of .* range \[0.0, 1.0\]. Got"):
        with_power("linear", power).fit(digits[0])


@pytest.mark.parametrize("power", [0, 0.0, False, np.False_])
def test_only_plain_codes_are_learnt_from_batches(power, digits):
    with_power("linear", power).partial_fit(digits[0])
    with pytest.raises(AttributeError) as refused:
        _ = with_power("linear", 0.5).partial_fit
    assert "whiten=0" in str(refused.value.__cause__)
