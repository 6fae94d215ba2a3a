"""A fit that was killed goes on where it was, and ends as if nothing had happened."""

import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import ConvAutoencoder, DenseAutoencoder
from skae._runtime.storage import stable_repr

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
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize(
    ("kind", "deaths"),
    [
        ("dense", [(2, "during"), (3, "after"), (4, "before")]),
        ("plain", [(3, "during")]),
        ("conv", [(4, "after")]),
    ],
)
def test_a_fit_killed_repeatedly_ends_with_the_same_codes(kind, deaths, tmp_path):
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


def test_a_finished_fit_is_restored(digits, quick, tmp_path, monkeypatch):
    codes = quick(checkpoint=tmp_path).fit_transform(digits[0])
    monkeypatch.setattr(
        "skae._training.run.AutoencoderNet", lambda *args, **kwargs: pytest.fail("trained again")
    )
    monkeypatch.setattr(
        "skae._estimators.fitting.principal_basis", lambda *args: pytest.fail("sought again")
    )
    np.testing.assert_array_equal(quick(checkpoint=tmp_path).fit_transform(digits[0]), codes)


@pytest.mark.slow
def test_a_checkpoint_changes_no_bit(digits, quick, tmp_path):
    without = quick().fit_transform(digits[0])
    np.testing.assert_array_equal(quick(checkpoint=tmp_path).fit_transform(digits[0]), without)


def test_early_stopping_is_restored(digits, quick, tmp_path):
    settings = {"linear_path": False, "max_epochs": 200, "learning_rate": 0.01, "tol": 0.5}
    plain = quick(**settings).fit(digits[0])
    assert plain.n_iter_ < 200
    resumed = quick(**settings, checkpoint=tmp_path, callbacks=None).fit(digits[0])
    assert resumed.n_iter_ == plain.n_iter_
    again = quick(**settings, checkpoint=tmp_path).fit(digits[0])
    np.testing.assert_array_equal(again.transform(digits[1]), plain.transform(digits[1]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"latent_dim": 5}, "latent_dim=4 instead of latent_dim=5"), ({"tol": 0.2}, "tol=0.1")],
)
def test_a_checkpoint_of_other_parameters_is_refused(digits, quick, tmp_path, change, sentence):
    quick(checkpoint=tmp_path).fit(digits[0])
    other = quick(checkpoint=tmp_path).set_params(**change)
    with pytest.raises(ValueError, match=f"belongs to another fit, with {sentence}"):
        other.fit(digits[0])
    assert not hasattr(other, "latent_dim_")


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_a_checkpoint_of_other_data_is_refused(digits, quick, tmp_path, storage):
    X = storage(digits[0])
    quick(checkpoint=tmp_path, max_epochs=2).fit(X)
    changed = digits[0].copy()
    changed[-1, -2] += 1
    with pytest.raises(ValueError, match="with other rows of X: a folder holds one fit"):
        quick(checkpoint=tmp_path, max_epochs=2).fit(storage(changed))


def test_the_shape_of_pictures_is_part_of_the_data(digits, tmp_path):
    autoencoder = ConvAutoencoder(2, max_epochs=2, random_state=0, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match="read as signals of length 64"):
        autoencoder.fit(digits[0])
    with pytest.raises(ValueError, match="belongs to another fit"):
        autoencoder.fit(digits[0].reshape(-1, 8, 8))


def wide(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, 32), nn.BatchNorm1d(32), nn.Linear(32, n_outputs))


def test_a_checkpoint_identifies_custom_networks(digits, quick, tmp_path):
    quick(encoder=wide, checkpoint=tmp_path / "function").fit(digits[0])
    quick(encoder=wide, checkpoint=tmp_path / "function").fit(digits[0])
    module = wide(64, 4)
    quick(encoder=module, checkpoint=tmp_path / "module").fit(digits[0])
    quick(encoder=deepcopy(module), checkpoint=tmp_path / "module").fit(digits[0])
    with torch.no_grad():
        module[0].weight += 1
    with pytest.raises(ValueError, match="belongs to another fit, with encoder="):
        quick(encoder=module, checkpoint=tmp_path / "module").fit(digits[0])


def test_functions_are_identified_by_their_name():
    assert stable_repr(wide).endswith("test_checkpoint.wide")
    assert stable_repr(8) == "8"


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


def stopped_at(n_writes, fit):
    """Run a fit whose folder takes a limited number of files, as if the disk were full then."""
    write, n_written = torch.save, 0

    def limited(state, file):
        nonlocal n_written
        n_written += 1
        if n_written > n_writes:
            raise OSError(28, "No space left on device")
        write(state, file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", limited)
        fit()


def tiny(folder, **parameters):
    settings = {"hidden_layer_sizes": (8,), "max_epochs": 4, "batch_size": 64, "random_state": 0}
    return DenseAutoencoder(2, checkpoint=folder, **settings | parameters)


@pytest.fixture(scope="module")
def folders(digits, tmp_path_factory):
    """Codes of a fit, and its folders: of one that was stopped in training, and of its end."""
    X, root = digits[0][:160], tmp_path_factory.mktemp("folders")
    with pytest.raises(OSError, match="No space left"):
        stopped_at(5, lambda: tiny(root / "stopped").fit(X))
    names = {path.name for path in (root / "stopped").iterdir()}
    assert "training.pt" in names
    codes = tiny(root / "ended").fit_transform(X)
    np.testing.assert_array_equal(codes, tiny(None).fit_transform(X))
    return X, codes, root


def damages(path):
    """Contents that a file may have after an accident, or None where it was lost."""
    whole = path.read_bytes()
    yield None
    for share in (0, 0.1, 0.5, 0.99):
        yield whole[: int(share * len(whole))]
    yield whole[:-1]
    yield whole + b"\0"
    yield bytes(len(whole))
    for i in range(24):
        place = int((i + 0.5) / 24 * len(whole))
        yield whole[:place] + bytes([whole[place] ^ 1 << i % 8]) + whole[place + 1 :]


def sentence_or_codes(folder, X):
    try:
        return tiny(folder).fit_transform(X)
    except ValueError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["stopped", "ended"])
def test_damaged_files_raise_or_give_the_same_codes(state, folders, tmp_path):
    X, codes, root = folders
    folder, n_sentences, n_same = tmp_path / "folder", 0, 0
    for path in sorted((root / state).glob("*.pt")):
        for content in damages(path):
            shutil.copytree(root / state, folder)
            (folder / path.name).unlink()
            if content is not None:
                (folder / path.name).write_bytes(content)
            result = sentence_or_codes(folder, X)
            if isinstance(result, str):
                n_sentences += 1
                assert f"checkpoint={str(folder)!r} cannot be read: {path.name!r} " in result
                assert "Delete the folder to start the fit anew" in result
            else:
                n_same += 1
                np.testing.assert_array_equal(result, codes)
            shutil.rmtree(folder)
    assert n_sentences > 90
    assert n_same > 0


def test_a_file_of_another_fit_raises(folders, tmp_path):
    X, _, root = folders
    shutil.copytree(root / "ended", tmp_path / "mixed")
    tiny(tmp_path / "other").fit(X[::-1])
    shutil.copy(tmp_path / "other" / "basis.pt", tmp_path / "mixed")
    with pytest.raises(ValueError, match=r"'basis\.pt' has changed since it was written"):
        tiny(tmp_path / "mixed").fit(X)


def test_a_checkpoint_of_a_gpu_is_refused_without_one(digits, tmp_path, monkeypatch):
    X = digits[0][:160]
    with monkeypatch.context() as patch:
        patch.setattr(
            "skae._estimators.base.resolve_device", lambda device: torch.device("cuda", 0)
        )
        patch.setattr(DenseAutoencoder, "_plan", lambda *arguments: 1 / 0)
        patch.setattr("skae._estimators.auto.multiplies_bfloat16", lambda device: False)
        with pytest.raises(ZeroDivisionError):
            tiny(tmp_path, device="auto").fit(X)
    with pytest.raises(
        ValueError, match="with device=cuda instead of device=cpu: a folder holds one"
    ):
        tiny(tmp_path, device="auto").fit(X)


def test_auto_and_the_device_it_means_are_one_fit(folders, tmp_path):
    X, codes, root = folders
    shutil.copytree(root / "stopped", tmp_path / "folder")
    np.testing.assert_array_equal(tiny(tmp_path / "folder", device="cpu").fit_transform(X), codes)


def test_numpy_scalars_are_the_same_parameters(folders, tmp_path):
    X, codes, root = folders
    shutil.copytree(root / "stopped", tmp_path / "folder")
    same = tiny(
        tmp_path / "folder",
        hidden_layer_sizes=[np.int64(8)],
        max_epochs=np.int64(4),
        tol=np.float64(0.1),
    )
    np.testing.assert_array_equal(same.fit_transform(X), codes)


def test_a_full_disk_loses_nothing(folders, tmp_path):
    X, codes, _ = folders
    folder = tmp_path / "folder"
    before = tiny(None).fit(X[:80])
    expected = before.transform(X)
    before.set_params(checkpoint=folder)
    for n_writes in (0, 1, 2, 3):
        sentence = (
            f"checkpoint={str(folder)!r} cannot be written (No space left on device). What was "
            f"saved there before is complete, and the same fit continues from it"
        )
        with pytest.raises(OSError, match=re.escape(sentence)) as caught:
            stopped_at(n_writes, lambda: before.fit(X))
        assert caught.value.errno == 28
        np.testing.assert_array_equal(before.transform(X), expected)
        assert {path.suffix for path in folder.iterdir()} <= {".pt", ".lock"}
    np.testing.assert_array_equal(tiny(folder).fit_transform(X), codes)


# No file may grow beyond a limit, which torch reaches in the middle of its writing.
LIMITED = """
import resource, sys
import numpy as np
from sklearn.datasets import load_digits
from skae import DenseAutoencoder

folder, limit = sys.argv[1], int(sys.argv[2])
X = load_digits().data[:160]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
autoencoder = DenseAutoencoder(
    2, hidden_layer_sizes=(8,), max_epochs=4, batch_size=64, random_state=0, checkpoint=folder
)
try:
    autoencoder.fit(X)
except OSError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_a_write_that_fails_in_the_middle_raises(tmp_path):
    script = [sys.executable, "-W", "ignore", "-c", LIMITED, str(tmp_path), "5000"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"checkpoint={str(tmp_path)!r} cannot be written (File too large)" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"identity.pt", "fit.lock"}


@pytest.mark.parametrize("name", ["basis.unfinished", "basis.pt", "fit.lock"])
def test_a_folder_with_the_name_of_a_file_raises(name, folders, tmp_path):
    X, codes, _ = folders
    (tmp_path / name).mkdir()
    with pytest.raises((OSError, ValueError), match=r"checkpoint='.*' cannot be (written|read)"):
        tiny(tmp_path).fit(X)
    (tmp_path / name).rmdir()
    if name == "basis.pt":
        shutil.rmtree(tmp_path)  # as the message recommends
    np.testing.assert_array_equal(tiny(tmp_path).fit_transform(X), codes)


def test_a_folder_inside_a_file_raises(digits, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"checkpoint='.*folder' cannot be written \("):
        tiny(tmp_path / "file" / "folder").fit(digits[0][:160])


def test_a_folder_needs_a_name(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="checkpoint='' must be the name of a folder"):
        tiny("").fit(digits[0][:160])
    assert not any(tmp_path.iterdir())


# Fits, prints a line at its first epoch, and then waits to be killed.
WAITING = """
import sys, time
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from skae import DenseAutoencoder

class Wait(Callback):
    def on_epoch_end(self, net, **kwargs):
        print("in training", flush=True)
        time.sleep(600)

DenseAutoencoder(
    2, hidden_layer_sizes=(8,), max_epochs=4, batch_size=64, random_state=0,
    checkpoint=sys.argv[1], callbacks=[Wait()],
).fit(load_digits().data[:160])
"""


@pytest.mark.slow
def test_a_folder_in_use_is_refused_until_its_fit_has_died(folders, tmp_path):
    X, codes, _ = folders
    script = [sys.executable, "-W", "ignore", "-c", WAITING, str(tmp_path)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "in training\n"
            with pytest.raises(
                ValueError, match="is in use by another fit: a folder holds one fit"
            ):
                tiny(tmp_path).fit(X)
            assert os.path.exists(tmp_path / "basis.pt")
        finally:
            process.kill()
    np.testing.assert_array_equal(tiny(tmp_path).fit_transform(X), codes)


def test_a_search_with_a_checkpoint_is_referred_to_memory(digits, tmp_path):
    search = GridSearchCV(tiny(tmp_path), {"latent_dim": [2, 3]}, error_score="raise", cv=2)
    with pytest.raises(ValueError, match="with other rows of X: a folder holds one fit") as caught:
        search.fit(digits[0][:160])
    assert "The fits of a search share their long steps by memory=" in str(caught.value)
    assert not re.search("[0-9a-f]{16}", str(caught.value).replace(str(tmp_path), ""))
