"""`groups`: rows that are held out together for validation."""

import datetime
from functools import partial

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline

from skae import ConvAutoencoder, DenseAutoencoder
from skae._data.splits import held_out_rows

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


@pytest.fixture
def splits(monkeypatch):
    """The groups, the training rows and the validation rows of each split that is made."""
    made = []

    def spy(n_rows, fraction, rng, groups=None):
        parts = held_out_rows(n_rows, fraction, rng, groups)
        made.append((groups, *parts))
        return parts

    for module in ("_training.selection", "_training.plain", "_pca.holdout"):
        monkeypatch.setattr(f"skae.{module}.held_out_rows", spy)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_validation_rows_are_whole_groups(kind, rows, groups, splits):
    KINDS[kind]().fit(rows, groups=groups)
    ((_, fitted, validation),) = splits
    assert len(validation) == pytest.approx(120, abs=10)
    assert not set(groups[fitted]) & set(groups[validation])


@pytest.mark.parametrize("kind", KINDS)
def test_groups_change_what_is_learnt_and_their_names_do_not(kind, rows, groups):
    model = KINDS[kind]().fit(rows, groups=groups)
    names = np.array([f"patient {number}" for number in groups], dtype=object)
    renamed = KINDS[kind]().fit(rows, groups=names)
    np.testing.assert_array_equal(renamed.transform(rows), model.transform(rows))
    if kind != "share of variance":
        other = KINDS[kind]().fit(rows)
        assert model.history_[0]["valid_loss"] != other.history_[0]["valid_loss"]


STORAGES = {
    "sparse": sp.csr_matrix,
    "dask": lambda X: da.from_array(X, chunks=(250, 64)),
    "frame": pd.DataFrame,
}


@pytest.mark.parametrize("storage", STORAGES)
def test_groups_work_with_every_storage_of_rows(storage, rows, groups, splits):
    KINDS["scores"]().fit(STORAGES[storage](rows), groups=groups)
    KINDS["scores"]().fit(rows, groups=groups)
    (_, _, found), (_, _, expected) = splits
    np.testing.assert_array_equal(found, expected)


FORMS = {
    "list": list,
    "strings": lambda groups: [f"file {number}" for number in groups],
    "floats": lambda groups: groups.astype(np.float32),
    "series": lambda groups: pd.Series(groups, index=np.arange(600)[::-1]),
    "categories": lambda groups: pd.Series([f"g{number}" for number in groups], dtype="category"),
    "nullable": lambda groups: pd.Series(groups, dtype="Int64"),
    "tuples": lambda groups: [("film", number) for number in groups],
    "mixed": lambda groups: [str(n) if n % 2 else int(n) for n in groups],
    "dates": lambda groups: [datetime.date.fromordinal(1000 + n) for n in groups],
    "datetimes": lambda groups: groups.astype("datetime64[D]"),
    "dask": lambda groups: da.from_array(groups, chunks=100),
    "bytes": lambda groups: groups.astype("S"),
}


@pytest.mark.parametrize("form", FORMS)
def test_groups_are_of_any_type(form, rows, groups, splits):
    KINDS["scores"]().fit(rows, groups=FORMS[form](groups))
    KINDS["scores"]().fit(rows, groups=groups)
    (_, _, found), (_, _, expected) = splits
    np.testing.assert_array_equal(found, expected)


def test_a_number_and_the_same_number_as_a_string_are_two_groups(rows, splits):
    KINDS["scores"]().fit(rows, groups=[7] * 300 + ["7"] * 300)
    ((_, fitted, validation),) = splits
    assert len(fitted) == len(validation) == 300


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
@pytest.mark.parametrize("kind", ["scores", "pictures"])
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


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_weight_zero_are_left_out_with_their_groups(kind, rows, groups):
    weights = (np.random.default_rng(1).random(600) < 0.6).astype(float)
    counts = weights > 0
    weighted = KINDS[kind]().fit(rows, sample_weight=weights, groups=groups)
    expected = KINDS[kind]().fit(rows[counts], groups=groups[counts])
    np.testing.assert_array_equal(weighted.transform(rows), expected.transform(rows))


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


def test_fit_transform_passes_groups_on(rows, groups):
    expected = KINDS["scores"]().fit(rows, groups=groups).transform(rows)
    codes = KINDS["scores"]().fit_transform(rows, groups=groups)
    np.testing.assert_array_equal(codes, expected)


# -- Metadata routing of scikit-learn -------------------------------------------------------------


def pipeline(kind):
    model = KINDS[kind]()
    if sklearn.get_config()["enable_metadata_routing"]:
        model.set_fit_request(groups=True)
    return Pipeline([("ae", model), ("classifier", LogisticRegression(max_iter=2000))])


def assert_groups_arrived(splits, groups):
    for found, fitted, validation in splits:
        assert found is not None
        assert not set(found[fitted]) & set(found[validation])
    assert {len(found) for found, _, _ in splits} <= {
        len(groups),
        *(len(train) for train, _ in GroupKFold(3).split(groups, groups=groups)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scores", "pictures"])
def test_a_pipeline_routes_groups_to_fit(kind, rows, groups, digits, splits):
    with sklearn.config_context(enable_metadata_routing=True):
        routed = pipeline(kind).fit(rows, digits[2][:600], groups=groups)
    by_name = pipeline(kind).fit(rows, digits[2][:600], ae__groups=groups)
    assert len(splits) == 2
    assert_groups_arrived(splits, groups)
    codes = [fitted["ae"].transform(rows) for fitted in (routed, by_name)]
    np.testing.assert_array_equal(*codes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scores", "pictures"])
def test_a_search_routes_groups_to_the_splitter_and_to_fit(kind, rows, groups, digits, splits):
    with sklearn.config_context(enable_metadata_routing=True):
        grid = {"ae__latent_dim": [2, 3]}
        search = GridSearchCV(pipeline(kind), grid, cv=GroupKFold(3), error_score="raise")
        search.fit(rows, digits[2][:600], groups=groups)
    assert len(splits) == 2 * 3 + 1
    assert_groups_arrived(splits, groups)
    # Only the splitter of groups leaves out whole groups of each training fold.
    assert all(len(set(found)) < 60 for found, _, _ in splits[:-1])


@pytest.mark.slow
def test_groups_that_are_not_requested_reach_the_splitter_alone(rows, groups, digits, splits):
    with sklearn.config_context(enable_metadata_routing=True):
        model = KINDS["scores"]().set_fit_request(groups=False)
        cross_val_score(model, rows, cv=GroupKFold(3), params={"groups": groups})
    search = GridSearchCV(pipeline("scores"), {"ae__latent_dim": [2]}, cv=GroupKFold(3))
    search.fit(rows, digits[2][:600], groups=groups)
    assert len(splits) == 3 + 4
    assert all(found is None for found, _, _ in splits)


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_what_fit_can_request(kind):
    with sklearn.config_context(enable_metadata_routing=True):
        model = kind().set_fit_request(groups=True, sample_weight=True)
        assert model.get_metadata_routing().consumes("fit", {"groups", "sample_weight", "y"}) == {
            "groups",
            "sample_weight",
        }
