"""Data frames of pandas and polars as X, and as results."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import ConvAutoencoder, DenseAutoencoder

LINEAR = {"latent_dim": 3, "hidden_layer_sizes": ()}


@pytest.fixture(scope="module")
def wine():
    return load_wine(as_frame=True).data


# -- polars ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def polars():
    return pytest.importorskip("polars")


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder])
def test_polars_frames_give_the_results_of_their_arrays(polars, wine, kind):
    X, frame = wine.to_numpy(), polars.DataFrame(dict(wine))
    parameters = {"hidden_layer_sizes": (16,), "max_epochs": 2, "random_state": 0}
    if kind is ConvAutoencoder:
        parameters |= {"input_shape": (13,), "channels": (4,)}
    of_array = kind(3, **parameters).fit(X, y=wine.index)
    of_frame = kind(3, **parameters).fit(frame, sample_weight=polars.Series([1.0] * len(X)))
    codes = of_array.transform(X)
    np.testing.assert_array_equal(of_frame.transform(frame), codes)
    np.testing.assert_array_equal(of_frame.score_samples(frame), of_array.score_samples(X))
    np.testing.assert_array_equal(
        of_frame.reconstruction_errors(frame), of_array.reconstruction_errors(X)
    )
    assert of_frame.score(frame) == of_array.score(X)
    assert of_frame.feature_names_in_.tolist() == list(wine.columns)


def test_set_output_gives_polars_frames_that_can_be_decoded(polars, wine):
    frame = polars.DataFrame(dict(wine))
    autoencoder = DenseAutoencoder(**LINEAR).set_output(transform="polars")
    codes = autoencoder.fit_transform(frame)
    assert isinstance(codes, polars.DataFrame)
    assert codes.columns == [f"denseautoencoder{j}" for j in range(3)]
    assert codes.columns == autoencoder.get_feature_names_out().tolist()
    expected = DenseAutoencoder(**LINEAR).fit_transform(frame)
    np.testing.assert_array_equal(codes.to_numpy(), expected)
    np.testing.assert_array_equal(autoencoder.transform(frame).to_numpy(), expected)
    rows = autoencoder.inverse_transform(codes)
    np.testing.assert_array_equal(rows, autoencoder.inverse_transform(expected))
    pipeline = make_pipeline(StandardScaler(), DenseAutoencoder(**LINEAR))
    assert isinstance(
        pipeline.set_output(transform="polars").fit(frame).transform(frame), polars.DataFrame
    )


def test_columns_of_polars_frames_in_another_order_are_refused(polars, wine):
    frame = polars.DataFrame(dict(wine))
    autoencoder = DenseAutoencoder(**LINEAR).fit(frame)
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        autoencoder.transform(frame.select(wine.columns[::-1].tolist()))


def test_columns_of_polars_frames_that_are_no_numbers_are_refused(polars, wine):
    frame = polars.DataFrame(dict(wine))
    frame = frame.with_columns(
        polars.lit("red").alias("colour"),
        polars.lit("Asti").cast(polars.Categorical).alias("region"),
        polars.lit(pd.Timestamp("2020-01-01")).alias("bottled"),
        (polars.col("alcohol") > 13).alias("strong"),
    )
    sentence = r"got 'colour' \(String\), 'region' \(Categorical.*\), 'bottled' \(Datetime.*\)\. "
    with pytest.raises(ValueError, match=sentence + r".*ColumnTransformer"):
        DenseAutoencoder(**LINEAR).fit(frame)
    DenseAutoencoder(**LINEAR).fit(frame.drop("colour", "region", "bottled"))


def test_a_lazy_frame_is_refused_with_what_to_pass(polars, wine):
    with pytest.raises(ValueError, match=r"X is a LazyFrame, .* pass X.collect\(\)"):
        DenseAutoencoder(**LINEAR).fit(polars.LazyFrame(dict(wine)))


# -- pandas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["Int8", "Float64", "boolean"])
def test_nullable_types_give_the_codes_of_their_numbers(wine, dtype):
    values = (wine > wine.mean()).astype(int)
    frame = values.astype(dtype)
    expected = DenseAutoencoder(**LINEAR).fit(values)
    found = DenseAutoencoder(**LINEAR).set_output(transform="pandas").fit(frame)
    codes = found.transform(frame)
    np.testing.assert_allclose(np.abs(codes), np.abs(expected.transform(values)), atol=1e-5)
    assert codes.columns.tolist() == ["denseautoencoder0", "denseautoencoder1", "denseautoencoder2"]
    assert found.feature_names_in_.tolist() == list(wine.columns)
    mixed = wine.assign(strong=frame["alcohol"])
    assert np.isfinite(DenseAutoencoder(**LINEAR).fit_transform(mixed)).all()


@pytest.mark.parametrize("dtype", ["Int64", "Float32"])
def test_missing_values_of_nullable_types_are_refused(wine, dtype):
    frame = wine.assign(strong=(wine["alcohol"] > 13).astype(int).astype(dtype))
    autoencoder = DenseAutoencoder(**LINEAR).fit(frame)
    frame.loc[3, "strong"] = pd.NA
    for method in ("fit", "transform", "score"):
        with pytest.raises(ValueError, match="X contains NaN"):
            getattr(autoencoder, method)(frame)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["red", "white"], "category"),
        ([1, 2], "category"),
        (["red", "white"], object),
        ([np.str_("red"), 2], object),
        (["1", "2"], "string"),
        ([pd.Timestamp("2020-01-01")] * 2, "datetime64[ns]"),
    ],
    ids=["labels", "codes", "objects", "mixed", "strings", "dates"],
)
def test_columns_that_are_no_numbers_are_refused_by_name(wine, values, dtype):
    frame = wine.assign(**{"the kind": pd.Series(values * 89).astype(dtype)})
    sentence = r"X must have numbers in all columns, got 'the kind' \(.*\)\. .*ColumnTransformer"
    for method in ("fit", "transform"):
        with pytest.raises(ValueError, match=sentence):
            getattr(DenseAutoencoder(**LINEAR).fit(wine), method)(frame)


@pytest.mark.parametrize("values", [[1, 2.5], [np.bool_(True), False], [Decimal("1.5"), 2]])
def test_objects_that_are_numbers_are_numbers(wine, values):
    numbers = wine.assign(more=pd.Series(values * 89, dtype=object))
    expected = DenseAutoencoder(**LINEAR).fit_transform(wine.assign(more=np.float64(values * 89)))
    np.testing.assert_array_equal(DenseAutoencoder(**LINEAR).fit_transform(numbers), expected)


def test_missing_objects_are_refused(wine):
    with pytest.raises(ValueError, match="X contains NaN"):
        DenseAutoencoder(2).fit(wine.assign(more=pd.Series([1, None] * 89, dtype=object)))
    sentence = r"X has missing values \(NA\) in column 'more' of type object: .*Float64.*Imputer"
    with pytest.raises(ValueError, match=sentence):
        DenseAutoencoder(2).fit(wine.assign(more=pd.Series([1, pd.NA] * 89, dtype=object)))


def test_what_the_sentence_recommends_works(wine):
    frame = wine.assign(colour=["red", "white"] * 89)
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["colour"]), remainder=StandardScaler()
    )
    pipeline = make_pipeline(encoder, DenseAutoencoder(**LINEAR))
    assert pipeline.fit_transform(frame).shape == (178, 3)
