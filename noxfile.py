"""The checks of skae, one session of nox each: `nox --list` shows them, `nox -s lint` runs one.

A session installs what it needs into an environment of its own. With `--no-venv` it uses the
present one instead, which is how `.ci/run` runs all sessions in two environments.
"""

import re
import shlex
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import nox

nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types"]

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
EXTRAS = PROJECT["optional-dependencies"]

# What the tests of the session "oldest" need, in the oldest version that pyproject.toml names.
OLDEST = [
    "hypothesis",
    "joblib",
    "matplotlib",
    "numpy",
    "pandas",
    "pytest",
    "pytest-xdist",
    "safetensors",
    "scikit-learn",
    "scipy",
    "skops",
    "skorch",
]
TESTS_OF_OLDEST = [
    "tests/data/test_rows.py",
    "tests/data/test_validation.py",
    "tests/estimators/test_code_length.py",
    "tests/estimators/test_contract.py",
    "tests/estimators/test_sample_weight.py",
    "tests/estimators/test_truncate.py",
    "tests/export/test_saving.py",
    "tests/nn/test_custom_networks.py",
    "tests/nn/test_layers.py",
    "tests/nn/test_losses.py",
    "tests/nn/test_penalties.py",
    "tests/pca/test_solvers.py",
    "tests/plotting/test_displays.py",
    "tests/runtime/test_progress.py",
]


@nox.session
def tests(session):
    """Run all tests, by the command in the README; arguments after `--` go to pytest."""
    run_readme_command(session, 2)


@nox.session
def lint(session):
    """Check the style and the formatting of the code, with ruff."""
    install(session, *EXTRAS["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session):
    """Check the types of the public names, as a user's mypy sees them."""
    install(session, "numpy", *EXTRAS["lint"])
    session.run("mypy")


@nox.session
def package(session):
    """Build the package: it holds skae and nothing else, and its extras can be installed."""
    install(session, "build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, ".", silent=True)
        [sdist], [wheel] = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        with tarfile.open(sdist) as archive:
            names = archive.getnames()
        with ZipFile(wheel) as archive:
            names += archive.namelist()
        if "skae/py.typed" not in names:
            session.error("skae/py.typed is not in the wheel")
        for name in names:
            if {"tests", "benchmarks", "docs", "data"} & set(PurePosixPath(name).parts):
                session.error(f"{name} does not belong in the package")
        install(session, "--dry-run", f"{wheel}[all]")


@nox.session
def docs(session):
    """Build the documentation into docs/_build; a warning is an error."""
    install(session, ".[docs]")
    session.run("sphinx-build", "-W", "-q", "docs", "docs/_build")


@nox.session
def main_job(session):
    """Compare with PCA on the files of this Python, by the command in the README."""
    run_readme_command(session, 1)


@nox.session
def quick_benchmarks(session):
    """Check the claims against PCA on small data."""
    install(session, ".[plot]")
    for name in ("grid", "pictures", "stream"):
        session.run("python", "-m", f"benchmarks.{name}", "--quick")


@nox.session
def oldest(session):
    """Run some tests with the oldest versions that pyproject.toml names (Python 3.11 or 3.12)."""
    requirements = PROJECT["dependencies"] + EXTRAS["test"]
    lower_bounds = dict(requirement.split(">=") for requirement in requirements)
    pins = [f"{name}=={lower_bounds[name]}" for name in OLDEST]
    # torch stays new: its old versions need gigabytes of CUDA. Old matplotlib needs old pyparsing.
    install(session, *pins, "pyparsing==3.1.0", "torch")
    install(session, "--no-deps", ".")
    session.run("python", "-m", "pytest", "-n", "auto", "-q", *TESTS_OF_OLDEST)


def install(session, *arguments):
    """Install with pip; `session.install` would refuse to with --no-venv."""
    session.run("python", "-m", "pip", "install", *arguments)


def run_readme_command(session, number):
    """Run a shell block of the README: 1 is the main job, 2 the tests."""
    blocks = re.findall(r"^```bash\n(.*?)^```", Path("README.md").read_text(), re.DOTALL | re.M)
    commands = [shlex.split(command) for command in blocks[number - 1].split("&&")]
    commands[-1] += session.posargs
    for command in commands:
        session.run(*command)
