"""`AnomalyDetector`: thresholds on reconstruction errors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone, is_outlier_detector
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skae
from skae import (
    AnomalyDetector,
    ColumnErrorsDisplay,
    ConvAutoencoder,
    DenseAutoencoder,
)

LINEAR = DenseAutoencoder(4, hidden_layer_sizes=())

OF_TRAINING_ROWS = {
    "check_outliers_train": "with cv the share of outliers is that of rows that were held out",
    "check_outliers_fit_predict": "with cv the share of outliers is that of held-out rows",
}


# Checks have rows of one column, too, which one dimension reconstructs.
@pytest.mark.filterwarnings("ignore:estimator has codes of latent_dim_:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        AnomalyDetector(DenseAutoencoder(1, hidden_layer_sizes=())),
        AnomalyDetector(DenseAutoencoder(1, loss="mae", hidden_layer_sizes=(8,), max_epochs=4)),
        AnomalyDetector(ConvAutoencoder(1, channels=(4,), max_epochs=2)),
        AnomalyDetector(make_pipeline(StandardScaler(), DenseAutoencoder(1, max_epochs=2))),
        AnomalyDetector(DenseAutoencoder(1, hidden_layer_sizes=()), cv=2),
    ],
    expected_failed_checks=lambda detector: {} if detector.cv is None else OF_TRAINING_ROWS,
)
def test_scikit_learn_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:estimator has codes of latent_dim_:UserWarning")
@parametrize_with_checks([AnomalyDetector()])
def test_scikit_learn_checks_of_the_default(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


@pytest.fixture(scope="module")
def threes():
    X, y = load_digits(return_X_y=True)
    train, test = train_test_split(X[y == 3], test_size=60, random_state=0)
    return train, test, X[y == 7]


def test_the_threshold_is_a_quantile_of_the_training_scores(threes):
    train, _, sevens = threes
    detector = AnomalyDetector(LINEAR, contamination=0.2).fit(train)
    scores = clone(LINEAR).fit(train).score_samples(train)
    np.testing.assert_array_equal(detector.score_samples(train), scores)
    assert detector.offset_ == np.percentile(scores, 20)
    labels = detector.predict(train)
    np.testing.assert_array_equal(labels, np.where(scores < detector.offset_, -1, 1))
    assert (labels == -1).mean() == pytest.approx(0.2, abs=1 / len(train))
    np.testing.assert_array_equal(detector.fit_predict(train), labels)
    np.testing.assert_array_equal(detector.decision_function(train), scores - detector.offset_)
    assert (detector.predict(sevens) == -1).mean() > 0.95
    assert is_outlier_detector(detector)


def test_with_folds_the_threshold_is_that_of_rows_that_were_held_out(threes):
    train, test, _ = threes
    longer = DenseAutoencoder(16, hidden_layer_sizes=())
    detector = AnomalyDetector(longer, contamination=0.1, cv=5).fit(train)
    scores = np.empty(len(train))
    for fitted, held_out in KFold(5).split(train):
        scores[held_out] = clone(longer).fit(train[fitted]).score_samples(train[held_out])
    assert detector.offset_ == np.percentile(scores, 10)
    of_training_rows = clone(detector).set_params(cv=None).fit(train)
    shares = [(each.predict(test) == -1).mean() for each in (of_training_rows, detector)]
    assert shares[0] > 0.2  # where a tenth was meant
    assert shares[1] < 0.15
    np.testing.assert_array_equal(
        detector.score_samples(test), of_training_rows.score_samples(test)
    )


def test_splits_may_keep_groups_together(threes):
    train = threes[0]
    splits = list(GroupKFold(3).split(train, groups=np.arange(len(train)) % 7))
    detector = AnomalyDetector(LINEAR, cv=splits).fit(train)
    assert detector.offset_ < AnomalyDetector(LINEAR).fit(train).offset_
    some = AnomalyDetector(LINEAR, cv=splits[:1]).fit(train)  # not every row is held out
    assert np.isfinite(some.offset_)


@pytest.mark.parametrize("cv", [None, 3])
def test_every_kind_of_storage_gives_the_same_threshold(threes, cv):
    train = threes[0]
    expected = AnomalyDetector(LINEAR, cv=cv).fit(train)
    for same in (
        sp.csr_matrix(train),
        sp.csc_array(train),
        pd.DataFrame(train),
        train.tolist(),
    ):
        detector = AnomalyDetector(LINEAR, cv=cv).fit(same)
        assert detector.offset_ == pytest.approx(expected.offset_, rel=1e-5)
        np.testing.assert_array_equal(detector.predict(same), expected.predict(train))


def test_frames_of_polars_and_names(threes):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(threes[0], schema=[f"p{j}" for j in range(64)])
    detector = AnomalyDetector(LINEAR, cv=2).fit(frame)
    assert detector.feature_names_in_.tolist() == frame.columns
    assert detector.n_features_in_ == 64
    assert set(detector.predict(frame)) == {-1, 1}
    detector.fit(threes[0])
    assert not hasattr(detector, "feature_names_in_")


def test_pictures_and_pipelines_are_scored(threes):
    train, _, sevens = threes
    images = train.reshape(-1, 8, 8)
    conv = ConvAutoencoder(4, channels=(4,), max_epochs=2, random_state=0)
    detector = AnomalyDetector(conv, cv=2).fit(images)
    assert (detector.predict(sevens.reshape(-1, 8, 8)) == -1).mean() > 0.8
    pipeline = make_pipeline(StandardScaler(), clone(LINEAR))
    detector = AnomalyDetector(pipeline).fit(train)
    np.testing.assert_array_equal(
        detector.score_samples(sevens), clone(pipeline).fit(train).score_samples(sevens)
    )


def test_the_default_code_is_shorter_than_a_row(threes):
    assert AnomalyDetector(random_state=0).fit(threes[0][:, :20]).estimator_.latent_dim_ == 10
    few = AnomalyDetector(random_state=0).fit(threes[0][:9])
    assert few.estimator_.latent_dim_ == 9


def test_random_state_sets_that_of_the_autoencoder(threes):
    train = threes[0]
    networks = DenseAutoencoder(4, linear_path=False, hidden_layer_sizes=(8,), max_epochs=2)
    for estimator in (networks, make_pipeline(StandardScaler(), networks)):
        found = [AnomalyDetector(estimator, random_state=seed).fit(train) for seed in (3, 3, 4)]
        assert found[0].offset_ == found[1].offset_ != found[2].offset_
    assert networks.random_state is None
    assert not hasattr(networks, "module_")
    kept = AnomalyDetector(networks.set_params(random_state=5)).fit(train)
    assert kept.estimator_.random_state == 5


def test_a_search_ranks_detectors_by_labels(digits):
    X, y = digits[0][:400], np.where(digits[2][:400] == 3, 1, -1)
    search = GridSearchCV(
        AnomalyDetector(LINEAR),
        {"estimator__latent_dim": np.array([2, 8])},
        scoring="roc_auc",
        cv=2,
    ).fit(X, y)
    assert search.best_params_["estimator__latent_dim"] in (2, 8)
    expected = roc_auc_score(y, search.best_estimator_.score_samples(X))
    assert search.score(X, y) == pytest.approx(expected)


def test_a_stored_detector_predicts_the_same(threes, tmp_path):
    skops = pytest.importorskip("skops.io")
    detector = AnomalyDetector(LINEAR, cv=2).fit(threes[0])
    expected = detector.decision_function(threes[1])
    with pytest.raises(TypeError, match=r"got AnomalyDetector\. skops saves it whole"):
        skae.save(detector, tmp_path / "model.skae")
    skops.dump(detector, tmp_path / "model.skops")
    types = skops.get_untrusted_types(file=tmp_path / "model.skops")
    assert {name.split(".")[0] for name in types} == {"skae"}
    stored = skops.load(tmp_path / "model.skops", trusted=types)
    for copy in (pickle.loads(pickle.dumps(detector)), stored):
        np.testing.assert_array_equal(copy.decision_function(threes[1]), expected)


@pytest.mark.parametrize("wrap", [clone, make_pipeline])
def test_a_code_as_long_as_a_row_is_warned_of(threes, wrap):
    sentence = r"codes of latent_dim_=4 dimensions for rows of 4 columns, .* smaller latent_dim"
    with pytest.warns(UserWarning, match=sentence):
        AnomalyDetector(wrap(LINEAR)).fit(threes[0][:, 20:24])


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"contamination": 0.0}, r"'contamination' .* in the range \(0.0, 0.5\].* Got 0.0"),
        ({"contamination": 0.6}, r"'contamination' .* Got 0.6"),
        ({"contamination": "auto"}, r"'contamination' .* Got 'auto'"),
        ({"estimator": StandardScaler()}, r"'estimator' .* 'score_samples'.* Got StandardScaler"),
        ({"cv": 1.5}, r"'cv' parameter .* Got 1.5"),
    ],
)
def test_wrong_parameters_are_refused(threes, parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        AnomalyDetector(**parameters).fit(threes[0])


def test_numpy_numbers_are_numbers(threes):
    expected = AnomalyDetector(LINEAR, contamination=0.25, cv=2).fit(threes[0])
    found = AnomalyDetector(LINEAR, contamination=np.float32(0.25), cv=np.int64(2)).fit(threes[0])
    assert found.offset_ == expected.offset_


def test_a_detector_that_is_not_fitted_raises(threes):
    with pytest.raises(NotFittedError, match="AnomalyDetector"):
        AnomalyDetector(LINEAR).predict(threes[0])


def test_other_models_with_scores_are_taken(threes):
    detector = AnomalyDetector(PCA(4)).fit(threes[0])
    assert (detector.predict(threes[2]) == -1).mean() > 0.9


def test_the_display_of_columns_takes_a_detector(threes):
    pytest.importorskip("matplotlib").use("agg")
    detector = AnomalyDetector(LINEAR).fit(threes[0])
    display = ColumnErrorsDisplay.from_estimator(detector, threes[2], top=2)
    expected = detector.estimator_.reconstruction_errors(threes[2], mean=True)
    np.testing.assert_array_equal(display.errors, expected)
