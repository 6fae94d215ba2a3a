"""The benchmark of many fields reads, prepares and judges as it says."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def test_rows_are_prepared_by_kind_and_whole_groups_held_out(tmp_path):
    from benchmarks.lib.fields_data import load_field, names_in

    rng = np.random.default_rng(0)
    folder = tmp_path / "fields"
    folder.mkdir()
    X, y = rng.poisson(3.0, (80, 4)).astype(np.float32), np.arange(80, dtype=np.float32)
    matrix = sp.csr_matrix(X)
    parts = {name: getattr(matrix, name) for name in ("data", "indices", "indptr", "shape")}
    bytes_of = rng.integers(0, 256, (80, 2, 3, 1), dtype=np.uint8)
    np.savez(folder / "one.npz", kind="table", X=X, y=y, groups=np.arange(80) // 8)
    np.savez(folder / "two.npz", kind="counts", y=y.astype(np.int32), **parts)
    np.savez(folder / "three.npz", kind="picture 2x3x1", X=bytes_of, y=y)
    np.savez(folder / "ozone.npz", kind="table", X=np.full((80, 4), np.nan), y=y)
    assert names_in(tmp_path)[:3] == ["one", "three", "two"]

    table = load_field("one", tmp_path)
    np.testing.assert_allclose(table.split.X_train.std(axis=0), 1, rtol=1e-5)
    groups = [set(rows // 8) for rows in (table.split.y_train, table.split.y_test)]
    assert len(groups[1]) == 3  # of ten
    assert not groups[0] & groups[1]
    assert table.is_regression
    assert table.picture is None

    counts = load_field("two", tmp_path)
    rows = counts.split.y_test
    np.testing.assert_allclose(counts.split.X_test.toarray(), np.log1p(X[rows]), rtol=1e-6)
    assert not counts.is_regression

    pictures = load_field("three", tmp_path)
    rows = pictures.split.y_train.astype(int)
    np.testing.assert_allclose(pictures.split.X_train, bytes_of[rows].reshape(60, 6) / 255)
    assert pictures.picture == (2, 3)


def cell(**changed):
    return {
        "data": "letter",
        "latent_dim": 8,
        "pca": 0.5,
        "ours": 0.8,
        "far": 0.8,
        "code_is_pca": False,
        "ours_seconds": 1.0,
        "ours_cpu_seconds": 1.0,
    } | changed


@pytest.mark.parametrize(
    ("changed", "n_false"),
    [
        ({}, 0),
        ({"ours": 0.497, "far": 0.5}, 1),
        ({"ours": 0.75}, 1),  # five sixths of the far end's gain
        ({"ours": 0.6}, 2),  # a third of it
        ({"latent_dim": 2, "ours": 0.7, "far": 0.7}, 1),  # less than is claimed of this set
        ({"latent_dim": 32, "code_is_pca": True}, 1),
        ({"latent_dim": 32, "code_is_pca": True, "pca": 0.995, "ours": 0.995}, 0),
        ({"accuracy": [0.8, 0.8], "pca_accuracy": [0.81, 0.81], "measure": "accuracy"}, 1),
        ({"accuracy": [0.7, 0.9], "pca_accuracy": [0.81, 0.81], "measure": "accuracy"}, 0),
        ({"earlier_cpu_seconds": 0.9}, 1),
        ({"earlier_cpu_seconds": 2.0, "code_is_pca": True}, 1),
        ({"earlier_cpu_seconds": 5.0, "code_is_pca": True}, 0),
    ],
)
def test_fields_fail_where_a_claim_is_false(changed, n_false):
    from benchmarks.lib.fields_summary import claims_of

    assert sum(not holds for holds, _ in claims_of([cell(**changed)])) == n_false


def test_a_mean_is_claimed_of_all_cells_alone():
    from benchmarks.lib.fields_summary import ALL_CELLS, MEAN, claims_of

    low = [cell(data=f"set {i}", ours=MEAN - 0.01, far=MEAN + 0.001) for i in range(ALL_CELLS)]
    false = [sentence for holds, sentence in claims_of(low) if not holds]
    assert len(false) == 1
    assert "mean share ours" in false[0]
    assert all(holds for holds, _ in claims_of(low[1:]))


def test_convolutions_fail_behind_the_dense_form_or_where_they_are_slow():
    from benchmarks.lib.fields_summary import convolutional_claims

    row = {"data": "mnist", "latent_dim": 8, "dense": 0.6, "conv": 0.6}
    seconds = {"dense_cpu_seconds": 1.0, "conv_cpu_seconds": 2.9}
    rows = [
        row | seconds,
        row | seconds | {"conv": 0.59},
        row | seconds | {"dense_cpu_seconds": 0.9},
    ]
    assert [holds for holds, _ in convolutional_claims(rows)] == [
        *(True, True),
        *(False, True),
        *(True, False),
    ]
