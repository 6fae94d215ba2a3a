"""X as a collection of items: lists of pictures, Datasets, DataLoaders, masked arrays."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from skae import AnomalyDetector, ConvAutoencoder, DenseAutoencoder

PICTURES = np.random.default_rng(0).random((40, 6, 5)).astype(np.float32)
TENSORS = torch.from_numpy(PICTURES)


class Pairs(Dataset):
    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return PICTURES[index], index


class Stream(IterableDataset):
    def __iter__(self):
        return iter(PICTURES)


FORMS = {
    "list of arrays": lambda: list(PICTURES),
    "tuple of tensors": lambda: tuple(TENSORS),
    "nested lists": PICTURES.tolist,
    "Dataset of pairs": Pairs,
    "TensorDataset": lambda: TensorDataset(TENSORS),
    "DataLoader in random order": lambda: DataLoader(Pairs(), batch_size=16, shuffle=True),
    "DataLoader of a stream": lambda: DataLoader(Stream(), batch_size=16),
    "tensor with a gradient": lambda: TENSORS.clone().requires_grad_(),
    "masked array": lambda: np.ma.masked_array(PICTURES, np.zeros(PICTURES.shape, dtype=bool)),
}


@pytest.mark.parametrize("form", FORMS)
def test_collections_of_pictures_are_one_array(form):
    model = ConvAutoencoder(2, channels=(2,), max_epochs=1, random_state=0).fit(PICTURES)
    X = FORMS[form]()
    np.testing.assert_allclose(model.transform(X), model.transform(PICTURES), rtol=1e-5)
    assert model.set_params(hidden_layer_sizes=(4,)).fit(X).input_shape_ == (6, 5)
    assert model.n_samples_ == 40


def test_an_array_of_objects_and_a_tensor_of_bfloat16_are_arrays():
    objects = np.empty(40, dtype=object)
    objects[:] = list(PICTURES.reshape(40, -1))
    model = DenseAutoencoder(2, hidden_layer_sizes=()).fit(objects)
    assert model.n_features_in_ == 30
    assert model.transform(TENSORS.flatten(1).bfloat16()).dtype == np.float32


def test_none_and_hidden_entries_are_missing_entries():
    rows = PICTURES.reshape(40, -1).astype(float)
    hidden = np.arange(30) == 3
    with_nan = np.where(hidden, np.nan, rows[:2])
    with_none = [[None if np.isnan(x) else x for x in row] for row in with_nan.tolist()]
    masked = np.ma.masked_array(rows[:2], np.broadcast_to(hidden, (2, 30)))
    complete = DenseAutoencoder(2, hidden_layer_sizes=()).fit(rows)
    filling = DenseAutoencoder(2, hidden_layer_sizes=(), missing_values=np.nan).fit(rows)
    for X in (with_none, masked):
        with pytest.raises(ValueError, match=r"Input X contains NaN\. Set missing_values=np.nan"):
            complete.transform(X)
        np.testing.assert_allclose(filling.transform(X), filling.transform(with_nan))


@pytest.mark.parametrize(
    ("X", "error", "sentence"),
    [
        (
            [*PICTURES[:5], PICTURES[5][:, :4]],
            ValueError,
            r"X is a list of items of different shapes, \(6, 5\) and, at index 5, \(6, 4\)",
        ),
        ([[1.0, 2.0], [3.0]], ValueError, r"different shapes, \(2,\) and, at index 1, \(1,\)"),
        ([], ValueError, "X is an empty list: it must have rows"),
        (DataLoader([]), ValueError, "X is an empty DataLoader"),
        (iter(PICTURES), TypeError, r"can be read only once.*np.stack\(list\(X\)\)"),
        (
            DataLoader(Pairs(), sampler=WeightedRandomSampler([1.0] * 40, 20)),
            TypeError,
            "DataLoader with a sampler, which may give other rows each time: pass its Dataset",
        ),
        (
            Subset([{"image": PICTURES[0]}], [0]),
            TypeError,
            "X is a Subset of items of type dict: they must be arrays or tensors",
        ),
        (TENSORS.flatten(1).to_sparse(), TypeError, "X is a sparse tensor"),
        (Image.new("L", (5, 6)), ValueError, r"X is a single picture.*pass \[X\]"),
        (["a.png", "b.png"], ValueError, "X is a list of texts, such as 'a.png'"),
    ],
    ids=range(10),
)
def test_what_is_no_array_gets_a_sentence(X, error, sentence):
    with pytest.raises(error, match=sentence):
        ConvAutoencoder(2, max_epochs=1).fit(X)


def test_axes_that_are_missing_or_too_many_are_named():
    flat = DenseAutoencoder(2, hidden_layer_sizes=())
    for X in (PICTURES, list(PICTURES), Pairs()):
        with pytest.raises(ValueError, match=r"\(40, 6, 5\) has 3 axes, .* X.reshape\(len\(X\)"):
            flat.fit(X)
    model = ConvAutoencoder(2, channels=(2,), max_epochs=1, random_state=0).fit(PICTURES)
    with pytest.raises(ValueError, match=r"the shape of one picture, \(6, 5\), .* pass X\[None\]"):
        model.transform(PICTURES[0])
    with pytest.raises(ValueError, match=r"at most three.*frames of a film as rows, X.reshape"):
        model.fit(np.ones((8, 3, 6, 5, 1)))


def test_stored_pictures_are_flat_rows_with_a_warning(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "X.h5", "w") as file:
        stored = file.create_dataset("X", data=PICTURES)
        with pytest.warns(UserWarning, match=r"read as 40 flat rows of 30 columns; ConvAuto"):
            model = DenseAutoencoder(2, hidden_layer_sizes=()).fit(stored)
    assert model.n_features_in_ == 30


CLEAN = PICTURES.reshape(40, 30)
NOISY = CLEAN + np.random.default_rng(1).normal(0, 0.1, CLEAN.shape).astype(np.float32)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.fit(NOISY, CLEAN),
        lambda model: model.fit(NOISY.tolist(), CLEAN.tolist()),
        lambda model: model.fit(TensorDataset(torch.from_numpy(NOISY), torch.from_numpy(CLEAN))),
        lambda model: model.fit(CLEAN).score(NOISY, CLEAN),
        lambda model: model.partial_fit(NOISY, CLEAN),
        lambda model: AnomalyDetector(model).fit(NOISY, CLEAN),
    ],
)
def test_clean_rows_as_targets_of_noisy_ones_are_warned_of(use):
    with pytest.warns(UserWarning, match="as many values as X.* is ignored.* noise"):
        use(DenseAutoencoder(2, hidden_layer_sizes=()))


def test_rows_as_their_own_targets_and_labels_are_not_warned_of():
    model = DenseAutoencoder(2, hidden_layer_sizes=())
    model.fit(CLEAN, CLEAN).fit(CLEAN, CLEAN.copy()).score(CLEAN, CLEAN)
    model.fit(TensorDataset(TENSORS.flatten(1), TENSORS.flatten(1)))
    model.fit(CLEAN, CLEAN[:, :3]).fit(CLEAN, [[1], [2, 3]] * 20).fit(CLEAN, CLEAN[:, 0])


HIDDEN = [np.ma.masked_array(row, row > 0.95) for row in CLEAN]


@pytest.mark.parametrize("X", [HIDDEN, np.where(CLEAN > 0.95, pd.NA, CLEAN.astype(object))])
def test_hidden_entries_of_rows_and_missing_values_of_pandas_are_missing(X):
    model = DenseAutoencoder(2, hidden_layer_sizes=(), missing_values=np.nan)
    np.testing.assert_allclose(
        model.fit(X).transform(X),
        model.fit(np.where(CLEAN > 0.95, np.nan, CLEAN)).transform(X),
        rtol=1e-4,
    )
    with pytest.raises(ValueError, match="X contains NaN"):
        DenseAutoencoder(2, hidden_layer_sizes=()).fit(X)


@pytest.mark.parametrize("name", ["sample_weight", "groups"])
def test_hidden_entries_of_other_arguments_are_refused(name):
    hidden = np.ma.masked_array(np.ones(40), np.arange(40) > 30)
    with pytest.raises(ValueError, match=name if name == "groups" else "contains NaN"):
        DenseAutoencoder(2, hidden_layer_sizes=()).fit(CLEAN, **{name: hidden})


def test_dates_and_nested_tensors_are_refused_in_words_and_views_of_memory_taken():
    model = DenseAutoencoder(2, hidden_layer_sizes=())
    with pytest.raises(ValueError, match=r"X must have numbers.*datetime64"):
        model.fit(np.full((5, 3), "2020-01-01", dtype="datetime64[D]"))
    with pytest.raises(TypeError, match="nested"):
        model.fit(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged))
    assert model.fit(memoryview(CLEAN)).n_samples_ == 40


class Stored:
    """Rows in a storage that skae does not know."""

    shape, dtype = CLEAN.shape, CLEAN.dtype

    def __getitem__(self, index):
        return CLEAN[index]


@pytest.mark.parametrize(
    ("X", "sentence"),
    [
        (Stored(), r"X is a Stored, .* pass X\[:\]"),
        ([(picture, 1) for picture in PICTURES], "a list of tuples .* pass the rows alone"),
        (PICTURES[:0], r"0 sample\(s\)"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(X, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        ConvAutoencoder(2).fit(X)
