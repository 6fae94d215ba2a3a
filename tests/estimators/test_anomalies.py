"""`AnomalyDetector`: thresholds on reconstruction errors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone, is_outlier_detector
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skae
from skae import (
    AnomalyDetector,
    ConvAutoencoder,
    DenseAutoencoder,
)

LINEAR = DenseAutoencoder(4, hidden_layer_sizes=())

OF_TRAINING_ROWS = {
    "check_outliers_train": "with cv the share of outliers is that of rows that were held out",
    "check_outliers_fit_predict": "with cv the share of outliers is that of held-out rows",
}

EQUIVALENCE = {
    f"check_sample_weight_equivalence_on_{kind}_data": "a repeated row has itself for a neighbour"
    for kind in ("dense", "sparse")
}


def expected_failures(detector):
    failures = {} if detector.cv is None else OF_TRAINING_ROWS
    return failures if detector.n_neighbors == 0 else {**failures, **EQUIVALENCE}


# Checks have rows of one column, too, which one dimension reconstructs.
@pytest.mark.filterwarnings("ignore:estimator has codes of latent_dim_:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        AnomalyDetector(DenseAutoencoder(1, hidden_layer_sizes=()), n_neighbors=0),
        AnomalyDetector(ConvAutoencoder(1, channels=(4,), hidden_layer_sizes=(8,), max_epochs=1)),
        AnomalyDetector(
            make_pipeline(
                StandardScaler(), DenseAutoencoder(1, hidden_layer_sizes=(8,), max_epochs=1)
            )
        ),
        AnomalyDetector(DenseAutoencoder(1, hidden_layer_sizes=()), cv=2),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


# Checks that fit a detector several times.
FITTED_OFTEN = {
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimators_dtypes",
    "check_fit_idempotent",
    "check_outliers_fit_predict",
    "check_outliers_train",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:estimator has codes of latent_dim_:UserWarning")
@parametrize_with_checks([AnomalyDetector()], expected_failed_checks=expected_failures)
def test_scikit_learn_checks_of_the_default(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    if check.func.__name__ in FITTED_OFTEN:  # the default trains for a second or more each time
        estimator.set_params(estimator=DenseAutoencoder(1, hidden_layer_sizes=(8,), max_epochs=1))
    check(estimator)


@pytest.fixture(scope="module")
def threes():
    X, y = load_digits(return_X_y=True)
    train, test = train_test_split(X[y == 3], test_size=60, random_state=0)
    return train, test, X[y == 7]


def test_the_threshold_is_a_quantile_of_the_training_scores(threes):
    train, _, sevens = threes
    detector = AnomalyDetector(LINEAR, contamination=0.2, n_neighbors=0).fit(train)
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
    detector = AnomalyDetector(longer, contamination=0.1, cv=5, n_neighbors=0).fit(train)
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


@pytest.mark.parametrize("whiten", [False, True])
def test_rows_far_from_all_codes_are_anomalies_though_they_are_reconstructed(whiten):
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 400)
    circle = np.column_stack([np.cos(angles), np.sin(angles)]) @ rng.normal(size=(2, 6))
    X = circle + 0.01 * rng.normal(size=(400, 6))
    plane = DenseAutoencoder(2, hidden_layer_sizes=(), whiten=whiten)
    centre = X.mean(axis=0, keepdims=True)  # of the ring of codes
    by_error = AnomalyDetector(plane, n_neighbors=0).fit(X[:300])
    detector = AnomalyDetector(plane, cv=3).fit(X[:300])
    assert by_error.predict(centre) == 1
    assert detector.predict(centre) == -1
    assert (detector.predict(X[300:]) == 1).mean() > 0.8


def test_scores_are_those_of_the_formula(threes):
    train, test, _ = threes
    detector = AnomalyDetector(LINEAR, n_neighbors=3).fit(train)
    pca = clone(LINEAR).fit(train)

    def errors_and_codes(rows):
        return -pca.score_samples(rows), pca.transform(rows)

    errors, codes = errors_and_codes(train)
    among = np.sort(((codes[:, None] - codes) ** 2).sum(axis=2), axis=1)
    t_train = errors + among[:, 3]  # the nearest is the row itself
    errors, new = errors_and_codes(test)
    squares = ((new[:, None] - codes) ** 2).sum(axis=2)
    nearest = squares.argsort(axis=1)[:, :3]
    t = errors + np.take_along_axis(squares, nearest, axis=1)[:, 2]
    expected = -(t**2) / t_train[nearest].mean(axis=1)
    np.testing.assert_allclose(detector.score_samples(test), expected, rtol=1e-6)


def test_every_kind_of_storage_gives_the_same_threshold(threes):
    train = threes[0]
    expected = AnomalyDetector(LINEAR, cv=3).fit(train)
    for same in (
        sp.csr_matrix(train),
        sp.csc_array(train),
        pd.DataFrame(train),
        train.tolist(),
    ):
        detector = AnomalyDetector(LINEAR, cv=3).fit(same)
        assert detector.offset_ == pytest.approx(expected.offset_, rel=1e-5)
        labels, scores = expected.predict(train), expected.decision_function(train)
        clear = np.abs(scores) > 1e-5 * np.abs(expected.offset_)  # the sums are of other blocks
        np.testing.assert_array_equal(detector.predict(same)[clear], labels[clear])


def test_pictures_and_pipelines_are_scored(threes):
    train, _, sevens = threes
    images = train.reshape(-1, 8, 8)
    conv = ConvAutoencoder(4, channels=(4,), max_epochs=2, random_state=0)
    detector = AnomalyDetector(conv, cv=2).fit(images)
    assert (detector.predict(sevens.reshape(-1, 8, 8)) == -1).mean() > 0.8
    pipeline = make_pipeline(StandardScaler(), clone(LINEAR))
    detector = AnomalyDetector(pipeline, n_neighbors=0).fit(train)
    np.testing.assert_array_equal(
        detector.score_samples(sevens), clone(pipeline).fit(train).score_samples(sevens)
    )


def test_a_pipeline_may_be_within_another(threes):
    train, _, sevens = threes
    flat = AnomalyDetector(make_pipeline(StandardScaler(), LINEAR))
    nested = AnomalyDetector(make_pipeline(make_pipeline(StandardScaler(), LINEAR)))
    weights, groups = np.arange(len(train)) % 3, np.arange(len(train)) % 7
    for detector in (flat, nested):
        detector.fit(train, sample_weight=weights, groups=groups)
    for method in ("score_samples", "reconstruction_errors"):
        expected = getattr(flat, method)(sevens)
        np.testing.assert_array_equal(getattr(nested, method)(sevens), expected)


def test_the_default_has_a_usable_threshold_for_few_rows_of_many_columns():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(30, 200)), rng.normal(size=(300, 200))
    with pytest.warns(UserWarning, match=r"30 rows of 200 columns, .* on held-out rows, cv=5"):
        detector = AnomalyDetector(random_state=0).fit(X)
    assert detector.estimator_.latent_dim_ == 7
    assert (detector.predict(new) == -1).mean() < 0.3
    assert (detector.predict(3 * new) == -1).all()
    assert AnomalyDetector(cv=5, random_state=0).fit(X).offset_ == detector.offset_


def test_weights_reach_the_autoencoder_and_the_threshold(threes):
    train, _, sevens = threes
    X = np.vstack([train, sevens[:20]])
    weights = np.r_[np.ones(len(train)), np.zeros(20)]
    for estimator in (LINEAR, make_pipeline(StandardScaler(with_mean=False), LINEAR)):
        detector = AnomalyDetector(estimator).fit(X, sample_weight=weights)
        assert (detector.predict(sevens[20:]) == -1).mean() > 0.9
        assert (detector.predict(train) == -1).mean() == pytest.approx(0.1, abs=0.02)
    direct = clone(LINEAR).fit(X, sample_weight=weights)
    weighted = AnomalyDetector(LINEAR, n_neighbors=0).fit(X, sample_weight=weights)
    np.testing.assert_allclose(weighted.score_samples(train), direct.score_samples(train))
    folds = AnomalyDetector(LINEAR, cv=3).fit(train, sample_weight=np.ones(len(train)))
    assert folds.offset_ == pytest.approx(AnomalyDetector(LINEAR, cv=3).fit(train).offset_)


def test_groups_reach_the_autoencoder_and_the_folds(threes):
    train, groups = threes[0], np.arange(len(threes[0])) % 7

    class Recorded(DenseAutoencoder):
        fits = []

        def fit(self, X, y=None, sample_weight=None, groups=None):
            self.fits.append(groups)
            return super().fit(X, y, sample_weight, groups)

    AnomalyDetector(Recorded(4, hidden_layer_sizes=()), cv=3).fit(train, groups=groups)
    whole, *folds = Recorded.fits
    np.testing.assert_array_equal(whole, groups)
    assert len(folds) == 3
    assert all(len(set(fold)) < 7 for fold in folds)  # whole groups are held out
    mixture = GaussianMixture(random_state=0)  # whose fit takes no groups
    folds = GroupKFold(3).split(train, groups=groups)
    assert (
        AnomalyDetector(mixture, cv=3).fit(train, groups=groups).offset_
        == AnomalyDetector(mixture, cv=folds).fit(train).offset_
    )
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(LINEAR).set_fit_request(groups=True)
        assert AnomalyDetector(routed).fit(train, groups=groups).offset_ < 0


def test_labels_reach_an_autoencoder_that_takes_them(digits):
    X, y = digits[0][:300], digits[2][:300]
    supervised = DenseAutoencoder(4, hidden_layer_sizes=(16,), max_epochs=2, supervision=1.0)
    for cv in (2, StratifiedKFold(2)):
        assert AnomalyDetector(supervised, cv=cv, random_state=0).fit(X, y).offset_ < 0
    np.testing.assert_array_equal(
        AnomalyDetector(LINEAR).fit(X, np.full(300, np.nan)).score_samples(X),
        AnomalyDetector(LINEAR).fit(X).score_samples(X),
    )


def test_errors_by_column_are_those_of_the_autoencoder(threes):
    train, _, sevens = threes
    detector = AnomalyDetector(make_pipeline(StandardScaler(), LINEAR), n_neighbors=0).fit(train)
    errors = detector.reconstruction_errors(sevens)
    np.testing.assert_allclose(errors.sum(axis=1), -detector.score_samples(sevens))
    largest, columns = detector.reconstruction_errors(sevens, top=2)
    np.testing.assert_allclose(largest, np.take_along_axis(errors, columns, axis=1))
    assert not hasattr(AnomalyDetector(PCA(2)), "reconstruction_errors")


def test_missing_entries_are_scored_by_the_observed_ones(threes):
    train, _, sevens = threes
    missing = DenseAutoencoder(4, hidden_layer_sizes=(), missing_values=np.nan)
    hidden = np.where(np.random.default_rng(0).random(sevens.shape) < 0.1, np.nan, sevens)
    detector = AnomalyDetector(missing).fit(train)
    assert (detector.predict(hidden) == -1).mean() > 0.8
    with pytest.raises(ValueError, match=r"NaN in all columns of 1 row\(s\), the first at index 2"):
        detector.predict(np.vstack([sevens[:2], np.full((1, 64), np.nan)]))


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
        AnomalyDetector(wrap(LINEAR), n_neighbors=0).fit(threes[0][:, 20:24])


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"contamination": 0.0}, r"'contamination' .* in the range \(0.0, 0.5\].* Got 0.0"),
        ({"contamination": 0.6}, r"'contamination' .* Got 0.6"),
        ({"contamination": "auto"}, r"'contamination' .* Got 'auto'"),
        ({"estimator": StandardScaler()}, r"'estimator' .* 'score_samples'.* Got StandardScaler"),
        ({"cv": 1.5}, r"'cv' parameter .* Got 1.5"),
        ({"estimator": LINEAR, "cv": []}, r"cv=\[\] holds out no row: it must have .* split"),
    ],
)
def test_wrong_parameters_are_refused(threes, parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        AnomalyDetector(**parameters).fit(threes[0])
