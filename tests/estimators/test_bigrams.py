import itertools
import os
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.pipeline import make_pipeline

from skae import ByteBigrams, DenseAutoencoder


def test_counts_are_those_of_a_loop():
    text = Path(os.__file__).read_bytes()[:5000]
    expected = np.zeros(65536)
    for first, second in itertools.pairwise(text):
        expected[256 * first + second] += 1
    row = ByteBigrams(norm=None).fit_transform([text])
    assert row.dtype == np.float32
    np.testing.assert_array_equal(row.toarray()[0], expected)


def test_frequencies_sum_to_one():
    X = ByteBigrams().fit_transform([b"abc", b"\x00" * 100, bytes(range(256)) * 3])
    assert X.shape == (3, 65536)
    assert sp.issparse(X)
    np.testing.assert_allclose(X.sum(axis=1), 1, rtol=1e-6)
    assert X[1, 0] == 1


def test_too_short_items_give_zero_rows():
    X = ByteBigrams().fit_transform([b"", b"a", b"ab"])
    np.testing.assert_array_equal(np.diff(X.indptr), [0, 0, 1])


def test_any_bytes_like_item_and_any_iterable_will_do():
    data = b"some bytes"
    items = [data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)]
    X = ByteBigrams().transform(item for item in items)
    assert X.shape[0] == 4
    assert not (X[1:] != X[[0, 0, 0]]).nnz


def test_bytes_need_not_be_adjacent_in_memory():
    data = b"some bytes"
    items = [memoryview(data)[::2], np.frombuffer(data, np.uint8)[::2]]
    X = ByteBigrams().transform(items)
    expected = ByteBigrams().transform([data[::2]] * 2)
    np.testing.assert_array_equal(X.toarray(), expected.toarray())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes_are_read_like_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(b"abc",))
    writer.start()
    assert ByteBigrams(input="filename").transform([tmp_path / "pipe"]).nnz == 2
    writer.join()


def test_rows_remain_sparse_where_frames_are_asked_for():
    chunks = [bytes([i % 7, 255 - i]) * 50 for i in range(40)]
    pca = DenseAutoencoder(2, hidden_layer_sizes=())
    with sklearn.config_context(transform_output="pandas"):
        codes = make_pipeline(ByteBigrams(), pca).fit_transform(chunks)
    assert list(codes.columns) == ["denseautoencoder0", "denseautoencoder1"]
    pipeline = make_pipeline(ByteBigrams(), pca).set_output(transform="pandas")
    assert pipeline.fit_transform(chunks).equals(codes)


def test_files_are_read_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abcabc")
    X = ByteBigrams(input="filename", norm=None).fit_transform([path, str(path)])
    expected = ByteBigrams(norm=None).transform([b"abcabc"])
    np.testing.assert_array_equal(X.toarray(), expected[[0, 0]].toarray())


@pytest.mark.parametrize(
    ("parameters", "X", "error", "sentence"),
    [
        ({}, ["text"], TypeError, r"X\[0\] must be bytes, got str: encode the text first"),
        ({}, [b"ok", 5], TypeError, r"X\[1\] must be bytes, got int"),
        ({}, [b"ok", None], TypeError, r"X\[1\] must be bytes, got NoneType"),
        ({}, np.array([[b"ab"]], object), TypeError, r"X\[0\] must be bytes, .* of 8 bytes"),
        ({}, [np.arange(3.0)], TypeError, "got ndarray with entries of 8 bytes"),
        ({}, b"one item", TypeError, "X must be an iterable of items.*single bytes: wrap it"),
        ({}, "one path", TypeError, "X must be an iterable of items.*single str: wrap it"),
        ({}, [], ValueError, "at least one item"),
        ({}, pd.DataFrame({"a": [b"ab"]}), TypeError, "data frame: pass the column that has"),
        ({}, np.array([b"a\0"]), TypeError, r"dtype \|S2, from which NumPy drops zero bytes"),
        ({"input": "filename"}, [b"x"], TypeError, r"X\[0\] must be a path .* got bytes"),
        ({"input": "filename"}, ["/no/such/file"], FileNotFoundError, "/no/such/file"),
        ({"input": "file"}, [b"x"], ValueError, r"'input' parameter .* Got 'file'"),
        ({"norm": "l2"}, [b"x"], ValueError, r"'norm' parameter .* Got 'l2'"),
    ],
)
def test_wrong_input_gets_a_sentence(parameters, X, error, sentence):
    with pytest.raises(error, match=sentence):
        ByteBigrams(**parameters).fit_transform(X)
