"""`supervision`: labels take part in training, and only where they help."""

import json
import pickle

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

import skae
from skae import ConvAutoencoder, DenseAutoencoder
from skae._nn.penalties import LabelHead

LABEL_STAGE = "training with labels"


def accuracy(codes_of, digits, labelled=slice(None)):
    X_train, X_test, y_train, y_test = digits
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(codes_of.transform(X_train[labelled]), y_train[labelled])
    return classifier.score(codes_of.transform(X_test), y_test)


def stages(autoencoder):
    return list(dict.fromkeys(epoch["stage"] for epoch in autoencoder.history_))


@pytest.fixture(scope="module")
def make():
    def make(latent_dim=8, kind=DenseAutoencoder, **parameters):
        settings = {"random_state": 0}
        if kind is DenseAutoencoder:
            settings["hidden_layer_sizes"] = (64,)
        else:
            settings |= {"input_shape": (8, 8), "channels": (8,), "hidden_layer_sizes": (32,)}
        return kind(latent_dim, **{**settings, **parameters})

    return make


@pytest.fixture(scope="module")
def without_labels(make, digits):
    return make(hidden_layer_sizes=(128, 64), max_epochs=30).fit(digits[0])


@pytest.fixture(scope="module")
def with_labels(make, digits):
    labelled = make(supervision=1.0, hidden_layer_sizes=(128, 64), max_epochs=30)
    return labelled.fit(digits[0], digits[2])


def test_codes_classify_new_rows_better_and_still_explain_more_than_pca(
    with_labels, without_labels, digits
):
    assert accuracy(with_labels, digits) > accuracy(without_labels, digits) + 0.005
    pca = DenseAutoencoder(8, hidden_layer_sizes=()).fit(digits[0])
    assert with_labels.score(digits[1]) > pca.score(digits[1]) + 0.03
    assert stages(with_labels) == [LABEL_STAGE]
    assert with_labels.nonlinear_gain_ > 0.05


@pytest.mark.parametrize(
    ("kind", "linear_path", "n_epochs"),
    [(DenseAutoencoder, False, 24), (ConvAutoencoder, True, 8), (ConvAutoencoder, False, 8)],
)
def test_both_estimators_take_labels_on_both_paths(make, digits, kind, linear_path, n_epochs):
    X_train, _, y_train, _ = digits
    parameters = {"kind": kind, "linear_path": linear_path, "max_epochs": n_epochs}
    plain = make(4, **parameters).fit(X_train[:900], y_train[:900])
    supervised = make(4, supervision=1.0, **parameters).fit(X_train[:900], y_train[:900])
    assert accuracy(supervised, digits) > accuracy(plain, digits) + 0.01


def test_zero_and_labels_without_information_change_no_bit(make, digits):
    X, X_test, y = digits[0][:500], digits[1], digits[2][:500]
    expected = make(max_epochs=8).fit(X).transform(X_test)
    zero = make(max_epochs=8, supervision=0).fit(X, ["any", "thing"])
    np.testing.assert_array_equal(zero.transform(X_test), expected)
    shuffled = np.random.default_rng(0).permutation(y)
    autoencoder = make(max_epochs=8, supervision=1.0).fit(X, shuffled)
    assert stages(autoencoder) == [LABEL_STAGE, "training"]
    np.testing.assert_array_equal(autoencoder.transform(X_test), expected)


@pytest.mark.slow
def test_rows_without_a_label_are_marked_by_minus_one(make, digits):
    X_train, X_test, y_train, _ = digits
    labelled = np.random.default_rng(0).random(len(y_train)) < 0.5
    y = np.where(labelled, y_train, -1)
    autoencoder = make(supervision=0.3, max_epochs=30).fit(X_train, y)
    # A classifier that also has only these labels; PCA's codes are what it must not fall behind.
    pca = DenseAutoencoder(8, hidden_layer_sizes=()).fit(X_train)
    assert accuracy(autoencoder, digits, labelled) > accuracy(pca, digits, labelled) + 0.02
    assert autoencoder.score(X_test) > pca.score(X_test) + 0.03


@pytest.mark.parametrize(
    "convert",
    [
        lambda y: np.array(["b", "d", "a", "c"])[y].tolist(),
        lambda y: y.astype(float),
        lambda y: 7 + 10 * y[:, None],
        lambda y: np.array(["b", "d", "a", "c"], dtype=object)[y],
    ],
    ids=["strings", "floats", "column", "objects"],
)
def test_classes_may_be_of_any_type(make, digits, convert):
    X, y = digits[0][:400], digits[2][:400] % 4
    expected = make(4, supervision=1.0, max_epochs=2).fit(X, y)
    found = make(4, supervision=1.0, max_epochs=2).fit(X, convert(y))
    assert stages(found)[0] == LABEL_STAGE
    # The order of the classes is another, and so the last bits.
    np.testing.assert_allclose(found.transform(X), expected.transform(X), rtol=0.01, atol=0.1)


@pytest.mark.slow
def test_regression_targets(make, digits):
    X_train, X_test = digits[:2]
    # What the leading directions do not contain.
    targets = [np.sqrt(1 + X[:, 20:23].sum(axis=1)) for X in (X_train, X_test)]
    labelled = np.random.default_rng(0).random(len(X_train)) <= 0.5
    y = np.where(labelled, targets[0], np.nan)

    def r2(autoencoder):
        regressor = make_pipeline(StandardScaler(), Ridge())
        regressor.fit(autoencoder.transform(X_train), targets[0])
        return regressor.score(autoencoder.transform(X_test), targets[1])

    supervised = make(4, supervision=1.0, max_epochs=30).fit(X_train, y)
    assert stages(supervised) == [LABEL_STAGE]
    assert supervised.history_[-1]["valid_label_loss"] < 1  # of standardised targets
    assert r2(supervised) > r2(make(4, max_epochs=30).fit(X_train)) + 0.05


def test_sample_weight_counts_in_the_labels(make, digits):
    X, y = digits[0][:400], digits[2][:400]
    weights = np.where(y < 5, 1.0, 0.0)
    whole = make(4, supervision=1.0, max_epochs=4).fit(X, y, sample_weight=weights)
    part = make(4, supervision=1.0, max_epochs=4).fit(X[y < 5], y[y < 5])
    np.testing.assert_array_equal(whole.transform(X), part.transform(X))
    with pytest.raises(ValueError, match="two classes"):
        make(supervision=1.0).fit(X, y, sample_weight=(y == 3).astype(float))
    uneven = make(4, supervision=1.0, max_epochs=4).fit(X, y, sample_weight=1 + (y == 3))
    assert uneven.history_[0]["train_label_loss"] != whole.history_[0]["train_label_loss"]


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (None, r"supervision=1 needs y.*got None"),
        (np.arange(9) % 2, r"one class or one target for each row, got 9 for 40 rows"),
        (np.full(40, -1), "two classes at least, got no row with one"),
        (np.full(40, np.nan), "two classes at least, got no row with one"),
        (np.ones(40), "two classes at least, got 1.0 for every row"),
        (["a"] * 40, "two classes at least, got a for every row"),
        (np.where(np.arange(40) > 30, np.nan, np.arange(40) % 3), "y has NaN among its classes"),
        (np.where(np.arange(40) > 30, np.nan, 0.5), "two different targets at least, got 0.5"),
        (np.r_[np.inf, np.arange(39) / 3], "y has infinite values"),
        (["a", 1] * 20, "y has numbers and strings: classes must be of one type"),
        (np.array(["a", 1] * 20, dtype=object), "y has numbers and strings"),
        (["a", None] * 20, "y has 20 missing value"),
        (["a", np.nan] * 20, "y has 20 missing value"),
        ([1, None] * 20, "y has 20 missing value"),
        ([["a"], ["b", "c"]] * 20, "y has list: classes must be of one type"),
        (np.zeros((40, 2)), r"one target for each row, got an array of shape \(40, 2\)"),
        (sp.csr_matrix(np.eye(40)), "got a sparse matrix"),
        (np.ones(40, dtype=complex), "got values of type complex128"),
        (np.full(40, "2020-01-01", dtype="datetime64[D]"), "got values of type datetime64"),
    ],
)
def test_bad_labels_are_refused(make, digits, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(4, supervision=1.0).fit(digits[0][:40], y)


def test_a_fit_without_networks_refuses_labels(make, digits):
    with pytest.raises(ValueError, match=r"supervision=1 needs networks"):
        make(supervision=1.0, hidden_layer_sizes=()).fit(digits[0], digits[2])


def test_pipelines_and_searches_pass_labels(make, digits):
    X, y = digits[0][:600], digits[2][:600]
    pipeline = make_pipeline(make(4, max_epochs=8), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"denseautoencoder__supervision": [0.0, 3.0]}, cv=2)
    search.fit(X, y)
    plain, supervised = search.cv_results_["mean_test_score"]
    assert supervised > plain
    assert search.best_params_ == {"denseautoencoder__supervision": 3.0}


def test_what_is_fitted_holds_no_head(with_labels, digits, tmp_path):
    assert not any(isinstance(part, LabelHead) for part in with_labels.module_.modules())
    skae.save(with_labels, tmp_path / "model.skae")
    for copy in (skae.load(tmp_path / "model.skae"), pickle.loads(pickle.dumps(with_labels))):
        assert copy.supervision == 1.0
        assert not any("head" in name for name, _ in copy.module_.named_modules())
        np.testing.assert_array_equal(copy.transform(digits[1]), with_labels.transform(digits[1]))


def test_the_same_random_state_gives_the_same_bits(make, digits):
    X, y = digits[0][:600], digits[2][:600]
    model = make(4, supervision=1.0, max_epochs=4).fit(X, y)
    codes = model.transform(X)
    np.testing.assert_array_equal(clone(model).fit(X, y).transform(X), codes)
    of_blocks = clone(model).fit(da.from_array(X, chunks=(250, 64)), y)
    assert of_blocks.score(X) == pytest.approx(model.score(X), abs=0.01)


def test_history_has_the_label_loss(with_labels, without_labels):
    first, last = with_labels.history_[0], with_labels.history_[-1]
    for key in ("train_label_loss", "valid_label_loss"):
        assert 0 < last[key] < first[key] < 1.2 * np.log(10)
    assert not any("label_loss" in key for epoch in without_labels.history_ for key in epoch)
    json.dumps(with_labels.history_)


class Killer(Callback):
    """Ends a fit at a given epoch of all."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        self.epoch -= 1
        if self.epoch < 0:
            raise RuntimeError("killed")


@pytest.mark.parametrize("parameters", [{}, {"linear_path": False, "penalty": "variational"}])
def test_a_killed_fit_goes_on_to_the_same_codes(make, digits, tmp_path, parameters):
    X, y = digits[0][:300], digits[2][:300]
    parameters = {"supervision": 1.0, "max_epochs": 5, **parameters}
    expected = make(4, **parameters).fit(X, y)
    killed = make(4, checkpoint=tmp_path, callbacks=[Killer(3)], **parameters)
    with pytest.raises(RuntimeError, match="killed"):
        killed.fit(X, y)
    with pytest.raises(ValueError, match="another y"):
        make(4, checkpoint=tmp_path, **parameters).fit(X, y[::-1])
    resumed = make(4, checkpoint=tmp_path, **parameters).fit(X, y)
    np.testing.assert_array_equal(resumed.transform(X), expected.transform(X))


BRIEF = {"hidden_layer_sizes": (8,), "max_epochs": 2, "supervision": 1.0, "random_state": 0}


def test_many_whole_numbers_are_classes_or_targets_by_what_the_user_says(digits):
    X = digits[0][:200]
    y = np.arange(200) % 50
    either = r"y has 50 different whole numbers of type float64 in 200 rows: pass y.astype\(int\)"
    with pytest.raises(ValueError, match=either + r" for classes, and pass y \+ 0.5 for a regr"):
        DenseAutoencoder(3, **BRIEF).fit(X, y.astype(float))
    with pytest.warns(UserWarning, match=r"50 different whole numbers of type int64 .* classes"):
        DenseAutoencoder(3, **BRIEF).fit(X, y)
    half, other = (DenseAutoencoder(3, **BRIEF).fit(X, y + shift) for shift in (0.5, 0.25))
    np.testing.assert_allclose(half.transform(X), other.transform(X), rtol=1e-3, atol=1e-3)
    DenseAutoencoder(3, **BRIEF).fit(X, (y % 20).astype(float))  # few are classes


def test_targets_may_be_tensors_of_bfloat16_and_masked_arrays(digits):
    X, y = digits[0][:200], digits[2][:200] + 0.5
    model = DenseAutoencoder(2, supervision=1.0, hidden_layer_sizes=(8,), max_epochs=1)
    model.set_params(random_state=0)
    hidden = model.fit(X, np.ma.masked_array(y, y > 5)).history_
    assert hidden[0]["train_label_loss"] == pytest.approx(
        model.fit(X, np.where(y > 5, np.nan, y)).history_[0]["train_label_loss"]
    )
    assert LABEL_STAGE in stages(model.fit(X, torch.from_numpy(y).bfloat16()))
    with pytest.raises(ValueError, match="y has NaN among its classes"):
        model.fit(X, np.ma.masked_array(digits[2][:200], y > 5))


def test_labels_count_where_pca_leaves_next_to_nothing():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=800)
    X = rng.normal(size=(800, 10)) * np.array([1] * 9 + [0.01])
    # One class is a ring around the other, which no linear code tells apart.
    X[:, :2] *= ((1 + 2 * y) / np.linalg.norm(X[:, :2], axis=1))[:, None]
    model = DenseAutoencoder(9, supervision=1.0, hidden_layer_sizes=(64,), random_state=0)
    codes = model.fit(X[:600], y[:600]).transform(X)
    assert stages(model) == [LABEL_STAGE]
    classifier = LogisticRegression().fit(codes[:600], y[:600])
    assert classifier.score(codes[600:], y[600:]) > 0.9
    assert model.score(X[600:]) > 0.95


@pytest.mark.parametrize("n_columns", [1, 5])
def test_labels_that_say_nothing_end_a_training_where_pca_leaves_nothing(n_columns):
    y = np.arange(200) % 2
    X = np.random.default_rng(0).normal(size=(200, 5))
    X[:, n_columns:] = 1.0
    constant = DenseAutoencoder(2, supervision=1.0).fit(np.ones((200, 5)), y)
    assert constant.code_is_pca_
    assert constant.history_ == []
    model = DenseAutoencoder(n_columns, supervision=1.0, random_state=0).fit(X, y)
    assert model.code_is_pca_
    assert len(model.history_) < 200
