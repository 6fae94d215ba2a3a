"""What is saved comes back, and what was not saved by us does no harm."""

import json
import os
import pickle
import random
import re
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import skops.io
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import EpochTimer
from torch import nn

import skae
from skae import ConvAutoencoder, DenseAutoencoder
from skae._export.saving import _digest

X, y = (part[:600] for part in load_digits(return_X_y=True))
X = X.astype(np.float32)
STORED = sorted((Path(__file__).parents[1] / "saved").glob("*.skae"))
BRIEF = {"max_epochs": 2, "random_state": 0}


def small(**parameters):
    return DenseAutoencoder(3, hidden_layer_sizes=(16,), **BRIEF | parameters)


KINDS = {
    "linear": DenseAutoencoder(3, hidden_layer_sizes=()),
    "residual": small(whiten=True),
    "ordered": small(truncations="auto"),
    "counts": small(linear_path=False, loss="multinomial", corruption=0.1),
    "sparse codes": small(linear_path=False, penalty="l1", truncations=(1, 2)),
    "variational": small(linear_path=False, penalty="variational", output_activation="softplus"),
    "own networks": small(encoder=nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))),
    "convolutional": ConvAutoencoder(3, input_shape=(8, 8), channels=(4,), **BRIEF),
    "plain convolutional": ConvAutoencoder(
        3, input_shape=(8, 8), channels=(4,), linear_path=False, **BRIEF
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def fitted(request):
    return KINDS[request.param].fit(X)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file that is there for others to alter."""
    path = tmp_path_factory.mktemp("saved") / "digits.skae"
    skae.save(small().fit(X), path)
    return path


def by_joblib(estimator, folder):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def by_skae(estimator, folder):
    skae.save(estimator, folder / "model.skae")
    return skae.load(folder / "model.skae")


@pytest.mark.parametrize("way", [by_skae, by_joblib])
def test_an_estimator_comes_back_to_the_bit(fitted, way, tmp_path):
    loaded = way(fitted, tmp_path)
    codes = fitted.transform(X)
    np.testing.assert_array_equal(loaded.transform(X), codes)
    np.testing.assert_array_equal(loaded.inverse_transform(codes), fitted.inverse_transform(codes))
    assert loaded.score(X) == fitted.score(X)
    assert set(vars(loaded)) == set(vars(fitted))
    assert loaded.history_ == fitted.history_
    assert repr(loaded.get_params()) == repr(fitted.get_params())
    assert repr(loaded.module_) == repr(fitted.module_)


@pytest.mark.parametrize("kind", ["residual", "convolutional"])
def test_skops_keeps_a_pipeline_and_need_only_trust_skae(kind, tmp_path):
    pipeline = make_pipeline(FunctionTransformer(), KINDS[kind]).fit(X)
    skops.io.dump(pipeline, tmp_path / "model.skops")
    names = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
    assert {name.split(".")[0] for name in names} == {"skae"}
    loaded = skops.io.load(tmp_path / "model.skops", trusted=names)
    np.testing.assert_array_equal(loaded.transform(X), pipeline.transform(X))


def test_sparse_rows_pandas_output_and_names_survive(tmp_path):
    frame = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    fitted = small().set_output(transform="pandas").fit(frame)
    loaded = by_skae(fitted, tmp_path)
    pd.testing.assert_frame_equal(loaded.transform(frame), fitted.transform(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame.rename(columns={"pixel 0": "another"}))
    wide = small().fit(sp.csr_matrix(X))
    codes = by_skae(wide, tmp_path).transform(sp.csr_matrix(X))
    np.testing.assert_array_equal(
        codes.to_numpy() if hasattr(codes, "to_numpy") else codes, wide.transform(sp.csr_matrix(X))
    )


def test_layers_of_torch_keep_all_that_they_were_made_with(tmp_path):
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.PReLU(),
        nn.Dropout(0.2),
        nn.PixelUnshuffle(2),
        nn.PixelShuffle(2),
        nn.AvgPool2d(2, padding=1),
        nn.Flatten(),
        nn.Linear(81, 3),
    )
    X = np.random.default_rng(0).random((60, 64)).astype(np.float32)
    autoencoder = DenseAutoencoder(3, encoder=encoder, linear_path=False, max_epochs=1).fit(X)
    skae.save(autoencoder, tmp_path / "layers.skae")
    loaded = skae.load(tmp_path / "layers.skae")
    np.testing.assert_array_equal(loaded.transform(X), autoencoder.transform(X))


def test_batches_go_on_after_a_fit_and_not_from_the_middle(tmp_path):
    loaded = by_skae(small().fit(X[:400]), tmp_path)
    loaded.partial_fit(X[400:])
    streamed = by_skae(loaded, tmp_path)
    np.testing.assert_array_equal(streamed.transform(X), loaded.transform(X))
    with pytest.raises(ValueError, match="between its batches"):
        streamed.partial_fit(X)


HOOKED = nn.Linear(64, 3)
HOOKED.register_forward_hook(lambda module, inputs, output: output.tanh())


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (
            make_pipeline(StandardScaler(), small()),
            "one of ConvAutoencoder, .* got Pipeline. skops",
        ),
        (StandardScaler(), "one of ConvAutoencoder, .* got StandardScaler"),
        (small(encoder=lambda n, k: nn.Linear(n, k)), "encoder=.* cannot be written"),
        (
            small(encoder=nn.Sequential(nn.Linear(64, 3), nn.RReLU())),
            "encoder cannot be written: .*RReLU is no layer that skae can save",
        ),
        (small(encoder=HOOKED), "encoder cannot be written: Linear has hooks"),
    ],
)
def test_what_cannot_be_saved_is_named_and_leaves_no_file(estimator, sentence, tmp_path):
    with pytest.raises((TypeError, ValueError), match=sentence):
        skae.save(estimator.fit(X), tmp_path / "model.skae")
    assert not list(tmp_path.iterdir())


def test_a_parameter_that_load_would_refuse_is_refused_by_save(tmp_path):
    fitted = small().fit(X).set_params(learning_rate=-1.0)
    with pytest.raises(ValueError, match=r"'learning_rate' parameter .* Got -1\.0"):
        skae.save(fitted, tmp_path / "model.skae")
    assert not list(tmp_path.iterdir())


def refused(path):
    """Whether `load` says that it is no file of ours."""
    with pytest.raises(ValueError, match=r"is damaged, or is no file of skae\.save: ."):
        skae.load(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_file_gives_a_sentence(share, path, tmp_path):
    whole = path.read_bytes()
    part = tmp_path / "part.skae"
    part.write_bytes(whole[: int(share * len(whole))])
    refused(part)


@pytest.mark.parametrize("seed", range(8))
def test_an_altered_byte_gives_a_sentence(seed, path, tmp_path):
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    # Half of them in the header, which is a small part of the file.
    end = len(content) if seed % 2 else 8 + int.from_bytes(content[:8], "little")
    position = rng.randrange(end)
    content[position] ^= 1 << rng.randrange(8)
    altered = tmp_path / "altered.skae"
    altered.write_bytes(content)
    refused(altered)


def rewritten(path, target, change):
    """A file that somebody altered who knows how it is made."""
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["skae"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    change(content, arrays)
    text = json.dumps(content)
    save_file(arrays, target, {"skae": text, "sha256": _digest(text, arrays)})
    return target


def plan_of(content):
    return dict(content["state"]["module"]["module"]["plan"]["dict"])


def deep(levels):
    nested = []
    for _ in range(levels):
        nested = [nested]
    return nested


HOSTILE = {
    "another class": lambda c, a: c.update({"class": "subprocess.Popen"}),
    "an unknown parameter": lambda c, a: c["parameters"].update(command="ls"),
    "a parameter out of range": lambda c, a: c["parameters"].update(alpha=-1),
    "a special method": lambda c, a: c["state"].update(__class__="ls"),
    "no module": lambda c, a: c["state"].update(module=None),
    "another width": lambda c, a: c["sklearn"].update(n_features_in_=65),
    "another length": lambda c, a: c["state"].update(code_scale={"array": ["mean", [0]]}),
    "a kind of value": lambda c, a: c["state"].update(n_iter={"pickle": "gASV"}),
    "an array that is not there": lambda c, a: c["state"].update(mean={"array": ["x", [0]]}),
    "an array cut": lambda c, a: a.update(mean=a["mean"][:-1].copy()),
    "a layer of another shape": lambda c, a: a.update(
        {"module.decoder.0.weight": np.ones((2, 2), np.float32)}
    ),
    "an unknown layer": lambda c, a: plan_of(c)["children"]["dict"].append(
        ["refiner", {"dict": [["class", "os.system"], ["attributes", {"dict": []}]]}]
    ),
    "a layer with a method": lambda c, a: plan_of(c)["attributes"]["dict"].append(
        ["forward", "ls"]
    ),
    "lists without end": lambda c, a: c["state"].update(history=deep(900)),
    "a text for a history": lambda c, a: c["state"].update(history="ls"),
    "a stream": lambda c, a: c["state"].update(_stream={"dict": []}),
    "callbacks of scikit-learn": lambda c, a: c["state"].update(_skl_callbacks=["ls"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gives_a_sentence(name, path, tmp_path):
    refused(rewritten(path, tmp_path / "hostile.skae", HOSTILE[name]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_lacks_anything_is_refused(kind, tmp_path):
    fitted = clone(KINDS[kind]).fit(X[:300])
    skae.save(fitted, tmp_path / "whole.skae")
    for name in vars(fitted)["_state"].to_plain():
        lacking = tmp_path / "lacking.skae"
        rewritten(tmp_path / "whole.skae", lacking, lambda c, a, name=name: c["state"].pop(name))
        refused(lacking)


class Poison:
    """What runs when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


@pytest.mark.parametrize("parameter", ["memory", "checkpoint", "callbacks"])
def test_no_file_names_a_folder_or_code_for_a_later_fit(parameter, path, tmp_path):
    memory, ran = str(tmp_path / "memory"), str(tmp_path / "ran")
    small(memory=memory).fit(X)
    for kept in Path(memory).rglob("output.pkl"):
        kept.write_bytes(pickle.dumps(Poison(ran)))
    names = {"memory": memory, "checkpoint": str(tmp_path / "checkpoint"), "callbacks": ["ls"]}
    hostile = rewritten(
        path,
        tmp_path / "hostile.skae",
        lambda c, a: c["parameters"].update({parameter: names[parameter]}),
    )
    loaded = skae.load(hostile)
    assert getattr(loaded, parameter) is None
    loaded.fit(X)
    assert not os.path.exists(ran)
    assert not os.path.exists(names["checkpoint"])


def test_folders_and_callbacks_are_left_out(tmp_path):
    fitted = small(
        memory=joblib.Memory(None), checkpoint=tmp_path / "folder", callbacks=[EpochTimer()]
    ).fit(X)
    loaded = by_skae(fitted, tmp_path)
    assert (loaded.memory, loaded.checkpoint, loaded.callbacks) == (None, None, None)
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    with safe_open(tmp_path / "model.skae", framework="numpy") as file:
        written = json.loads(file.metadata()["skae"])["parameters"]
    assert not {"memory", "checkpoint", "callbacks"} & set(written)


@pytest.mark.parametrize(
    "whole",
    [
        make_pipeline(small(), LogisticRegression(max_iter=5000)),
        GridSearchCV(small(), {"latent_dim": [2, 3]}, cv=2),
    ],
    ids=["classifier", "search"],
)
def test_the_lines_that_save_names_for_a_pipeline_work(whole, tmp_path):
    whole.fit(X, y)
    with pytest.raises(TypeError, match=f"got {type(whole).__name__}") as caught:
        skae.save(whole, tmp_path / "model.skae")
    lines = re.findall("^    (.*)$", str(caught.value), re.MULTILINE)
    assert len(lines) == 3
    names = {"estimator": whole, "path": tmp_path / "model.skops"}
    exec("\n".join(["import skops.io", *lines]), names)
    assert names["estimator"] is not whole
    method = "predict" if hasattr(whole, "predict") else "transform"
    np.testing.assert_array_equal(getattr(names["estimator"], method)(X), getattr(whole, method)(X))


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_a_full_disk_leaves_the_old_file_and_no_other(path, tmp_path):
    import resource

    target = tmp_path / "model.skae"
    target.write_bytes(path.read_bytes())
    loaded = skae.load(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # no file may be larger
    try:
        with pytest.raises(OSError, match=r"model\.skae' cannot be written .*File too large"):
            skae.save(loaded, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == path.read_bytes()
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("call", ["touch", "fsync", "replace"])
def test_any_write_that_fails_is_told(call, path, tmp_path, monkeypatch):
    target = tmp_path / "model.skae"
    target.write_bytes(b"old")
    loaded = skae.load(path)

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if call == "touch" else os, call, full)
    with pytest.raises(OSError, match=r"model\.skae' cannot be written \(No space left") as caught:
        skae.save(loaded, target)
    assert caught.value.errno == 28
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_loading_never_unpickles(path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a file was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    assert skae.load(path).transform(X).shape == (len(X), 3)


def test_a_file_of_a_format_to_come_says_so(path, tmp_path):
    def change(content, arrays):
        content["format"] = 9
        content["versions"]["skae"] = "7.0"

    later = rewritten(path, tmp_path / "later.skae", change)
    with pytest.raises(ValueError, match=r"written by skae 7\.0 in format 9, but this version"):
        skae.load(later)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_files_of_earlier_versions_stay_readable(path):
    expected = np.load(path.with_suffix(".npy"))
    np.testing.assert_allclose(skae.load(path).transform(X[:20]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes of POSIX")
def test_links_are_followed_and_pipes_are_refused(tmp_path):
    fitted = DenseAutoencoder(2, hidden_layer_sizes=()).fit(X[:100])
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "target.skae")
    for _ in range(2):  # of a target that is not there, and of one that is
        skae.save(fitted, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        loaded = skae.load(tmp_path / "folder" / "target.skae")
        np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"cannot be written .*must be a file"):
            skae.save(fitted, path)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]
