"""Small fits give the codes that are stored, and stored files and pickles still load.

``SKAE_GOLDEN=exact`` compares bits: on the machine that wrote the files, with any number of
threads. Other machines round otherwise, and training makes more of it: tests/golden/write.py has
the tolerances.
"""

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone

import skae

FOLDER = Path(__file__).parents[1] / "golden"


def imported(path):
    spec = importlib.util.spec_from_file_location("golden_write", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


write = imported(FOLDER / "write.py")
STORED = dict(np.load(FOLDER / "golden.npz"))

IS_EXACT = os.environ.get("SKAE_GOLDEN") == "exact"

# For what is loaded and not trained, as a share of the largest number of an array.
TOLERANCE_OF_LOADED = 1e-5


def stored(name):
    return {key.split("/")[1]: STORED[key] for key in STORED if key.split("/")[0] == name}


def assert_same(found, expected, tolerance):
    assert set(found) == set(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype, key
        if IS_EXACT:
            np.testing.assert_array_equal(found[key], array, err_msg=key)
            continue
        # Each scalar and each kind of loss by itself.
        axis = 0 if key in ("scalars", "losses") else None
        sizes = np.nan_to_num(np.abs(np.atleast_2d(array)))
        largest = sizes.max(axis=axis, initial=0)
        unit = np.where(largest > 0, largest, 1)
        np.testing.assert_allclose(
            found[key] / unit, array / unit, rtol=0, atol=tolerance, err_msg=key
        )


@pytest.mark.parametrize("name", write.CONFIGURATIONS)
def test_a_fit_gives_what_is_stored(name):
    configuration = write.CONFIGURATIONS[name]
    _, results = configuration.results()
    assert_same(results, stored(name), configuration.tolerance)


def assert_loaded(estimator, name):
    configuration = write.CONFIGURATIONS[name]
    expected = stored(name)
    found = write.described(estimator)
    found |= write.coded(estimator, configuration.shown(), configuration.truncated)
    assert_same(found, expected, TOLERANCE_OF_LOADED)


@pytest.mark.parametrize("name", write.CONFIGURATIONS)
def test_a_stored_file_gives_what_is_stored(name):
    assert_loaded(skae.load(write.stored_path(name, "skae")), name)


@pytest.mark.parametrize("name", write.PICKLED)
def test_a_stored_pickle_gives_what_is_stored(name):
    assert_loaded(pickle.loads(write.stored_path(name, "pickle").read_bytes()), name)


def test_what_is_stored_is_what_is_tested():
    assert {key.split("/")[0] for key in STORED} == set(write.CONFIGURATIONS)
    files = {path for path in FOLDER.iterdir() if path.suffix in (".skae", ".pickle")}
    names = [(name, "skae") for name in write.CONFIGURATIONS]
    names += [(name, "pickle") for name in write.PICKLED]
    assert files == {write.stored_path(*name) for name in names}


BRIEF = {"max_epochs": 2, "learning_rate": 0.01, "device": "cpu", "random_state": 0}
COPIED = [
    skae.DenseAutoencoder(3, hidden_layer_sizes=(16,), batch_size=16, **BRIEF),
    skae.DenseAutoencoder(3, hidden_layer_sizes=(16,), linear_path=False, **BRIEF),
    skae.ConvAutoencoder(3, input_shape=(8, 8), channels=(4,), **BRIEF),
]

# Which imports neither skae nor scikit-learn before a pickle asks for them.
ELSEWHERE = """
import pickle, sys
import joblib
import numpy as np

for number in range(int(sys.argv[2])):
    path = f"{sys.argv[1]}/{number}"
    with open(path + ".pickle", "rb") as file:
        models = [pickle.load(file), joblib.load(path + ".joblib")]
    from sklearn.datasets import load_digits
    X = load_digits().data[:300].astype(np.float32)
    expected = np.load(path + ".npz")
    for model in models:
        codes = model.transform(X)
        np.testing.assert_array_equal(codes, expected["codes"])
        np.testing.assert_array_equal(model.inverse_transform(codes), expected["reconstructions"])
print(number + 1)
"""


@pytest.mark.slow
def test_copies_give_the_same_codes_also_in_another_process(tmp_path, digits):
    X = digits[0][:300].astype(np.float32)
    for number, model in enumerate(COPIED):
        model = clone(model).fit(X[:250])
        expected = model.transform(X), model.inverse_transform(model.transform(X))
        path = f"{tmp_path}/{number}"
        joblib.dump(model, path + ".joblib")
        Path(path + ".pickle").write_bytes(pickle.dumps(model))
        np.savez(path, codes=expected[0], reconstructions=expected[1])
        copies = {
            "pickle": pickle.loads(pickle.dumps(model)),
            "copy": copy.copy(model),
            "deepcopy": copy.deepcopy(model),
            "joblib": joblib.load(path + ".joblib"),
            "deepcopy, cloned": clone(copy.deepcopy(model)).fit(X[:250]),
        }
        for name, other in copies.items():
            found = other.transform(X), other.inverse_transform(other.transform(X))
            for one, another in zip(expected, found, strict=True):
                np.testing.assert_array_equal(one, another, err_msg=f"{number}: {name}")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path), str(len(COPIED))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(len(COPIED)), done.stderr
