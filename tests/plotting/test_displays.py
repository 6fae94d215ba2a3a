import builtins
from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skae
from skae import (
    AnomalyDetector,
    ByteBigrams,
    ColumnErrorsDisplay,
    ConvAutoencoder,
    DenseAutoencoder,
    DimensionsDisplay,
    LatentDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    VarianceDisplay,
)
from skae._data.splits import held_out_runs

DISPLAYS = [getattr(skae, name) for name in skae.__all__ if name.endswith("Display")]


@pytest.fixture(autouse=True)
def figures():
    """Agg draws figures without a window; they are closed afterwards."""
    backend = matplotlib.get_backend()
    plt.switch_backend("agg")
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")
    plt.switch_backend(backend)


@pytest.fixture(scope="module")
def linear(digits):
    return DenseAutoencoder(4, hidden_layer_sizes=()).fit(digits[0])


@pytest.fixture(scope="module")
def pca(digits):
    return PCA(4).fit(digits[0])


@pytest.fixture(scope="module")
def trained(digits):
    autoencoder = DenseAutoencoder(4, hidden_layer_sizes=(32,), max_epochs=8, random_state=0).fit(
        digits[0]
    )
    assert autoencoder.nonlinear_gain_ > 0
    return autoencoder


def boxes(artists):
    artists[0].figure.canvas.draw()
    return [artist.get_window_extent() for artist in artists]


def overlap(one, other):
    return (
        min(one.x1, other.x1) > max(one.x0, other.x0) + 0.5
        and min(one.y1, other.y1) > max(one.y0, other.y0) + 0.5
    )


def assert_legible(display, texts, inside=None):
    """No text overlaps another, and all are inside the figure or the artist ``inside``."""
    found = boxes(texts)
    assert not any(overlap(*pair) for pair in combinations(found, 2))
    frame = display.figure_.bbox if inside is None else inside.get_window_extent()
    for box in found:
        assert box.x0 >= frame.x0 - 1
        assert box.x1 <= frame.x1 + 1
        assert box.y0 >= frame.y0 - 1
        assert box.y1 <= frame.y1 + 1
    for text in texts:
        assert np.mean(matplotlib.colors.to_rgb(text.get_color())) < 0.5


# -- Reconstructions ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1, 30])
def test_rows_of_digits_are_drawn_as_pictures(digits, linear, pca, n_samples):
    X = digits[1][:n_samples]
    display = ReconstructionDisplay.from_estimator(
        linear, X, references={"PCA": pca}, difference=True, shape=(8, 8)
    )
    rows = display.artists_
    assert [len(row) for row in rows] == [n_samples] * 4
    X_hat = linear.inverse_transform(linear.transform(X))
    for sample in range(n_samples):
        shown = [np.ravel(row[sample].get_array()) for row in rows]
        assert np.array_equal(shown[0], X[sample])
        assert np.allclose(shown[1], X_hat[sample])
        assert np.allclose(shown[3], X_hat[sample] - X[sample])
    assert {image.get_clim() for row in rows[:3] for image in row} == {(0, 16)}
    limit = np.abs(X_hat - X).max()
    assert rows[3][0].get_clim() == pytest.approx((-limit, limit))
    names = [name.get_text() for name in display.names_]
    assert names[:3] == ["original", "DenseAutoencoder", "PCA"]
    assert names[3] == f"difference ±{limit:.3g}"
    assert_legible(display, display.names_)


def test_sparse_bigrams_are_maps_and_only_drawn_rows_become_dense(monkeypatch):
    chunks = [bytes([i, 255 - i, 65]) * 50 + bytes(range(i, 200)) for i in range(60)]
    X = ByteBigrams().fit_transform(chunks)
    autoencoder = DenseAutoencoder(3, hidden_layer_sizes=()).fit(X)
    sizes = []
    toarray = sp.csr_matrix.toarray
    monkeypatch.setattr(
        sp.csr_matrix, "toarray", lambda self: sizes.append(self.shape) or toarray(self)
    )
    display = ReconstructionDisplay.from_estimator(autoencoder, X[:2], difference=True)
    assert sizes == [(2, 65536)]
    originals, reconstructions, differences = display.artists_
    shown = originals[1].get_array()
    assert shown.shape == (256, 256)
    assert shown[1, 254] == X[1, 256 + 254]  # first byte down, second byte across
    assert originals[0].norm is reconstructions[1].norm
    least = X[:2].data.min()
    assert originals[0].norm(least) > 0.05
    low, high = differences[0].get_clim()
    assert high == -low == pytest.approx(display.difference_limit_)


@pytest.mark.parametrize("flat", [True, False])
def test_the_shape_of_pictures_is_read_from_a_convolutional_autoencoder(digits, flat, pca):
    rows = digits[0][:200]
    pictures = rows.reshape(-1, 8, 8)
    autoencoder = ConvAutoencoder(
        2, input_shape=(8, 8), channels=(4,), max_epochs=1, random_state=0
    ).fit(rows if flat else pictures)
    display = ReconstructionDisplay.from_estimator(
        autoencoder, (rows if flat else pictures)[:3], references={"PCA": pca}
    )
    assert display.kind == "image"
    assert display.X_hat.shape == display.references["PCA"].shape == (3, 8, 8)


def test_pictures_of_two_channels_are_drawn_in_grey(digits):
    X = np.stack([digits[0][:200], digits[0][::-1][:200]], axis=1).reshape(-1, 2, 8, 8)
    settings = {"channel_axis": 0, "channels": (4,), "max_epochs": 1, "random_state": 0}
    model = ConvAutoencoder(2, **settings).fit(X)
    display = ReconstructionDisplay.from_estimator(model, X[:3])
    np.testing.assert_allclose(display.artists_[0][0].get_array(), X[0].mean(axis=0))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"shape": (8, 9)}, r"X has shape \(3, 64\), which is not 3 rows of \(8, 9\)"),
        ({"kind": "picture"}, "kind='picture' must be one of 'auto', 'image'"),
        ({"kind": "image"}, r"kind='image' needs shape=\(height, width\[, channels\]\), got \(64"),
        ({"X": np.zeros((3, 60)), "kind": "map"}, "needs a square number of columns, got 60"),
        ({"X": np.zeros((101, 64))}, "X has 101 rows, .* pass 1 to 100"),
        ({"X_hat": np.zeros((3, 60))}, r"X_hat has shape \(3, 60\)"),
        ({"references": {"PCA": np.zeros((2, 64))}}, r"references\['PCA'\] has shape \(2, 64\)"),
        (
            {"references": {"original": np.zeros((3, 64))}},
            "references must have names other than 'original' and 'reconstruction'",
        ),
        ({"name": "original"}, "name='original' must differ"),
        ({"shape": (-8, -8)}, r"shape=\(-8, -8\) must be a tuple of at most 3 positive integers"),
        ({"shape": (4, 4, 4), "kind": "signal"}, "must be a tuple of at most 2 positive integers"),
        ({"n_columns": 0}, "n_columns=0 must be a positive integer"),
    ],
)
def test_rows_that_cannot_be_drawn_raise_an_error(digits, parameters, sentence):
    X = digits[1][:3]
    with pytest.raises(ValueError, match=sentence):
        ReconstructionDisplay.from_predictions(**{"X": X, "X_hat": X, **parameters})


def test_norms_and_limits_of_the_user_replace_ours(digits):
    X = digits[1][:2]
    norm = matplotlib.colors.Normalize(0, 4)
    pictures = ReconstructionDisplay.from_predictions(
        X, X + 1, shape=(8, 8), difference=True, image_kw={"norm": norm}, difference_kw={"vmax": 9}
    )
    assert pictures.artists_[0][0].norm is norm
    assert pictures.artists_[2][0].get_clim() == (-1, 9)
    missing = np.where(X > 12, np.nan, X)
    maps = ReconstructionDisplay.from_predictions(missing, X, kind="map", image_kw={"vmax": 3})
    assert maps.artists_[0][0].get_clim() == (0, 3)


# -- Losses ---------------------------------------------------------------------------------------


def test_the_level_of_pca_is_its_mean_error(trained, digits):
    X, stages = digits[0], [epoch["stage"] for epoch in trained.history_]
    display = LossCurveDisplay.from_estimator(trained)
    assert list(display.pca_levels) == list(dict.fromkeys(stages))
    fitted, validation = held_out_runs(len(X), 0.1, np.random.RandomState(0))
    pca = PCA(4).fit(X[fitted])
    held_out = X[validation]
    errors = np.square(held_out - pca.inverse_transform(pca.transform(held_out))).sum(axis=1)
    assert display.pca_levels["training"] == pytest.approx(errors.mean(), rel=0.02)
    first, last = display.pca_lines_[0].get_ydata()
    assert first == last == display.pca_levels[stages[0]]


def test_stages_follow_each_other(trained):
    display = LossCurveDisplay.from_estimator(trained)
    history = trained.history_
    stages = list(dict.fromkeys(epoch["stage"] for epoch in history))
    assert len(display.train_lines_) == len(display.valid_lines_) == len(stages)
    assert len(display.pca_lines_) == len(display.pca_levels)
    epochs = np.concatenate([line.get_xdata() for line in display.train_lines_])
    assert np.array_equal(epochs, 1 + np.arange(len(history)))
    losses = np.concatenate([line.get_ydata() for line in display.train_lines_])
    assert np.array_equal(losses, [epoch["train_loss"] for epoch in history])
    labels = [text.get_text() for text in display.legend_.get_texts()]
    assert labels[-3:] == ["training rows", "validation rows", "PCA"]
    assert_legible(display, display.legend_.get_texts(), inside=display.ax_)


def test_the_title_names_pca_without_networks(linear):
    display = LossCurveDisplay.from_estimator(linear)
    assert display.ax_.get_title(loc="left") == "Nothing was trained: the model is PCA."
    noise = np.random.default_rng(0).normal(size=(400, 20))
    hopeless = DenseAutoencoder(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0)
    display = LossCurveDisplay.from_estimator(hopeless.fit(noise))
    assert display.note == "PCA was kept: no network was clearly better."


def test_a_pipeline_shows_the_losses_of_its_autoencoder(digits):
    X, _, y, _ = digits
    brief = DenseAutoencoder(2, hidden_layer_sizes=(8,), max_epochs=8, random_state=0)
    pipeline = make_pipeline(StandardScaler(), make_pipeline(brief), GaussianNB()).fit(X, y)
    display = LossCurveDisplay.from_estimator(pipeline)
    fitted = pipeline[1][0]
    assert fitted.history_
    assert display.history == fitted.history_
    assert display.note == LossCurveDisplay.from_estimator(fitted).note
    assert len(display.train_lines_) >= 1
    detector = AnomalyDetector(brief).fit(X)
    assert LossCurveDisplay.from_estimator(detector).history == detector.estimator_.history_


# -- Codes ----------------------------------------------------------------------------------------


def test_codes_of_a_pipeline_are_coloured_by_label(digits):
    X, y = digits[1], digits[3]
    pipeline = make_pipeline(StandardScaler(), DenseAutoencoder(3, hidden_layer_sizes=()))
    Z = pipeline.fit(digits[0]).transform(X)
    display = LatentDisplay.from_estimator(pipeline, X, y, dims=(2, 0))
    assert len(display.scatters_) == 10
    assert np.allclose(display.scatters_[7].get_offsets(), Z[y == 7][:, [2, 0]])
    assert display.ax_.get_xlabel() == "code[2]"
    texts = display.legend_.get_texts()
    assert [text.get_text() for text in texts] == list("0123456789")
    assert_legible(display, texts)
    assert not overlap(*boxes([display.legend_, display.ax_.patch]))


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_legend_of_many_labels_is_beside_given_axes(layout):
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(300, 2)), np.array([f"label {i % 25:02d}" for i in range(300)])
    _, (ax, neighbour) = plt.subplots(1, 2, figsize=(12, 5), layout=layout)
    display = LatentDisplay.from_predictions(Z, y, ax=ax)
    assert_legible(display, display.legend_.get_texts())
    assert not overlap(*boxes([display.legend_, ax.patch]))
    assert not overlap(*boxes([display.legend_, neighbour.patch]))
    looks = {
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in display.scatters_
    }
    assert len(looks) == 25


def test_a_code_of_one_dimension_is_drawn(digits):
    X, y = digits[1], digits[3]
    single = DenseAutoencoder(1, hidden_layer_sizes=()).fit(digits[0])
    display = LatentDisplay.from_estimator(single, X)
    assert sum(bar.get_height() for bar in display.ax_.patches) == len(X)
    display = LatentDisplay.from_estimator(single, X, y)
    heights = display.scatters_[3].get_offsets()[:, 1]
    assert np.all(np.abs(heights - 3) < 0.5)
    assert_legible(display, display.ax_.get_yticklabels())
    display = LatentDisplay.from_estimator(single, X, X.sum(axis=1))
    assert np.allclose(display.scatters_[0].get_offsets()[:, 1], X.sum(axis=1))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"dims": (0, 3)}, r"dims=\(0, 3\) must be two dimensions of the code, from 0 to 2"),
        ({"dims": (0.0, 1.0)}, r"dims=\(0.0, 1.0\) must be two dimensions of the code"),
        ({"dims": 1}, "dims=1 must be two dimensions of the code"),
        ({"y": np.zeros(4)}, r"y has shape \(4,\), but there are 70 codes"),
        ({"y": [f"{i}" for i in range(70)]}, "y has 70 different labels, but no more than 60"),
        ({"Z": np.zeros(5)}, "Z must have two axes, rows and dimensions, got 1"),
    ],
)
def test_codes_that_cannot_be_drawn_raise_an_error(parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        LatentDisplay.from_predictions(**{"Z": np.zeros((70, 3)), **parameters})


@pytest.mark.parametrize("labels", [[1.0, 0.0, np.nan], ["b", "a", None]])
def test_a_missing_label_is_a_label(labels):
    display = LatentDisplay.from_predictions(np.zeros((6, 2)), np.array(labels * 2))
    assert [len(points.get_offsets()) for points in display.scatters_] == [2, 2, 2]
    assert display.colorbar_ is None


# -- Variance -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_scores_are_those_of_separate_fits(digits, form):
    X, X_test = form(digits[0]), form(digits[1])
    linear = DenseAutoencoder(7, hidden_layer_sizes=(), random_state=0)
    display = VarianceDisplay.from_estimator(linear, X, latent_dims=(8, 2), X_test=X_test)
    assert linear.latent_dim == 7
    expected = [linear.set_params(latent_dim=k).fit(X).score(X_test) for k in (2, 8)]
    assert np.array_equal(display.latent_dims, [2, 8])
    assert np.allclose(display.scores, expected)
    assert np.allclose(display.pca_scores, expected)
    assert np.allclose(display.pca_line_.get_ydata(), expected)
    assert display.ax_.get_xscale() == "log"
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["2", "8"]


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda X: (PCA(2), X), TypeError, "must be an autoencoder of skae, got PCA"),
        (
            lambda X: (DenseAutoencoder(loss="bce", linear_path=False), X),
            ValueError,
            "loss='bce' must be 'mse'",
        ),
        (lambda X: (DenseAutoencoder(), X[:3]), ValueError, "X has 3 rows, too few to split off"),
    ],
)
def test_estimators_without_a_share_of_variance_raise_an_error(digits, call, error, sentence):
    with pytest.raises(error, match=sentence):
        VarianceDisplay.from_estimator(*call(digits[0]))


def test_references_without_names_raise_an_error(digits):
    with pytest.raises(TypeError, match="references must be a dict, name: model or rows, got list"):
        ReconstructionDisplay.from_predictions(digits[0][:3], digits[0][:3], references=[PCA(2)])


def test_labels_take_part_in_the_fits_of_each_length(digits):
    X, y = digits[0][:400], digits[2][:400]
    supervised = DenseAutoencoder(
        hidden_layer_sizes=(16,), max_epochs=2, supervision=3.0, random_state=0
    )
    display = VarianceDisplay.from_estimator(supervised, X, y, latent_dims=(2,), X_test=X)
    assert display.scores == [supervised.set_params(latent_dim=2).fit(X, y).score(X)]
    VarianceDisplay.from_estimator(supervised, X, y, latent_dims=(2,))


def test_lists_and_missing_entries_are_compared_with_pca(digits):
    X = digits[0][:200]
    linear = DenseAutoencoder(hidden_layer_sizes=(), random_state=0)
    lists = VarianceDisplay.from_estimator(linear, X.tolist(), latent_dims=(1, 2))
    arrays = VarianceDisplay.from_estimator(linear, X, latent_dims=(1, 2))
    np.testing.assert_allclose(lists.pca_scores, arrays.pca_scores)
    hidden = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    linear.set_params(missing_values=np.nan)
    display = VarianceDisplay.from_estimator(linear, hidden, latent_dims=(1, 4))
    np.testing.assert_allclose(display.pca_scores, display.scores)
    with pytest.raises(ValueError, match="latent_dims=2 must be one positive integer or more"):
        VarianceDisplay.from_estimator(linear, X, latent_dims=2)


# -- Errors of columns ----------------------------------------------------------------------------


def test_bars_are_the_columns_with_the_largest_mean_errors(digits, linear):
    X = digits[1][:6]
    display = ColumnErrorsDisplay.from_estimator(linear, X, top=5)
    errors = linear.reconstruction_errors(X).mean(axis=0)
    assert np.array_equal(display.columns_, np.argsort(-errors)[:5])
    assert np.allclose([bar.get_width() for bar in display.bars_], np.sort(-errors)[:5] * -1)
    labels = display.ax_.get_yticklabels()
    assert [label.get_text() for label in labels] == [f"x{j}" for j in display.columns_]
    assert display.legend_ is None
    assert_legible(display, labels)
    heights = [box.y0 for box in boxes(list(display.bars_))]
    assert heights == sorted(heights, reverse=True)  # the largest at the top


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_with_a_reference_the_columns_are_those_that_exceed_it(digits, linear, form):
    changed = digits[1][:3].copy()
    changed[:, 0] = 60  # a corner, which is empty in every digit
    display = ColumnErrorsDisplay.from_estimator(
        linear, form(changed), reference=form(digits[0]), top=np.int64(4)
    )
    assert display.columns_[0] == 0
    excess = display.errors - display.reference
    assert np.array_equal(display.columns_, np.argsort(-excess)[:4])
    usual = linear.reconstruction_errors(digits[0]).mean(axis=0)
    assert np.allclose(display.reference_line_.get_xdata(), usual[display.columns_])
    names = [text.get_text() for text in display.legend_.get_texts()]
    assert names == ["given rows", "reference rows"]


def test_columns_have_the_names_of_a_frame_or_of_the_step_before(digits):
    names = [f"pixel {j}" for j in range(64)]
    frame = pd.DataFrame(digits[0], columns=names)
    linear = DenseAutoencoder(4, hidden_layer_sizes=())
    changed = frame.iloc[:1].assign(**{"pixel 9": 90.0})
    fitted = [
        clone(linear).fit(frame),
        make_pipeline(StandardScaler(), clone(linear)).fit(frame),
        make_pipeline(clone(linear)).fit(frame),
        make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), linear)).fit(frame),
    ]
    for estimator in fitted:
        display = ColumnErrorsDisplay.from_estimator(estimator, changed, reference=frame)
        assert display.ax_.get_yticklabels()[0].get_text() == "pixel 9"
    display = ColumnErrorsDisplay.from_estimator(fitted[0], changed, feature_names=range(64))
    assert display.ax_.get_yticklabels()[0].get_text() == "9"
    pipeline = make_pipeline(ByteBigrams(), DenseAutoencoder(1, hidden_layer_sizes=()))
    texts = [b"abcabcabc", b"abcab cabc", b"cab cab cab"]
    display = ColumnErrorsDisplay.from_estimator(pipeline.fit(texts), [b"abcabcxyz"], top=3)
    label = display.ax_.get_yticklabels()[0].get_text()
    assert label == pipeline[:-1].get_feature_names_out()[display.columns_[0]]
    pipeline = make_pipeline(StandardScaler(), FunctionTransformer(np.abs), clone(linear))
    assert ColumnErrorsDisplay.from_estimator(pipeline.fit(frame), frame).feature_names is None


def test_errors_may_be_sparse():
    errors = sp.csr_matrix([[0, 3.0], [1, 1]])
    np.testing.assert_array_equal(ColumnErrorsDisplay.from_predictions(errors).errors, [0.5, 2])


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"top": 0}, "top=0 must be a positive integer"),
        ({"errors": np.zeros((2, 2, 2))}, r"errors must have one or two axes.*\(2, 2, 2\)"),
        ({"reference": np.zeros(3)}, "reference has 3 columns, but errors has 4"),
        ({"feature_names": ["a"]}, r"feature_names has shape \(1,\), but there are 4 columns"),
    ],
)
def test_errors_that_cannot_be_drawn_raise_an_error(parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        ColumnErrorsDisplay.from_predictions(**{"errors": np.ones((5, 4)), **parameters})


# -- Dimensions of codes --------------------------------------------------------------------------


def test_a_dimension_of_pca_changes_columns_as_its_component_does(digits, linear):
    X = digits[0]
    display = DimensionsDisplay.from_estimator(linear, X, dimensions=[1, 3], top=5)
    assert display.effects.shape == (2, 5, 64)
    some = X[np.linspace(0, len(X) - 1, 200).astype(int)]
    low, high = np.percentile(linear.transform(some), (5, 95), axis=0)
    changes = linear.components_ * (high - low)[:, None]
    np.testing.assert_allclose(display.changes, changes[[1, 3]], atol=1e-4)
    drawn = display.artists_[0].get_array()
    expected = changes[[1, 3]][:, display.columns_] / some.std(axis=0)[display.columns_]
    np.testing.assert_allclose(drawn, expected, atol=1e-3)
    ticks = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert ticks == [f"x{j}" for j in display.columns_]


def test_each_dimension_is_one_of_two_curved_factors():
    t, u = np.random.default_rng(0).uniform(-1, 1, (2, 600, 1))
    powers = np.arange(1, 5)
    frame = pd.DataFrame(
        np.hstack([t**powers, 0.5 * u**powers]),
        columns=[f"{name}{power}" for name in "tu" for power in powers],
    )
    model = DenseAutoencoder(2, random_state=0).fit(frame)
    assert not model.code_is_pca_
    display = DimensionsDisplay.from_estimator(model, frame, top=4)
    changes = np.abs(display.changes)
    of_first, of_second = changes[:, :4].max(axis=1), changes[:, 4:].max(axis=1)
    assert of_first[0] > 5 * of_second[0]
    assert of_second[1] > 2 * of_first[1]
    assert set(display.feature_names[display.columns_]) >= {"t1", "t3", "u1", "u3"}
    pipeline = make_pipeline(StandardScaler(), DenseAutoencoder(2, max_epochs=2, random_state=0))
    display = DimensionsDisplay.from_estimator(pipeline.fit(frame), frame)
    assert list(display.feature_names) == list(frame)


def test_pictures_and_signals_are_drawn_at_each_percentile(digits, linear):
    display = DimensionsDisplay.from_estimator(
        linear, digits[0], shape=(8, 8), percentiles=(0, 100), dimensions=[0]
    )
    assert (display.kind, display.effects.shape) == ("image", (1, 2, 8, 8))
    assert [len(artists) for artists in display.artists_] == [2]
    assert display.ax_.get_title() == "percentiles 0, 100 of each dimension"
    brief = {"hidden_layer_sizes": (8,), "max_epochs": 1}
    signals = ConvAutoencoder(2, input_shape=(64,), **brief).fit(digits[0][:200])
    display = DimensionsDisplay.from_estimator(signals, digits[0])
    assert (display.kind, display.effects.shape) == ("signal", (2, 5, 64))


def test_dimensions_that_the_code_does_not_have_raise_an_error(digits, linear):
    with pytest.raises(ValueError, match=r"dimensions=\[4\] must be one or more of the 4"):
        DimensionsDisplay.from_estimator(linear, digits[0], dimensions=[4])
    with pytest.raises(ValueError, match=r"shape=\(9, 9\) does not have the 64 columns"):
        DimensionsDisplay.from_estimator(linear, digits[0], shape=(9, 9))
    with pytest.raises(ValueError, match=r"dimensions=\[0.7\] must be one or more of the 4"):
        DimensionsDisplay.from_estimator(linear, digits[0], dimensions=[0.7])
    with pytest.raises(ValueError, match=r"percentiles=\(5, 120\) must be one or more numbers"):
        DimensionsDisplay.from_estimator(linear, digits[0], percentiles=(5, 120))
    with pytest.raises(ValueError, match=r"feature_names has shape \(1,\), but there are 64"):
        DimensionsDisplay.from_estimator(linear, digits[0], feature_names=["a"])


def test_changes_are_from_the_lowest_percentile_to_the_highest_in_units_of_observed_entries(digits):
    X = np.where(np.random.default_rng(0).random(digits[0].shape) < 0.1, np.nan, digits[0])[:200]
    missing = DenseAutoencoder(2, hidden_layer_sizes=(), missing_values=np.nan).fit(X)
    display = DimensionsDisplay.from_estimator(missing, X)
    np.testing.assert_allclose(display.scale, np.nanstd(X, axis=0))
    reverse = DimensionsDisplay.from_estimator(missing, X, percentiles=(95, 75, 50, 25, 5))
    np.testing.assert_array_equal(reverse.changes, display.changes)
    sparse = sp.coo_matrix(digits[0])
    assert DimensionsDisplay.from_estimator(missing, sparse).effects.shape == (2, 5, 64)


# -- All of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("display", DISPLAYS)
def test_missing_matplotlib_raises_an_error_before_any_work(display, monkeypatch):
    def without_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    importing = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    arguments = [None] if display is LossCurveDisplay else [None, None]
    with pytest.raises(ImportError, match=rf'{display.__name__}.*pip install "skae\[plot\]"'):
        display.from_estimator(*arguments)


def test_axes_may_be_of_any_projection_but_must_be_one():
    polar = plt.figure().add_subplot(projection="polar")
    assert LatentDisplay.from_predictions(np.zeros((3, 2)), ax=polar).ax_ is polar
    with pytest.raises(TypeError, match="ax must be one matplotlib Axes, got ndarray"):
        LatentDisplay.from_predictions(np.zeros((3, 2)), ax=plt.subplots(1, 2)[1])


def test_a_second_plot_has_new_axes(trained, digits, linear):
    displays = [
        LossCurveDisplay.from_estimator(trained),
        ReconstructionDisplay.from_estimator(linear, digits[1][:2]),
        LatentDisplay.from_estimator(linear, digits[1]),
        VarianceDisplay.from_predictions([2, 4], [0.3, 0.5], [0.2, 0.4]),
        ColumnErrorsDisplay.from_predictions([0.3, 0.5]),
        DimensionsDisplay.from_estimator(linear, digits[1]),
    ]
    for display in displays:
        first = display.ax_
        assert display.plot() is display
        assert display.ax_ is not first
        figure, ax = plt.subplots()
        assert display.plot(ax=ax).ax_ is ax
        assert display.figure_ is figure
