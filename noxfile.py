"""The checks of skae, one session of nox each: `nox --list` shows them, `nox -s lint` runs one.

A session installs what it needs into an environment of its own. With `--no-venv` it uses the
present one instead, which is how `.ci/run` runs all sessions in two environments.
"""

import os
import re
import shlex
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import nox

nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types"]

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
EXTRAS = PROJECT["optional-dependencies"]

README = Path("README.md").read_text(encoding="utf-8")
README_LINES = re.search(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[1]

# What the tests of the session "oldest" need, in the oldest version that pyproject.toml names.
OLDEST = [
    "hypothesis",
    "joblib",
    "matplotlib",
    "numpy",
    "pandas",
    "psutil",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "safetensors",
    "scikit-learn",
    "scipy",
    "skops",
    "skorch",
]
# Tests of what skae does with these packages; those of the networks need torch alone.
TESTS_OF_OLDEST = [
    "tests/data/test_rows.py",
    "tests/data/test_validation.py",
    "tests/estimators/test_code_length.py",
    "tests/estimators/test_contract.py",
    "tests/estimators/test_sample_weight.py",
    "tests/export/test_saving.py",
    "tests/pca/test_solvers.py",
    "tests/plotting/test_displays.py",
]


@nox.session
def tests(session):
    """Run all tests, by the command in the README; arguments after `--` go to pytest."""
    run_readme_command(session, 2)


# What limits the instructions that torch, oneDNN and OpenBLAS use, and what a processor must have
# for it, by the names of /proc/cpuinfo.
INSTRUCTION_SETS = [
    ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, ""),
    (
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
        },
        "avx2",
    ),
    ({"OPENBLAS_CORETYPE": "SkylakeX"}, "avx512f"),
]


@nox.session
def instruction_sets(session):
    """Run the fast tests with fewer instructions of the processor, on one thread and on two.

    Equal bits are promised for the same computation on the same machine: all else has a tolerance.
    Arguments after `--` go to pytest, such as the files to run.
    """
    install(session, ".[dev]")
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    for variables, needed in INSTRUCTION_SETS:
        if needed and needed not in flags:
            session.log(f"{variables} needs {needed}, which this processor does not have")
            continue
        for n_threads in ("1", "2"):
            environment = {**variables, "OMP_NUM_THREADS": n_threads}
            command = ("python", "-m", "pytest", "-q", "-n", "auto", "-m", "not slow")
            session.run(*command, *session.posargs, env=environment)


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
    """Build the package, and use it from where pip installs it from an index, a folder here."""
    install(session, "build", *PROJECT["dependencies"])
    with tempfile.TemporaryDirectory() as folder:
        dist, index, installed = (Path(folder, name) for name in ("dist", "index", "installed"))
        # The wheel is built from the sdist, which so is complete.
        session.run("python", "-m", "build", "--outdir", str(dist), ".", silent=True)
        [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")
        for problem in problems_of_package(sdist, wheel):
            session.error(problem)
        install(session, "--dry-run", f"{wheel}[all]")

        pages = index / "skae"
        pages.mkdir(parents=True)
        for file in (sdist, wheel):
            shutil.copy(file, pages)
        links = "".join(f'<a href="{file.name}">{file.name}</a>' for file in (sdist, wheel))
        (pages / "index.html").write_text(links, encoding="utf-8")

        pip = ["python", "-m", "pip", "install", "--quiet", "--index-url", index.as_uri()]
        session.run(*pip, "--no-deps", "--target", str(installed), "skae")
        # Isolated but for that folder: no other skae can be imported.
        lines = f"import sys; sys.path.insert(0, {str(installed)!r})\n{README_LINES}"
        printed = session.run("python", "-I", "-c", lines, silent=True)
        session.log(f"The lines of the README print {printed}")
        of_pca, ours = (list(map(float, re.findall(r"[01]\.\d+", x))) for x in printed.splitlines())
        if not (of_pca[0] + 0.1 < ours[0] < 1 and of_pca[1] < ours[1] < 1):
            session.error("these are not the figures of the README")


@nox.session
def docs(session):
    """Build the documentation into docs/_build; a warning or a broken link is an error."""
    install(session, ".[docs]")
    session.run("sphinx-build", "-W", "-q", "docs", "docs/_build")
    session.run("python", "docs/check_links.py", "docs/_build")


@nox.session
def screenshots(session):
    """Look at the documentation in a browser, at the widths of a desktop and a phone.

    The pictures are in build/screenshots. The environment variable CHROMIUM names a browser in
    place of Playwright's. The session is skipped where none can be installed.
    """
    install(session, "playwright")
    if not os.environ.get("CHROMIUM"):
        try:
            session.run("playwright", "install", "chromium")
        except nox.command.CommandFailed:
            session.skip("no browser could be downloaded: set CHROMIUM to the program of one")
    if not Path("docs/_build/index.html").exists():
        install(session, ".[docs]")
        session.run("sphinx-build", "-W", "-q", "docs", "docs/_build")
    session.run("python", "docs/screenshots.py", "docs/_build", "build/screenshots")


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
def coverage(session):
    """Measure which lines of skae the fast tests run; GitHub shows the table beside the job."""
    install(session, ".[dev]", "pytest-cov")
    command = ("python", "-m", "pytest", "-q", "-n", "auto", "-m", "not slow", "--cov=skae")
    session.run(*command, "--cov-report=", *session.posargs)
    session.run("coverage", "report", "--skip-covered", "--fail-under=85")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        table = session.run("coverage", "report", "--format=markdown", silent=True)
        Path(summary).write_text(table, encoding="utf-8")


@nox.session
def audit(session):
    """Write the list of all that skae installs, build/sbom.json, and look for known faults in it.

    The second step asks PyPI for advisories and needs a network.
    """
    install(session, ".[all]")
    install(session, "cyclonedx-bom", "pip-audit")
    Path("build").mkdir(exist_ok=True)
    session.run("cyclonedx-py", "environment", "--output-file", "build/sbom.json")
    session.run("pip-audit", "--skip-editable", "--progress-spinner", "off")


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


def problems_of_package(sdist, wheel):
    """Sentences on what is missing in the package, or does not belong there."""
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    with ZipFile(wheel) as archive:
        names += archive.namelist()
        [metadata] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = archive.read(metadata).decode()
    if "skae/py.typed" not in names:
        yield "skae/py.typed is not in the wheel"
    for name in names:
        if {"tests", "benchmarks", "docs", "data"} & set(PurePosixPath(name).parts):
            yield f"{name} does not belong in the package"
    # The page of a package has no files beside it.
    for link in re.findall(r"\]\((?!https://|#)([^)]*)\)", metadata):
        yield f"{link} in the README of the package leads nowhere"


def install(session, *arguments):
    """Install with pip; `session.install` would refuse to with --no-venv."""
    session.run("python", "-m", "pip", "install", *arguments)


def run_readme_command(session, number):
    """Run a shell block of the README: 1 is the main job, 2 the tests."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(command) for command in blocks[number - 1].split("&&")]
    commands[-1] += session.posargs
    for command in commands:
        session.run(*command)
