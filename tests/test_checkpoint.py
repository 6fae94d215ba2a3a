"""A fit that was killed goes on where it was, and ends as if nothing had happened."""

import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skae import ConvAutoencoder, DenseAutoencoder
from skae._checkpoint import description

# Kills itself, as the system would, at a given write to the checkpoint: before it, in the middle
# of it, or after it.
FIT = """
import os, signal, sys
import numpy as np
import torch
from sklearn.datasets import load_digits
from skae import ConvAutoencoder, DenseAutoencoder

kind, folder, codes, last_write, moment = sys.argv[1:]
save, n_writes = torch.save, 0

def dying_save(state, file):
    global n_writes
    n_writes += 1
    if n_writes == int(last_write) and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)
    if n_writes == int(last_write):
        if moment == "during":
            file.truncate(file.tell() // 2)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = dying_save
X = load_digits().data[:600]
settings = dict(max_epochs=8, random_state=0, checkpoint=folder or None)
if kind == "dense":
    autoencoder = DenseAutoencoder(4, hidden_layer_sizes=(64, 64), **settings)
elif kind == "plain":
    autoencoder = DenseAutoencoder(4, hidden_layer_sizes=(64,), linear_path=False, **settings)
else:
    autoencoder = ConvAutoencoder(4, input_shape=(8, 8), channels=(8,), **settings)
np.save(codes, autoencoder.fit_transform(X))
print(n_writes)
"""


def fit_apart(kind, folder, codes, last_write=-1, moment="before"):
    """The process, once it has ended by itself or not."""
    command = [sys.executable, "-W", "ignore", "-c", FIT]
    arguments = [kind, str(folder), str(codes), str(last_write), moment]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "deaths"),
    [
        ("dense", [(2, "during"), (3, "after"), (4, "before")]),
        ("plain", [(3, "during")]),
        ("conv", [(4, "after")]),
    ],
)
def test_a_fit_killed_again_and_again_ends_with_the_same_codes(kind, deaths, tmp_path):
    done = fit_apart(kind, "", tmp_path / "undisturbed.npy")
    assert done.returncode == 0, done.stderr
    folder, codes = tmp_path / "checkpoint", tmp_path / "codes.npy"
    for last_write, moment in deaths:
        killed = fit_apart(kind, folder, codes, last_write, moment)
        assert killed.returncode == -9, killed.stderr
        assert not codes.exists()
    done = fit_apart(kind, folder, codes)
    assert done.returncode == 0, done.stderr
    assert codes.read_bytes() == (tmp_path / "undisturbed.npy").read_bytes()


def test_a_fit_that_had_ended_is_found(digits, quick, tmp_path, monkeypatch):
    codes = quick(checkpoint=tmp_path).fit_transform(digits[0])
    monkeypatch.setattr("skae._training._attempt", lambda *args: pytest.fail("trained again"))
    monkeypatch.setattr("skae._base.principal_basis", lambda *args: pytest.fail("sought again"))
    np.testing.assert_array_equal(quick(checkpoint=tmp_path).fit_transform(digits[0]), codes)


def test_a_checkpoint_changes_no_bit(digits, quick, tmp_path):
    without = quick().fit_transform(digits[0])
    np.testing.assert_array_equal(quick(checkpoint=tmp_path).fit_transform(digits[0]), without)


def test_early_stopping_survives(digits, quick, tmp_path):
    settings = {"linear_path": False, "max_epochs": 60, "learning_rate": 0.1, "n_iter_no_change": 3}
    plain = quick(**settings).fit(digits[0])
    assert plain.n_iter_ < 60
    resumed = quick(**settings, checkpoint=tmp_path, callbacks=None).fit(digits[0])
    assert resumed.n_iter_ == plain.n_iter_
    again = quick(**settings, checkpoint=tmp_path).fit(digits[0])
    np.testing.assert_array_equal(again.transform(digits[1]), plain.transform(digits[1]))


@pytest.mark.parametrize(
    ("change", "told"),
    [({"latent_dim": 5}, "latent_dim=4 instead of latent_dim=5"), ({"tol": 0.1}, "tol=0.0001")],
)
def test_a_checkpoint_of_other_parameters_is_refused(digits, quick, tmp_path, change, told):
    quick(checkpoint=tmp_path).fit(digits[0])
    other = quick(checkpoint=tmp_path).set_params(**change)
    with pytest.raises(ValueError, match=f"belongs to another fit, with {told}"):
        other.fit(digits[0])
    assert not hasattr(other, "latent_dim_")


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_a_checkpoint_of_other_data_is_refused(digits, quick, tmp_path, storage):
    X = storage(digits[0])
    quick(checkpoint=tmp_path, max_epochs=2).fit(X)
    changed = digits[0].copy()
    changed[-1, -2] += 1
    with pytest.raises(ValueError, match="belongs to another fit, with X="):
        quick(checkpoint=tmp_path, max_epochs=2).fit(storage(changed))


def test_the_shape_of_pictures_is_part_of_the_data(digits, tmp_path):
    autoencoder = ConvAutoencoder(2, max_epochs=2, random_state=0, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match="read as signals of length 64"):
        autoencoder.fit(digits[0])
    with pytest.raises(ValueError, match="belongs to another fit"):
        autoencoder.fit(digits[0].reshape(-1, 8, 8))


def wide(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, 32), nn.BatchNorm1d(32), nn.Linear(32, n_outputs))


def test_a_checkpoint_knows_ones_own_networks(digits, quick, tmp_path):
    quick(encoder=wide, checkpoint=tmp_path / "function").fit(digits[0])
    quick(encoder=wide, checkpoint=tmp_path / "function").fit(digits[0])
    module = wide(64, 4)
    quick(encoder=module, checkpoint=tmp_path / "module").fit(digits[0])
    quick(encoder=deepcopy(module), checkpoint=tmp_path / "module").fit(digits[0])
    with torch.no_grad():
        module[0].weight += 1
    with pytest.raises(ValueError, match="belongs to another fit, with encoder="):
        quick(encoder=module, checkpoint=tmp_path / "module").fit(digits[0])


def test_what_a_checkpoint_remembers_of_a_function_is_its_name():
    assert description(wide).endswith("test_checkpoint.wide")
    assert description(8) == "8"


def test_a_checkpoint_needs_an_integer_random_state(digits, tmp_path):
    for random_state in (None, np.random.RandomState(0)):
        autoencoder = DenseAutoencoder(2, checkpoint=tmp_path, random_state=random_state)
        with pytest.raises(ValueError, match="needs an integer random_state"):
            autoencoder.fit(digits[0])
    assert not any(tmp_path.iterdir())


def test_a_file_is_no_folder(digits, quick, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ValueError, match="is a file: it must be a folder"):
        quick(checkpoint=path).fit(digits[0])
