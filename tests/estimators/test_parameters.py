"""Values of parameters: numbers of every kind are numbers, all else gets a sentence."""

import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import randint, uniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV

from skae import ConvAutoencoder, DenseAutoencoder
from skae._estimators import auto

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = load_digits().images
SMALL = {"latent_dim": 2, "hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}
KINDS = {
    "dense": lambda **changed: DenseAutoencoder(**{**SMALL, **changed}),
    "plain": lambda **changed: DenseAutoencoder(**{**SMALL, "linear_path": False, **changed}),
    "conv": lambda **changed: ConvAutoencoder(**{**SMALL, "channels": (2,), **changed}),
}

# Nothing of this is the value of any parameter.
NEVER = [
    float("nan"),
    pd.NA,
    np.array(np.nan, dtype=object),
    np.datetime64("NaT"),
    np.array([[2]]),
    float("inf"),
    -(10**30),
    1 + 2j,
    b"8",
    {},
    {3},
    ("8",),
    (float("nan"),),
]
OF_NUMBERS = ["8", "", object(), [], [8], np.arange(3), np.array([2, 3]), len, -1]
OF_COUNTS = [*OF_NUMBERS, 0, 2.5, 10**30, np.float64(3), None]
OF_REALS = [*OF_NUMBERS, 10**30, None]
OF_SHARES = [*OF_REALS, 1, 1.5]
OF_CHOICES = [*OF_NUMBERS, 0, 2.5]
OF_TUPLES = ["8", -1, 2.5, (0,), (-1,), (2.5,), (None,), (pd.NA,), (10**30,), len]
OF_BOOLEANS = [*OF_NUMBERS, 2, None]
OF_NETWORKS = ["8", 8, object, len, print, int, torch.nn.Module, torch.nn.ReLU]
BAD = {
    "latent_dim": ["8", "", object(), [], [8], np.arange(3), len, -1, 0, 2.5, 10**30],
    "hidden_layer_sizes": [*OF_TUPLES, None, 2**31 - 1, (2**31 - 1, 2**31 - 1)],
    "activation": [*OF_CHOICES, None],
    "encoder": OF_NETWORKS,
    "decoder": OF_NETWORKS,
    "linear_path": OF_BOOLEANS,
    "loss": [*OF_CHOICES, None],
    "output_activation": OF_CHOICES,
    "truncations": [*OF_TUPLES, (2,), (1, 3)],
    "penalty": OF_CHOICES,
    "alpha": OF_REALS,
    "supervision": OF_REALS,
    "fit_inverse_transform": OF_BOOLEANS,
    "whiten": [*OF_BOOLEANS, 1.5, float("nan")],
    "corruption": OF_SHARES,
    "noise": OF_REALS,
    "missing_values": ["nan", -1, 0.0, "", np.inf, len],
    "max_epochs": OF_COUNTS,
    "batch_size": OF_COUNTS,
    "learning_rate": [*OF_REALS, 0],
    "weight_decay": OF_REALS,
    "early_stopping": OF_BOOLEANS,
    "validation_fraction": [*OF_SHARES, 0],
    "tol": OF_REALS,
    "device": ["8", "", 8, None, "cuda:99", "meta", len],
    "precision": [*OF_CHOICES, None],
    "warm_start": OF_BOOLEANS,
    "checkpoint": ["", 8, len, object()],
    "memory": ["", 8, len, object()],
    "callbacks": ["8", 8, [8], ["8"], [[8]], [len], [None], [object], [("name", 8)]],
    "random_state": ["8", "", object(), [], [8], np.arange(3), -1, 2.5, 10**30],
    "verbose": ["8", "", object(), [], [8], -1, 2.5, None],
    "input_shape": [*OF_TUPLES, (), (2, 2, 2, 8), (8, 9)],
    "channel_axis": ["8", 2.5, [0], 3, -4, 10**30],
    "channels": [*OF_TUPLES, None, [], 8, (2**31 - 1, 2**31 - 1)],
    "kernel_size": [*OF_COUNTS, 2, 2**31 - 1],
    "bottleneck": [*OF_CHOICES, None],
}


def is_of(estimator):
    return IMAGES[:60] if isinstance(estimator, ConvAutoencoder) else IMAGES[:60].reshape(60, 64)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bad_value_gets_a_sentence_that_names_the_parameter(kind):
    names = set(KINDS[kind]().get_params())
    assert names <= set(BAD)
    for name in names:
        for value in [*BAD[name], *NEVER]:
            if name == "missing_values" and repr(value) in ("nan", repr(NEVER[2])):
                continue  # its one value beside None
            estimator = KINDS[kind](**{name: value})
            with pytest.raises((ValueError, TypeError, MemoryError)) as raised:
                estimator.fit(is_of(estimator))
            sentence = str(raised.value)
            assert re.search(rf"\b{name}\b", sentence), (name, value, sentence)
            assert not [key for key in vars(estimator) if key.endswith("_")], (name, value)


COUNTS = {
    "latent_dim": 3,
    "hidden_layer_sizes": 5,
    "max_epochs": 2,
    "batch_size": 40,
    "random_state": 7,
    "verbose": 0,
}
REALS = {
    "alpha": 0.5,
    "supervision": 0.5,
    "corruption": 0.25,
    "noise": 0.125,
    "learning_rate": 0.0078125,
    "weight_decay": 0.25,
    "validation_fraction": 0.25,
    "tol": 0.0009765625,
}
BOOLEANS = {"whiten": True, "early_stopping": False, "warm_start": False, "linear_path": True}


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
@pytest.mark.parametrize(
    ("of_counts", "of_reals", "of_booleans"),
    [
        (np.int64, np.float64, np.bool_),
        (np.uint8, np.float16, np.array),
        (np.array, np.array, np.array),
        (np.int16, Fraction, np.bool_),
    ],
)
def test_numbers_of_every_kind_are_numbers(kind, of_counts, of_reals, of_booleans):
    counts, shape = dict(COUNTS), {}
    if kind is ConvAutoencoder:
        counts |= {"kernel_size": 3}
        shape = {"channels": (of_counts(2), of_counts(3)), "input_shape": np.array([8, 8])}
    given = {
        **{name: of_counts(value) for name, value in counts.items()},
        **{name: of_reals(value) for name, value in REALS.items()},
        **{name: of_booleans(value) for name, value in BOOLEANS.items()},
        **shape,
    }
    expected = kind(**counts, **REALS, **BOOLEANS, **({"channels": (2, 3)} if shape else {}))
    X = is_of(expected)
    y = np.arange(len(X)) % 2
    estimator = kind(**given)
    codes = clone(estimator).fit(X, y).transform(X)
    np.testing.assert_array_equal(codes, expected.fit(X, y).transform(X))
    estimator.fit(X, y)
    assert all(estimator.get_params()[name] is value for name, value in given.items())


def test_a_batch_of_uint8_rows_does_not_overflow():
    X = IMAGES.reshape(-1, 64)
    settings = {"hidden_layer_sizes": (16,), "max_epochs": 3, "random_state": 0}
    for batch_size in (np.uint8(200), np.int8(100)):
        estimator = DenseAutoencoder(4, batch_size=batch_size, **settings).fit(X)
        same = DenseAutoencoder(4, batch_size=int(batch_size), **settings).fit(X)
        np.testing.assert_array_equal(estimator.transform(X), same.transform(X))


def test_a_randomized_search_draws_what_it_likes():
    space = {
        "batch_size": randint(8, 64),
        "latent_dim": np.arange(2, 5, dtype=np.uint8),
        "max_epochs": np.arange(1, 4),
        "tol": uniform(0.05, 0.3),
        "learning_rate": np.logspace(-3, -2, 5, dtype=np.float32),
        "early_stopping": np.array([True, False]),
        "kernel_size": np.arange(3, 6, 2),
    }
    small = ConvAutoencoder(hidden_layer_sizes=(8,), channels=(2,), random_state=0)
    search = RandomizedSearchCV(small, space, n_iter=4, cv=2, random_state=0, error_score="raise")
    search.fit(IMAGES[:100])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_subclass_may_take_fewer_parameters(digits):
    class Short(DenseAutoencoder):
        def __init__(self, latent_dim=2):
            super().__init__(latent_dim, hidden_layer_sizes=(), random_state=0)

    assert Short(3).fit(digits[0]).transform(digits[1]).shape == (len(digits[1]), 3)


def test_a_tenth_of_the_rows_validates_a_fifth_of_few_and_ten_thousand_of_many():
    shares = {n: auto.validation_fraction(n, linear_path=True) for n in (500, 5_000, 1_000_000)}
    assert {n: round(n * share) for n, share in shares.items()} == {
        500: 100,
        5_000: 500,
        1_000_000: 10_000,
    }
