"""What contributors read names commands, files and versions that exist."""

import ast
import re
import runpy
from pathlib import Path

import pytest

from skae._version import DOCUMENTATION

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text())

# Written by the commands that the guide names; git ignores them.
WRITTEN = {".venv/bin/activate", "build/benchmarks", "build/sbom.json"}


def constant(name):
    """The value of a constant of noxfile.py."""
    [value] = [
        statement.value
        for statement in NOXFILE.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name
    ]
    return ast.literal_eval(value)


def changes():
    """The table under "Where things go": each change, and the cell beside it."""
    section = GUIDE.split("## Where things go")[1].split("\n## ")[0]
    header, _, *rows = re.findall(r"^\| (.*?) \|(.*)\|$", section, re.MULTILINE)
    assert header[0] == "change"
    return dict(rows)


@pytest.mark.parametrize("path", constant("TESTS_OF_OLDEST"))
def test_the_tests_of_the_oldest_versions_exist(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("change", changes())
def test_files_where_things_go_exist(change):
    for name in re.findall(r"`([\w.-]+/[\w./-]*|\w+\.py)`", changes()[change]):
        assert (ROOT / name).exists()


def test_files_that_the_guide_names_exist():
    names = set(re.findall(r"[`\s]((?:[\w.-]+/)+(?:[\w.-]+)?|\w+\.(?:py|md|toml))[`\s]", GUIDE))
    assert {"noxfile.py", "docs/design.md", ".ci/run", "tests/saved/"} <= names
    assert {name for name in names - WRITTEN if not (ROOT / name).exists()} == set()


def test_links_of_the_package_lead_to_pages():
    pytest.importorskip("hatchling")
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["with_absolute_links"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", hook(readme, DOCUMENTATION))
    assert len(links) > 10
    for link in links:
        assert link.startswith("https://")
        page = link.removeprefix(f"{DOCUMENTATION}/").partition("#")[0]
        if link.startswith(DOCUMENTATION) and page != "auto_examples/index.html":
            source = ROOT / "docs" / page
            assert source.exists() or source.with_suffix(".md").exists(), link
