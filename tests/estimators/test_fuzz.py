"""Random data and parameters: a sentence or finite results, whatever the form and the history.

Each property is tested on a few fixed examples. With ``SKAE_FUZZ=10000`` it is tested on so many
random ones.
"""

import os
import re
import traceback
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skae import ConvAutoencoder, DenseAutoencoder

N_EXAMPLES = int(os.environ.get("SKAE_FUZZ", "0"))
BUDGET = settings(
    max_examples=N_EXAMPLES or 8,
    derandomize=not N_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def _imported():
    # What the first fit imports adds warning filters of its own.
    DenseAutoencoder(1, linear_path=False, hidden_layer_sizes=(2,), max_epochs=1).fit(np.eye(9))


def holds_for(*strategies):
    """Test a property on examples of strategies."""
    return lambda test: BUDGET(given(*strategies)(test))


# -- Data -----------------------------------------------------------------------------------------


def low_rank(rng, n, p):
    rank = rng.integers(1, 4)
    return rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p))


def constant_columns(rng, n, p):
    X = rng.normal(size=(n, p))
    X[:, rng.random(p) < 0.7] = rng.normal()
    return X


def duplicate_rows(rng, n, p):
    return rng.normal(size=(n, p))[rng.integers(0, min(2, n), n)]


def heavy_tails(rng, n, p):
    return rng.standard_cauchy(size=(n, p)) ** 3


def outlier(rng, n, p):
    X = rng.normal(size=(n, p))
    X[rng.integers(n), rng.integers(p)] = 10.0 ** rng.integers(3, 31)
    return X


def counts(rng, n, p):
    return rng.poisson(1.0, size=(n, p)).astype(float)


def curved(rng, n, p):
    t = rng.uniform(-1, 1, size=(n, 1))
    return np.cos(3 * t + np.arange(p)) + 0.01 * rng.normal(size=(n, p))


STRUCTURES = [
    lambda rng, n, p: rng.normal(size=(n, p)),
    lambda rng, n, p: np.zeros((n, p)),
    lambda rng, n, p: np.repeat(rng.normal(size=(1, p)), n, axis=0),
    low_rank,
    constant_columns,
    duplicate_rows,
    heavy_tails,
    outlier,
    counts,
    curved,
]


@st.composite
def arrays(draw):
    """Rows as a dense array in the C order."""
    n, p = draw(st.integers(1, 60) | st.integers(40, 60)), draw(st.integers(1, 40))
    make = draw(st.sampled_from(STRUCTURES))
    X = make(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), n, p)
    reach = draw(st.sampled_from(["any", "any", "not negative", "up to 1"]))
    if reach != "any":
        X = np.abs(X)
    if reach == "up to 1":
        X = X / (X.max() or 1.0)
    else:
        scale = 10.0 ** draw(st.sampled_from([0, 0, 0, -30, -10, -3, 3, 10, 30]))
        X = scale * (X + draw(st.sampled_from([0.0, 0.0, 1.0, 1e3, 1e6])))
    dtype = draw(st.sampled_from(["f8", "f8", "f4", "f4", "f2", "i8", "i4", "u1", "i1", "?"]))
    return in_dtype(X, np.dtype(dtype))


def in_dtype(X, dtype):
    """Numbers in a dtype that may not hold all of them."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        X = np.clip(np.rint(X), max(limits.min, -(2**53)), min(limits.max, 2**53))
    if dtype.kind == "f":
        X = np.clip(X, np.finfo(dtype).min, np.finfo(dtype).max)
    with np.errstate(under="ignore"):
        return np.ascontiguousarray(X.astype(dtype))


def strided(X):
    wide = np.zeros((2 * len(X), 3 * X.shape[1]), X.dtype)
    wide[::2, 1::3] = X
    return wide[::2, 1::3]


def read_only(X):
    X = np.ascontiguousarray(X[::-1, ::-1])
    X.flags.writeable = False
    return X[::-1, ::-1]


DENSE_FORMS = [np.asfortranarray, strided, read_only, pd.DataFrame]


def sparse(kind, X, *, wide_indices=False, shuffled=False):
    """A sparse matrix, its entries in disorder on request."""
    X = X.astype(np.float32) if X.dtype == np.float16 else X  # which SciPy has no matrices of
    matrix = kind(sp.coo_array(X))
    if matrix.format == "coo":
        return matrix
    if shuffled:
        for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
            matrix.indices[start:end] = matrix.indices[start:end][::-1]
            matrix.data[start:end] = matrix.data[start:end][::-1]
        matrix.has_sorted_indices = False
    if wide_indices:
        matrix.indices, matrix.indptr = (
            a.astype(np.int64) for a in (matrix.indices, matrix.indptr)
        )
    return matrix


@st.composite
def sparse_forms(draw):
    """A function that makes a sparse matrix of an array."""
    kind = draw(
        st.sampled_from(
            [
                sp.csr_matrix,
                sp.csr_array,
                sp.csc_matrix,
                sp.csc_array,
                sp.coo_matrix,
                sp.coo_array,
            ]
        )
    )
    options = {name: draw(st.booleans()) for name in ("wide_indices", "shuffled")}
    return partial(sparse, kind, **options)


# -- Estimators -----------------------------------------------------------------------------------


@st.composite
def estimators(draw, kinds=(DenseAutoencoder, DenseAutoencoder, ConvAutoencoder)):
    """Small networks, trained briefly; any other parameter at its edges or in its midst."""
    some = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    linear_path = draw(st.booleans())
    parameters = {
        "latent_dim": some(None, None, 1, 1, 2, 2, 2, 3, 7, 40, 0.5, 0.999),
        "activation": some("gelu", "relu", "tanh", "softplus"),
        "linear_path": linear_path,
        "truncations": some(None, None, "auto", (1,)),
        "whiten": some(False, True, 0.5),
        "corruption": some("auto", 0.0, 0.5, 0.99),
        "noise": some(0.0, 0.1, 10.0),
        "max_epochs": some(1, 2, 3),
        "batch_size": some("auto", "auto", 1, 2, 16, 10**9),
        "learning_rate": some("auto", "auto", 1e-8, 0.1),
        "weight_decay": some(0.3, 0.0),
        "early_stopping": draw(st.booleans()),
        "validation_fraction": some(0.1, 0.5, 0.9, 1e-9, 0.999),
        "tol": some(0.1, 0.0),
        "precision": some("auto", "float32", "bfloat16"),
        "random_state": 0,
    }
    if not linear_path or some(*[False] * 9, True):
        parameters |= {
            "loss": some("mse", "mse", "mae", "huber", "bce", "poisson", "multinomial", "cosine"),
            "penalty": some(None, None, "l1", "contractive", "variational"),
            "alpha": some(1.0, 0.0, 100.0),
            "output_activation": some(*[None] * 6, "sigmoid", "softplus"),
        }
    if some(*kinds) is DenseAutoencoder:
        hidden = some((), (), 3, (4,), (8, 4))
        return DenseAutoencoder(hidden_layer_sizes=hidden, **parameters)
    bottleneck = some("dense", "dense", "channels", "map")
    if bottleneck == "map":
        parameters["latent_dim"] = None
    return ConvAutoencoder(
        channels=some((2,), (2, 3), "auto"),
        kernel_size=some(1, 3, 5),
        bottleneck=bottleneck,
        hidden_layer_sizes=some((), (4,)) if bottleneck == "dense" else "auto",
        **parameters,
    )


def layout_of(estimator, X, draw):
    """The estimator with pictures of the width of X, half of the times."""
    if isinstance(estimator, ConvAutoencoder) and draw(st.booleans()):
        p = X.shape[1]
        height = draw(st.sampled_from([a for a in range(1, p + 1) if p % a == 0]))
        estimator.set_params(input_shape=(height, p // height))
    return estimator


@st.composite
def cases(draw):
    """An array and an estimator."""
    X = draw(arrays())
    return X, layout_of(draw(estimators()), X, draw)


# -- What must hold -------------------------------------------------------------------------------


def surroundings():
    """What belongs to the whole process, and may be used but not changed."""
    return {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random state": np.random.get_state()[1].tobytes(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "NumPy's errors": np.geterr(),
        "gradients": torch.is_grad_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "warnings": list(warnings.filters),
    }


def bytes_of(X):
    if isinstance(X, pd.DataFrame):
        return X.to_numpy().tobytes()
    if sp.issparse(X):
        parts = ("data", "indices", "indptr", "row", "col")
        return [getattr(X, part).tobytes() for part in parts if hasattr(X, part)]
    return X.tobytes()


def check_sentence(error, estimator):
    """Fail if an error is not one that tells its reader what to change."""
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = re.search(r"[/\\](skae|sklearn)[/\\]", where)
    names = [*estimator.get_params(), "X", "n_features", "n_samples", "sample", "feature"]
    named = any(re.search(rf"\b{name}", str(error)) for name in names)
    if not (isinstance(error, (ValueError, TypeError, MemoryError)) and ours and named):
        raise error


def carried_out(estimator, *steps):
    """What methods return, or the sentence that one of them ended with."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        warnings.filterwarnings("ignore", "latent_dim=.* is out of reach", UserWarning)
        warnings.filterwarnings("ignore", "output_activation=.* reconstructs values", UserWarning)
        warnings.filterwarnings("ignore", "(noise|corruption|encoder) has no effect", UserWarning)
        before = surroundings()
        try:
            results = [step(estimator) for step in steps]
        except Exception as error:
            check_sentence(error, estimator)
            return str(error)
        finally:
            changed = [name for name, value in surroundings().items() if value != before[name]]
            assert not changed
    return results


def codes_of(estimator, X):
    """Codes of the rows that an estimator is fitted to, or a sentence."""
    results = carried_out(estimator, lambda e: e.fit(X), lambda e: e.transform(X))
    return results if isinstance(results, str) else results[1]


def assert_same(one, other):
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        np.testing.assert_array_equal(one, other)


def loss_may_explode(estimator, X):
    """Whether data and parameters are so extreme that losses may be infinite or no number."""
    if estimator.linear_path:
        return estimator.learning_rate == 0.1
    # An output activation defines a range: X is then not divided by its standard deviation.
    out_of_range = estimator.output_activation is not None and np.abs(X.astype(float)).max() > 100
    return estimator.learning_rate == 0.1 or estimator.noise == 10.0 or out_of_range


def explodes(estimator, X):
    """Fit, and return whether a warning reported that the loss exploded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "The loss exploded", ConvergenceWarning)
        estimator.fit(X)
    return bool(caught)


@holds_for(cases(), st.sampled_from([None, *DENSE_FORMS]) | sparse_forms())
def test_a_sentence_or_finite_results(case, form):
    array, estimator = case
    X = array if form is None else form(array)
    before = bytes_of(X)
    results = carried_out(
        estimator,
        lambda e: explodes(e, X),
        lambda e: e.transform(X),
        lambda e: e.inverse_transform(e.transform(X)),
        lambda e: e.score_samples(X),
        lambda e: e.score(X),
    )
    assert bytes_of(X) == before
    if isinstance(results, str):
        return
    exploded, codes, rows, errors, score = results
    assert np.isfinite(codes).all()
    assert np.isfinite(rows).all()
    assert np.isfinite(errors).all()
    assert (errors <= 0).all()
    assert np.isfinite(score)
    assert score <= 1
    losses = [v for epoch in estimator.history_ for v in epoch.values() if not isinstance(v, str)]
    if not np.isfinite(losses).all():
        assert exploded
        assert loss_may_explode(estimator, array)


@holds_for(cases())
def test_sparse_rows_are_reconstructed_like_dense_ones(case):
    X, estimator = case
    # Far from zero few digits are left for what varies, and networks make more of the last one.
    means, deviations = X.mean(axis=0, dtype=float), X.std(axis=0, dtype=float)
    if estimator.linear_path:
        farthest = 1e9 if X.dtype.itemsize == 8 else 1e4
        assume(np.linalg.norm(means) <= farthest * np.linalg.norm(deviations))
    else:
        assume((np.abs(means) <= 100 * deviations).all())
    estimator.set_params(whiten=False, learning_rate=1e-4)
    if estimator.linear_path:
        estimator.set_params(validation_fraction=1e-9)

    def score_of(rows):
        return carried_out(clone(estimator), lambda e: e.fit(rows), lambda e: e.score(rows))

    found = score_of(X), score_of(sparse(sp.csr_array, X))
    if isinstance(found[0], str):
        assert isinstance(found[1], str)
    else:
        assert found[0][1] == pytest.approx(found[1][1], abs=1e-2)


@holds_for(cases(), st.integers(0, 59))
def test_a_row_alone_has_the_code_that_it_has_among_others(case, number):
    X, estimator = case
    codes = codes_of(estimator, X)
    together = carried_out(clone(estimator), lambda e: e.fit_transform(X))
    assert_same(codes, together if isinstance(together, str) else together[0])
    if isinstance(codes, str):
        return
    number %= len(X)
    (alone,) = carried_out(estimator, lambda e: e.transform(X[[number]]))
    np.testing.assert_allclose(alone[0], codes[number], atol=1e-3 * np.abs(codes).max(), rtol=0)


@holds_for(st.lists(arrays(), min_size=1, max_size=3), estimators(kinds=(DenseAutoencoder,)))
def test_batches_end_with_a_sentence_or_finite_results(batches, estimator):
    estimator.set_params(linear_path=True, whiten=False, truncations=None)
    p = min(X.shape[1] for X in batches)
    for X in batches:
        X = X[:, :p]
        results = carried_out(
            estimator,
            lambda e, X=X: e.partial_fit(X),
            lambda e, X=X: e.transform(X),
            lambda e, X=X: e.score(X),
        )
        if isinstance(results, str):
            return
        assert np.isfinite(results[1]).all()
        assert np.isfinite(results[2])
        assert results[2] <= 1
