"""The benchmarks judge everything else, so they are tested too."""

import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_images_are_read_from_idx_files(tmp_path, digits):
    from benchmarks.lib.images import load_images

    X_train, X_test, y_train, y_test = digits
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, images, labels in (("train", X_train, y_train), ("t10k", X_test, y_test)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images.reshape(-1, 8, 8))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    loaded = load_images("mnist", tmp_path)
    np.testing.assert_allclose(loaded[0], X_train / 255, rtol=1e-6)
    np.testing.assert_allclose(loaded[1], X_test / 255, rtol=1e-6)
    np.testing.assert_array_equal(loaded[2], y_train)
    np.testing.assert_array_equal(loaded[3], y_test)


def test_chunks_are_whole_and_spread_over_the_file(tmp_path):
    from benchmarks.lib.corpus import CHUNK, _chunks_of

    path = tmp_path / "file"
    path.write_bytes(b"".join(bytes([i]) * CHUNK for i in range(5)) + b"rest")
    assert _chunks_of(path, 9) == [bytes([i]) * CHUNK for i in range(5)]
    assert _chunks_of(path, 3) == [bytes([i]) * CHUNK for i in (0, 2, 4)]


def test_the_variance_of_sparse_rows_is_that_of_dense_rows(digits, variance_explained):
    from benchmarks.lib import measure

    X_train, X_test = digits[:2]
    pca = PCA(5).fit(X_train)
    Z_test = pca.transform(X_test)
    expected = variance_explained(X_test, pca.inverse_transform(Z_test), X_train.mean(axis=0))
    X_train, X_test = map(sp.csr_array, (X_train, X_test))
    share = measure.variance_explained(pca, X_train, X_test, Z_test)
    assert share == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix])
def test_the_exact_pca_of_the_grid_is_scikit_learns(digits, convert, variance_explained):
    from benchmarks.lib.exact_pca import ExactPCA

    X_train, X_test = digits[:2]
    exact = ExactPCA(convert(X_train), 20)
    for k in (3, 20):
        pca = PCA(k, svd_solver="full").fit(X_train)
        X_hat = pca.inverse_transform(pca.transform(X_test))
        share = exact.variance_explained(convert(X_test), k)
        assert share == pytest.approx(variance_explained(X_test, X_hat, pca.mean_), abs=1e-9)
        np.testing.assert_allclose(
            np.abs(exact.codes(convert(X_test), k)), np.abs(pca.transform(X_test)), atol=1e-6
        )


def test_a_part_measured_again_replaces_that_part_alone(tmp_path):
    from benchmarks.lib.records import read, write

    path = tmp_path / "results.jsonl"
    write([{"k": 1, "x": 0.5}, {"k": 2, "x": 0.25}], path)
    write([{"k": 2, "x": 0.75}], path, replacing=("k",))
    assert read(path) == [{"k": 1, "x": 0.5}, {"k": 2, "x": 0.75}]


def test_the_grid_fails_when_a_cell_is_behind_pca(capsys):
    from benchmarks.grid import judge

    cell = {
        "data": "digits",
        "latent_dim": 2,
        "pca": 0.5,
        "pca_accuracy": 0.9,
        "accuracy_error": 0.001,
    }
    assert judge([{**cell, "autoencoder": 0.5, "autoencoder_accuracy": 0.9}]) == 0
    assert judge([{**cell, "autoencoder": 0.499, "autoencoder_accuracy": 0.9}]) == 1
    assert judge([{**cell, "autoencoder": 0.5, "autoencoder_accuracy": 0.89}]) == 1
    assert capsys.readouterr().out.count("FALSE") == 2


def test_classifiers_fails_where_a_code_classifies_worse_than_pca(capsys):
    from benchmarks.classifiers import judge

    cell = {"data": "wine", "rows_asked": 100, "n_train": 100, "latent_dim": 4}

    def judged(ours, **other):
        pca = {**cell, **other, "codes": "PCA", "accuracy": [0.80, 0.82]}
        return judge([pca, {**pca, "codes": "ours", "accuracy": ours}])

    assert judged([0.80, 0.82]) == 0
    assert judged([0.792, 0.82]) == 0  # less than half a point, one standard error
    assert judged([0.76, 0.82]) == 1  # two points
    assert judged([0.797, 0.817]) == 1  # less than half a point, in every seed
    assert judged([0.805, 0.825], data="mnist", latent_dim=8) == 1  # has to gain a point
    assert judged([0.815, 0.835], data="mnist", latent_dim=8) == 0
    assert capsys.readouterr().out.count("FALSE") == 3


def test_a_wanting_model_is_found_wanting(capsys):
    from benchmarks.mnist import MODELS, judge

    rows = {name: {"error": 0.02, "fit_seconds": 10.0} for name in MODELS}
    assert judge(rows) == 1
    for name in ("DenseAutoencoder(12)", "DenseAutoencoder(12), brief", "DenseAutoencoder(30)"):
        rows[name] = {"error": 0.003, "fit_seconds": 9.0}
    assert judge(rows) == 0
    rows["DenseAutoencoder(12), brief"] = {"error": 0.003, "fit_seconds": 11.0}
    assert judge(rows) == 1
    assert "FALSE" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["bare PyTorch loop", "skorch by hand", "MLPRegressor(X, X)"])
def test_the_peers_learn(name):
    from benchmarks.lib import peers

    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5)).astype(np.float32) @ rng.normal(size=(5, 784)).astype(np.float32)
    for n_features, latent_dim in ((784, 12), (300, 20)):
        rows = X[:, :n_features]
        peer = peers.PEERS[name](0, n_features, latent_dim).fit(rows)
        X_hat = peer.inverse_transform(peer.transform(rows))
        assert X_hat.shape == rows.shape
        assert np.square(rows - X_hat).mean() < 0.6 * rows.var()


@pytest.mark.parametrize("name", ["784-128-64-12", "16-32-k strided"])
def test_the_networks_of_the_literature_learn(name, monkeypatch):
    from benchmarks.lib.literature import NETWORKS, Literature

    monkeypatch.setitem(NETWORKS, name, replace(NETWORKS[name], epochs=12))

    n_features = int(np.prod(NETWORKS[name].shape))
    rng = np.random.default_rng(0)
    X = rng.random((640, 2)) @ rng.random((2, n_features)) / 2
    X = X.astype(np.float32)
    losses = []
    model = Literature(name, 2, on_batch=lambda epoch, loss: losses.append(loss)).fit(X)
    codes = model.transform(X)
    assert codes.shape == (640, 2)
    X_hat = model.inverse_transform(codes)
    assert X_hat.shape == X.shape
    assert np.square(X - X_hat).mean() < np.square(X - 0.5).mean()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
def test_memory_that_is_held_for_a_moment_counts():
    # In a process of its own: the memory that other tests leave may be freed meanwhile.
    code = """if True:
        import time
        import numpy as np
        from benchmarks.lib.memory import GrowthOfMemory
        with GrowthOfMemory() as growth:
            held = np.ones(25_000_000)
            time.sleep(0.5)
            del held
        print(growth.gigabytes)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert float(done.stdout) == pytest.approx(0.2, abs=0.02)


def test_a_detector_below_pca_or_below_the_others_fails(capsys):
    from benchmarks.anomalies import MODELS, judge

    aucs = dict.fromkeys(MODELS, 0.8)
    assert judge([{**aucs, "data": "digits", "AnomalyDetector": 0.795}]) == 0
    assert judge([{**aucs, "data": "digits", "AnomalyDetector": 0.785}]) == 1
    sets = [f"set {number}" for number in range(10)]
    assert judge([{**aucs, "data": name, "AnomalyDetector": 0.83} for name in sets]) == 0
    assert judge([{**aucs, "data": name, "AnomalyDetector": 0.81} for name in sets]) == 1
    best = {**aucs, "LocalOutlierFactor": 0.9, "AnomalyDetector": 0.89}
    assert judge([{**best, "data": name} for name in sets]) == 1
    assert capsys.readouterr().out.count("FALSE") == 4


@pytest.mark.parametrize(("errors", "status"), [((0.9, 1.0), 0), ((1.0, 1.1), 1), ((1.2, 1.3), 1)])
def test_own_modules_that_err_more_than_a_bare_loop_fail(errors, status, capsys):
    from benchmarks.own_modules import judge

    row = {"data": "digits", "widths": [64, 8], "output": "linear", "loss": "mse"}
    row |= {"errors": errors, "bare_errors": (1.0, 1.0), "seconds": 1.0, "bare_seconds": 1.0}
    assert judge([row]) == status
    assert f"{np.mean(errors):.2f} times the bare loop's" in capsys.readouterr().out
