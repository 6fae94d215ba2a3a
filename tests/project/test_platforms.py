"""Nothing assumes Linux: what one system alone has is simulated to be missing."""

import ast
import ctypes
import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from skae._runtime import device as device_module
from skae._runtime import execution as execution_module
from skae._runtime import storage as storage_module
from skae._runtime import tensors as tensors_module

ROOT = Path(__file__).parents[2]

# Modules of the standard library that Windows does not have.
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}

# Folders of Linux, and the files that read them where they exist.
FOLDERS_OF_LINUX = ("/proc", "/sys", "/dev", "/tmp", "/var", "/run")
READERS_OF_THEM = {
    "skae/_runtime/device.py",
    "benchmarks/lib/measure.py",
    "benchmarks/lib/memory.py",
}


def sources():
    for folder in ("skae", "benchmarks", "docs/examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def optional_imports(tree):
    """Import statements that may fail: those within ``try``."""
    return {
        id(statement)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try)
        for statement in node.body
    }


def test_no_module_of_one_system_is_needed():
    for path, tree in sources():
        optional = optional_imports(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and id(node) not in optional:
                assert not {alias.name for alias in node.names} & POSIX_MODULES, path
            elif isinstance(node, ast.ImportFrom) and id(node) not in optional:
                assert node.module not in POSIX_MODULES, path


def test_folders_of_linux_are_read_in_few_places():
    found = {
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value + "/").startswith(tuple(f"{folder}/" for folder in FOLDERS_OF_LINUX))
    }
    assert found == READERS_OF_THEM


@pytest.fixture
def without_proc(monkeypatch):
    """As on a system without Linux's folders of numbers."""
    read_text = Path.read_text

    def read(path, *args, **kwargs):
        if path.as_posix().startswith(("/proc/", "/sys/")):
            raise FileNotFoundError(path)
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read)
    device_module._vendor_of_processor.cache_clear()
    yield
    device_module._vendor_of_processor.cache_clear()


def free_bytes():
    return device_module.free_bytes(torch.device("cpu"))


def test_memory_that_the_system_does_not_tell_is_no_limit(without_proc, monkeypatch):
    def hidden():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    assert free_bytes() == np.inf


@pytest.mark.parametrize(("limit", "free"), [("4000000", 3e6), ("max", 1e15)])
def test_the_limit_of_a_container_counts(monkeypatch, limit, free):
    of_group = {"memory.max": limit, "memory.current": "1000000"}
    monkeypatch.setattr(Path, "read_text", lambda path, **kwargs: of_group[path.name])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1e15))
    assert free_bytes() == free


def test_without_proc_python_names_the_processor(without_proc, monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: "Intel64 Family 6, GenuineIntel")
    assert "GenuineIntel" in device_module._vendor_of_processor()


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def no_folder(*args, **kwargs):
    raise FileNotFoundError(2, "No usable temporary directory found")


@pytest.mark.parametrize("missing", ["allocation", "folder", "room"])
def test_without_anonymous_files_codes_are_the_same(digits, quick, monkeypatch, missing):
    X = digits[0][:600]
    expected = quick(max_epochs=4).fit_transform(X)
    monkeypatch.setattr(tensors_module, "_LARGE", 2**8)
    if missing == "allocation":  # as on macOS and Windows
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    elif missing == "folder":
        monkeypatch.setattr(tensors_module, "TemporaryFile", no_folder)
    else:
        monkeypatch.setattr(os, "posix_fallocate", full_disk, raising=False)
    codes = quick(max_epochs=4).fit_transform(X)
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-5)


class NoLocks:
    """A lock on a file system without locks."""

    def __init__(self, path):
        pass

    def acquire(self, timeout=None):
        raise NotImplementedError("FileSystem does not appear to support flock")

    __enter__ = acquire

    def __exit__(self, *exception):
        pass

    def release(self):
        pass


class LockOfAnotherUser(NoLocks):
    """A lock whose file belongs to another user."""

    def __enter__(self):
        raise PermissionError(13, "Permission denied")


def test_without_locks_a_checkpoint_is_written_and_read(digits, quick, monkeypatch, tmp_path):
    X = digits[0][:300]
    expected = quick(max_epochs=2).fit_transform(X)
    monkeypatch.setattr(storage_module, "FileLock", NoLocks)
    for _ in range(2):
        codes = quick(max_epochs=2, checkpoint=tmp_path).fit_transform(X)
        np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("lock", [NoLocks, LockOfAnotherUser])
def test_without_locks_workers_share_a_device(monkeypatch, lock):
    emptied = []
    monkeypatch.setattr(execution_module, "FileLock", lock)
    monkeypatch.setattr(execution_module, "parent_process", lambda: "a parent")
    monkeypatch.setattr(execution_module, "empty_cache", emptied.append)
    device = torch.device("cuda:0")
    with execution_module.device_lock(device):
        assert not emptied
    assert emptied == [device]


def test_without_mkl_codes_are_the_same(digits, quick, monkeypatch):
    X = digits[0][:300]
    expected = quick(max_epochs=2).fit_transform(X)

    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    execution_module._set_mkl_threads.cache_clear()
    try:
        codes = quick(max_epochs=2).fit_transform(X)
        assert execution_module._set_mkl_threads()(1) == 0
    finally:
        monkeypatch.undo()
        execution_module._set_mkl_threads.cache_clear()
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-4)


# A script as on Windows, once other packages are imported: modules and functions of POSIX are
# missing, and text files that skae opens without an encoding are an error.
SCRIPT = """
import os, sys, tempfile, warnings
import joblib, sklearn.datasets, skorch, torch
from sklearn.decomposition import PCA

for name in {modules!r}:
    sys.modules[name] = None
for name in ("fork", "forkpty", "getuid", "posix_fallocate", "sched_getaffinity", "sysconf"):
    if hasattr(os, name):
        delattr(os, name)
warnings.filterwarnings("error", category=EncodingWarning, module="skae")

import skae

X = sklearn.datasets.load_digits().data[:300]
with tempfile.TemporaryDirectory() as folder:
    settings = dict(hidden_layer_sizes=(16,), max_epochs=2, random_state=0)
    path = os.path.join(folder, "digits.skae")
    model = skae.DenseAutoencoder(
        4, checkpoint=os.path.join(folder, "fit"), memory=os.path.join(folder, "memory"), **settings
    ).fit(X)
    skae.save(model, path)
    skae.save(model, path)  # over a file that is there
    assert (skae.load(path).transform(X) == model.transform(X)).all()
    name = os.path.join(folder, "chunk.bin")
    with open(name, "wb") as file:
        file.write(bytes(range(256)))
    print(skae.ByteBigrams(input="filename").transform([name]).nnz)
    del model
"""


@pytest.mark.slow
def test_a_script_runs_without_what_posix_alone_has():
    script = SCRIPT.format(modules=sorted(POSIX_MODULES - {"posix"}))
    command = [sys.executable, "-X", "warn_default_encoding", "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "255"


def test_benchmarks_need_no_module_of_posix(monkeypatch, without_proc):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delitem(sys.modules, "benchmarks.lib.memory", raising=False)
    memory = importlib.import_module("benchmarks.lib.memory")  # anew, unlike an import statement

    monkeypatch.delitem(sys.modules, "benchmarks.lib.memory")
    assert np.isnan(memory.peak_resident_bytes())
    with pytest.raises(NotImplementedError, match="on Linux alone"):
        memory.held()
