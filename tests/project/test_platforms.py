"""Nothing assumes Linux: what one system alone has is simulated to be missing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Modules of the standard library that Windows does not have.
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


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
