"""`groups`: rows that are held out together for validation."""

from functools import partial

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

from skae import ConvAutoencoder, DenseAutoencoder

BRIEF = {"max_epochs": 3, "random_state": 0, "validation_fraction": 0.2}
KINDS = {
    "scores": partial(DenseAutoencoder, 4, hidden_layer_sizes=(16,), **BRIEF),
    "share of variance": partial(DenseAutoencoder, 0.7, hidden_layer_sizes=(), **BRIEF),
    "plain": partial(DenseAutoencoder, 4, hidden_layer_sizes=(16,), linear_path=False, **BRIEF),
    "pictures": partial(ConvAutoencoder, 4, input_shape=(8, 8), channels=(4,), **BRIEF),
}


@pytest.fixture(scope="module")
def rows(digits):
    return digits[0][:600]


@pytest.fixture(scope="module")
def groups():
    return np.random.default_rng(0).integers(0, 60, size=600)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_change_what_is_learnt_and_rows_of_weight_zero_are_left_out(kind, rows, groups):
    model = KINDS[kind]().fit(rows, groups=groups)
    names = np.array([f"patient {number}" for number in groups], dtype=object)
    renamed = KINDS[kind]().fit_transform(rows, groups=names)
    np.testing.assert_array_equal(renamed, model.transform(rows))
    if kind != "share of variance":
        other = KINDS[kind]().fit(rows)
        assert model.history_[0]["valid_loss"] != other.history_[0]["valid_loss"]
    weights = (np.random.default_rng(1).random(600) < 0.6).astype(float)
    counts = weights > 0
    weighted = KINDS[kind]().fit(rows, sample_weight=weights, groups=groups)
    expected = KINDS[kind]().fit(rows[counts], groups=groups[counts])
    np.testing.assert_array_equal(weighted.transform(rows), expected.transform(rows))


FORMS = {
    "strings": lambda groups: [f"file {number}" for number in groups],
    "series": lambda groups: pd.Series(groups, index=np.arange(600)[::-1]),
    "categories": lambda groups: pd.Series([f"g{number}" for number in groups], dtype="category"),
    "tuples": lambda groups: [("film", number) for number in groups],
    "mixed": lambda groups: [str(n) if n % 2 else int(n) for n in groups],
    "datetimes": lambda groups: groups.astype("datetime64[D]"),
    "dask": lambda groups: da.from_array(groups, chunks=100),
}


def test_groups_are_of_any_type_and_rows_in_any_storage(rows, groups):
    expected = KINDS["scores"]().fit(rows, groups=groups)
    losses = [epoch["valid_loss"] for epoch in expected.history_]
    for form in FORMS.values():
        found = KINDS["scores"]().fit(rows, groups=form(groups))
        assert [epoch["valid_loss"] for epoch in found.history_] == losses
    for same in (sp.csr_matrix(rows), da.from_array(rows, chunks=(250, 64)), pd.DataFrame(rows)):
        found = KINDS["scores"]().fit(same, groups=groups)
        assert [epoch["valid_loss"] for epoch in found.history_] == pytest.approx(losses, rel=0.01)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (np.zeros(599), r"groups must be .*\(n_samples,\) = \(600,\).* got the shape \(599,\)"),
        ([1, 2], r"groups must be .* got the shape \(2,\)"),
        (np.zeros((600, 1)), r"groups must be .* got the shape \(600, 1\)"),
        (3, r"groups must be .* got the shape \(\)"),
        ("file", r"groups must be .* got the shape \(\)"),
        ({1, 2}, r"groups must be .* got the shape \(\)"),
        (np.r_[np.zeros(599), np.nan], "groups must have a group for each row of X, got nan"),
        (["a"] * 599 + [float("nan")], "groups must have a group for each row of X, got nan"),
        (["a"] * 599 + [None], "groups must have a group for each row of X, got None"),
        (pd.Series([1] * 599 + [None], dtype="Int64"), r"groups must have a group .* got nan"),
        ([1] * 599 + [pd.NA], r"groups must have a group .* got <NA>"),
        (np.array([1] * 599 + ["NaT"], dtype="datetime64[s]"), "groups must have a group"),
        ([["a"]] * 600, r"groups must be numbers, strings .*, got \['a'\] in it"),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("kind", ["scores"])
def test_bad_groups_are_refused(kind, bad, sentence, rows):
    model = KINDS[kind]()
    with pytest.raises(ValueError, match=sentence):
        model.fit(rows, groups=bad)
    assert not hasattr(model, "mean_")


def test_a_single_group_is_as_no_groups_and_warns(rows):
    with pytest.warns(UserWarning, match="groups has a single group for all 600 rows"):
        model = KINDS["scores"]().fit(rows, groups=["only"] * 600)
    expected = KINDS["scores"]().fit(rows)
    np.testing.assert_array_equal(model.transform(rows), expected.transform(rows))


def test_groups_of_which_no_row_counts_are_no_groups(rows):
    groups = np.repeat(["a", "b"], 300)
    with pytest.warns(UserWarning, match="groups has a single group for all 300 rows"):
        KINDS["scores"]().fit(rows, sample_weight=np.repeat([1, 0], 300), groups=groups)


def test_a_checkpoint_of_other_groups_is_refused(rows, groups, tmp_path):
    model = KINDS["scores"](checkpoint=tmp_path / "fit")
    codes = model.fit(rows, groups=groups).transform(rows)
    again = model.fit(rows, groups=[f"group {number}" for number in groups])
    np.testing.assert_array_equal(again.transform(rows), codes)
    for other in (None, groups[::-1]):
        with pytest.raises(ValueError, match="other groups"):
            model.fit(rows, groups=other)


def test_the_cached_basis_serves_all_groups(rows, groups, tmp_path):
    expected = KINDS["scores"]().fit(rows, groups=groups).transform(rows)
    KINDS["scores"](memory=str(tmp_path)).fit(rows)
    cached = KINDS["scores"](memory=str(tmp_path)).fit(rows, groups=groups)
    np.testing.assert_array_equal(cached.transform(rows), expected)


# -- Metadata routing of scikit-learn -------------------------------------------------------------


def test_routing_passes_groups_to_the_splitter_and_to_fit(rows, groups, digits):
    y, expected = digits[2][:600], KINDS["scores"]().fit(rows, groups=groups).transform(rows)
    steps = [("ae", KINDS["scores"]()), ("classifier", GaussianNB())]
    by_name = clone(Pipeline(steps)).fit(rows, y, ae__groups=groups)
    np.testing.assert_array_equal(by_name["ae"].transform(rows), expected)
    with sklearn.config_context(enable_metadata_routing=True):
        steps[0][1].set_fit_request(groups=True)
        search = GridSearchCV(Pipeline(steps), {"ae__latent_dim": [4]}, cv=GroupKFold(2))
        search.fit(rows, y, groups=groups)
        np.testing.assert_array_equal(search.best_estimator_["ae"].transform(rows), expected)
        folds = GroupKFold(2).split(rows, groups=groups)
        scores = [
            clone(Pipeline(steps))
            .fit(rows[train], y[train], groups=groups[train])
            .score(rows[test], y[test])
            for train, test in folds
        ]
        assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(scores))
    search = GridSearchCV(clone(Pipeline(steps)), {"ae__latent_dim": [4]}, cv=GroupKFold(2))
    without = search.fit(rows, y, groups=groups).best_estimator_["ae"].transform(rows)
    np.testing.assert_array_equal(without, KINDS["scores"]().fit(rows).transform(rows))


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_what_fit_can_request(kind):
    with sklearn.config_context(enable_metadata_routing=True):
        model = kind().set_fit_request(groups=True, sample_weight=True)
        assert model.get_metadata_routing().consumes("fit", {"groups", "sample_weight", "y"}) == {
            "groups",
            "sample_weight",
        }
