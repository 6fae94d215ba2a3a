"""A fit that was killed goes on where it was, and ends as if nothing had happened."""

import re
import shutil
import subprocess
import sys
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from skae import ConvAutoencoder, DenseAutoencoder

# Fits in processes of their own, which share the imports. Each kills itself, as the system would,
# at a given write to the checkpoint: before it, in the middle of it, or after it.
FITS = """
import os, signal, sys, warnings
import numpy as np
import torch
from sklearn.datasets import load_digits
from skae import ConvAutoencoder, DenseAutoencoder

warnings.simplefilter("ignore")
torch.set_num_threads(1)  # threads would not be in the other processes
X, save = load_digits().data[:400], torch.save

def fit(kind, folder, codes, last_write=-1, moment=""):
    n_writes = 0

    def dying_save(state, file):
        nonlocal n_writes
        n_writes += 1
        if n_writes == last_write and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, file)
        if n_writes == last_write:
            if moment == "during":
                file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = dying_save
    settings = dict(max_epochs=6, random_state=0, checkpoint=folder)
    if kind == "dense":
        model = DenseAutoencoder(4, hidden_layer_sizes=(32,), **settings)
    elif kind == "plain":
        model = DenseAutoencoder(4, hidden_layer_sizes=(32,), linear_path=False, **settings)
    else:
        model = ConvAutoencoder(4, input_shape=(8, 8), channels=(4,), **settings)
    np.save(codes, model.fit_transform(X))

def apart(*arguments):
    process = os.fork()
    if not process:
        fit(*arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

DenseAutoencoder(2, linear_path=False, hidden_layer_sizes=(4,), max_epochs=1).fit(X[:40])
for kind, deaths in {
    "dense": [(2, "during"), (3, "after"), (4, "before")],
    "plain": [(3, "during")],
    "conv": [(4, "after")],
}.items():
    folder = f"{sys.argv[1]}/{kind}"
    assert apart(kind, None, folder + "-undisturbed") == 0
    for death in deaths:
        assert apart(kind, folder, folder + "-resumed", *death) == -signal.SIGKILL
        assert not os.path.exists(folder + "-resumed.npy")
    assert apart(kind, folder, folder + "-resumed") == 0
    whole, resumed = (np.load(folder + name) for name in ("-undisturbed.npy", "-resumed.npy"))
    assert whole.tobytes() == resumed.tobytes(), kind
print("the same codes")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_fits_killed_repeatedly_end_with_the_same_codes(tmp_path):
    command = [sys.executable, "-c", FITS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "the same codes\n", done.stderr


def test_a_finished_fit_is_restored_and_not_trained_again(folders, tmp_path):
    X, codes, root = folders
    shutil.copytree(root / "ended", tmp_path / "folder")
    first, second = (tiny(tmp_path / "folder").fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.transform(X), codes)
    assert first.history_ == second.history_  # also the seconds that each epoch took


def test_early_stopping_is_restored(digits, quick, tmp_path):
    settings = {"linear_path": False, "max_epochs": 200, "learning_rate": 0.01, "tol": 0.5}
    settings |= {"hidden_layer_sizes": (16,), "checkpoint": tmp_path}
    plain, again = (quick(**settings).fit(digits[0][:600]) for _ in range(2))
    assert plain.n_iter_ == again.n_iter_ < 200
    np.testing.assert_array_equal(again.transform(digits[1]), plain.transform(digits[1]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"latent_dim": 5}, "latent_dim=4 instead of latent_dim=5"), ({"tol": 0.2}, "tol=0.1")],
)
def test_a_checkpoint_of_other_parameters_is_refused(digits, quick, tmp_path, change, sentence):
    quick(checkpoint=tmp_path, max_epochs=1).fit(digits[0][:300])
    other = quick(checkpoint=tmp_path, max_epochs=1).set_params(**change)
    with pytest.raises(ValueError, match=f"belongs to another fit, with {sentence}"):
        other.fit(digits[0][:300])
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


def of_width(n_inputs, n_outputs, width):
    return nn.Sequential(nn.Linear(n_inputs, width), nn.Linear(width, n_outputs))


def named(activation):
    """A function whose name does not say what it makes."""
    return lambda n_inputs, n_outputs: nn.Sequential(nn.Linear(n_inputs, n_outputs), activation())


def test_a_checkpoint_identifies_custom_networks(digits, quick, tmp_path):
    X, module = digits[0][:300], wide(64, 4)

    def fit(encoder, name):
        quick(encoder=encoder, max_epochs=1, checkpoint=tmp_path / name).fit(X)

    for function in (wide, wide):
        fit(function, "function")
    for same in (module, deepcopy(module)):
        fit(same, "module")
    for equal in (partial(of_width, width=8), partial(of_width, width=8)):
        fit(equal, "partial")
    fit(named(nn.ReLU), "same name")
    with pytest.raises(ValueError, match="belongs to another fit, with other networks"):
        fit(named(nn.Tanh), "same name")
    with torch.no_grad():
        module[0].weight += 1
    with pytest.raises(ValueError, match="belongs to another fit, with encoder="):
        fit(module, "module")


def test_a_checkpoint_needs_an_integer_random_state(digits, tmp_path):
    for random_state in (None, np.random.RandomState(0)):
        autoencoder = DenseAutoencoder(2, checkpoint=tmp_path, random_state=random_state)
        with pytest.raises(ValueError, match="needs an integer random_state"):
            autoencoder.fit(digits[0])
    assert not any(tmp_path.iterdir())


def test_a_file_and_an_empty_name_are_no_folders(digits, quick, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ValueError, match="is a file: it must be a folder"):
        quick(checkpoint=path).fit(digits[0])
    with pytest.raises(OSError, match=r"checkpoint='.*folder' cannot be written \("):
        tiny(path / "folder").fit(digits[0][:160])
    with pytest.raises(ValueError, match="checkpoint='' must be the name of a folder"):
        tiny("").fit(digits[0][:160])


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
    yield b""
    yield whole[: len(whole) // 2]
    yield whole[:-1]
    yield whole + b"\0"
    yield bytes(len(whole))
    for i in range(8):
        place = int((i + 0.5) / 8 * len(whole))
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
    assert n_sentences >= 40
    assert n_same > 0


def test_a_file_of_another_fit_raises(folders, tmp_path):
    X, _, root = folders
    shutil.copytree(root / "ended", tmp_path / "mixed")
    tiny(tmp_path / "other").fit(X[::-1])
    shutil.copy(tmp_path / "other" / "basis.pt", tmp_path / "mixed")
    with pytest.raises(ValueError, match=r"'basis\.pt' has changed since it was written"):
        tiny(tmp_path / "mixed").fit(X)


def test_the_same_values_in_another_form_are_the_same_fit(folders, tmp_path):
    X, codes, root = folders
    shutil.copytree(root / "stopped", tmp_path / "folder")
    numbers = {
        "hidden_layer_sizes": [np.int64(8)],
        "max_epochs": np.int64(4),
        "tol": np.float64(0.1),
    }
    same = tiny(tmp_path / "folder", device="cpu", **numbers)
    np.testing.assert_array_equal(same.fit_transform(X), codes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_checkpoint_of_a_gpu_is_refused_without_one(folders, tmp_path):
    tiny(tmp_path, device="cuda").fit(folders[0])
    with pytest.raises(ValueError, match="with device=cuda instead of device=cpu: a folder holds"):
        tiny(tmp_path, device="cpu").fit(folders[0])


class Second(Callback):
    """Begins the same fit while one is running."""

    def __init__(self, folder, X):
        self.folder, self.X, self.sentences = folder, X, []

    def on_epoch_end(self, net, **kwargs):
        with pytest.raises(ValueError, match="is in use by another fit: a folder holds one fit"):
            tiny(self.folder).fit(self.X)
        self.sentences.append("refused")


def test_a_folder_in_use_is_refused(folders, tmp_path):
    X, codes, _ = folders
    second = Second(tmp_path, X)
    np.testing.assert_array_equal(tiny(tmp_path, callbacks=[second]).fit_transform(X), codes)
    assert len(second.sentences) == 4


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


def test_a_search_with_a_checkpoint_is_referred_to_memory(digits, tmp_path):
    search = GridSearchCV(tiny(tmp_path), {"latent_dim": [2, 3]}, error_score="raise", cv=2)
    with pytest.raises(ValueError, match="with other rows of X: a folder holds one fit") as caught:
        search.fit(digits[0][:160])
    assert "The fits of a search share their long steps by memory=" in str(caught.value)
    assert not re.search("[0-9a-f]{16}", str(caught.value).replace(str(tmp_path), ""))
