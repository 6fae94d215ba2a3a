"""README, guide and docstrings say what is true; pytest itself runs the pages of the guide."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate
from sklearn.decomposition import PCA

import skae

ROOT = Path(__file__).parents[2]


def python_blocks(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_lines_of_the_readme_print_what_it_says(capsys):
    [block] = python_blocks(ROOT / "README.md")
    exec(compile(block, "README.md", "exec"), {})
    printed = re.findall(r"\d\.\d+", capsys.readouterr().out)
    sentence = re.search(r"It prints (.*?)\. The", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    said = re.findall(r"\d\.\d+", sentence)
    assert len(said) == 4
    np.testing.assert_allclose(np.float64(printed), np.float64(said), atol=0.015)


def names_of(estimator):
    """Parameters, attributes and methods that an estimator tells its users of."""
    parameters = set(inspect.signature(estimator).parameters)
    attributes = {attribute.name for attribute in ClassDoc(estimator)["Attributes"]}
    methods = {
        name
        for name in dir(estimator)
        if not name.startswith("_") and callable(getattr(estimator, name))
    }
    return parameters | attributes | methods


def migration_table():
    """What docs/pca.md has beside each name of PCA."""
    section = (ROOT / "docs" / "pca.md").read_text().split("## Migrating from PCA")[1]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`|none) \| .*\|$", section, re.MULTILINE)
    assert len(rows) == len(dict(rows))  # no name stands there twice
    return dict(rows)


def test_the_migration_table_names_all_that_pca_has():
    assert names_of(PCA) - set(migration_table()) == set()


def test_the_api_reference_lists_every_public_name_once():
    entries = re.findall(r"^   (\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(entries) == sorted(set(skae.__all__) - {"__version__"})


PAGE = '<h1 id="top"></h1><a href="{}">a link</a><img src="picture.png">'


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("api/other.html#there", None),
        ("api/other.html#gone", "index.html: api/other.html#gone has no section"),
    ],
)
def test_broken_links_of_the_site_are_found(tmp_path, link, problem):
    (tmp_path / "api").mkdir()
    (tmp_path / "index.html").write_text(PAGE.format(link))
    (tmp_path / "picture.png").touch()
    (tmp_path / "api" / "index.html").write_text("<p>nothing</p>")
    (tmp_path / "api" / "other.html").write_text('<p id="there"><a href="../index.html">back</a>')
    command = [sys.executable, str(ROOT / "docs" / "check_links.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.split("\n")[0] == (problem or "")
    assert done.returncode == (1 if problem else 0)


def test_the_types_of_every_public_name_are_checked():
    used = set(re.findall(r"\w+", (ROOT / "tests/project/typed_use.py").read_text()))
    for name in skae.__all__:
        assert name in used
        if name == "ProcessRows":  # estimators alone call its methods
            continue
        for attribute, value in inspect.getmembers(getattr(skae, name)):
            is_ours = str(getattr(value, "__module__", "")).partition(".")[0] == "skae"
            if callable(value) and is_ours and not attribute.startswith("_"):
                assert attribute in used, f"{name}.{attribute}"


def public_objects():
    for name in sorted(set(skae.__all__) - {"__version__"}):
        yield f"skae.{name}"
        for attribute, value in vars(getattr(skae, name)).items():
            if callable(value) and not attribute.startswith("_"):
                yield f"skae.{name}.{attribute}"
    for method in ("fit", "transform", "inverse_transform", "score", "score_samples"):
        yield f"skae.DenseAutoencoder.{method}"
    for method in ("partial_fit", "reconstruction_errors", "truncate", "sample"):
        yield f"skae.DenseAutoencoder.{method}"


@pytest.mark.parametrize("name", list(public_objects()))
def test_public_docstrings_follow_numpydoc(name):
    allowed = {
        "ES01",  # a summary that says it all needs no extension
        "RT02",  # returned values have names, as in scikit-learn
        "SA01",  # what to see also stands with the class
    }
    if name.count(".") > 1:
        allowed.add("EX01")  # so does the example
    problems = [problem for problem in validate(name)["errors"] if problem[0] not in allowed]
    assert not problems


def test_the_tables_of_pages_are_those_of_the_results():
    command = [sys.executable, "-m", "benchmarks.tables", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
