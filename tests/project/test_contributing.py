"""What contributors read names commands, files and versions that exist."""

import ast
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import skae
from skae._version import DOCUMENTATION

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

# Written by the commands that the guide names; git ignores them.
WRITTEN = {".venv/bin/activate", "build/benchmarks"}


def sessions():
    """Names of the functions of noxfile.py that are decorated with `nox.session`."""
    return {
        statement.name
        for statement in NOXFILE.body
        if isinstance(statement, ast.FunctionDef)
        and "nox.session" in map(ast.unparse, statement.decorator_list)
    }


def constant(name):
    """The value of a constant of noxfile.py."""
    [value] = [
        statement.value
        for statement in NOXFILE.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name
    ]
    return ast.literal_eval(value)


def called(text):
    """Names of the sessions in the commands of a text, as often as they occur."""
    return " ".join(re.findall(r"\bnox(?: --[\w-]+)* -s((?: [a-z_]+)+)", text)).split()


def read_yaml(path):
    return yaml.safe_load((ROOT / path).read_text())


def changes():
    """The table under "Where things go": each change, and the cell beside it."""
    section = GUIDE.split("## Where things go")[1].split("\n## ")[0]
    header, _, *rows = re.findall(r"^\| (.*?) \|(.*)\|$", section, re.MULTILINE)
    assert header[0] == "change"
    return dict(rows)


def test_noxfile_has_the_parts_of_the_whole_check():
    assert {"tests", "lint", "types", "docs", "package", "oldest"} <= sessions()


def test_the_guide_names_every_session_and_no_other():
    assert set(called(GUIDE)) == sessions()


def test_the_pull_request_template_names_sessions():
    names = set(called((ROOT / ".github/PULL_REQUEST_TEMPLATE.md").read_text()))
    assert names
    assert names <= sessions()


def test_ci_run_calls_every_session_once():
    assert sorted(called((ROOT / ".ci/run").read_text())) == sorted(sessions())


def test_the_workflow_calls_every_session():
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["session"]
    assert sorted(job["strategy"]["matrix"]["session"]) == sorted(sessions())
    assert job["steps"][-1]["run"] == "nox -s ${{ matrix.session }}"


def test_the_workflow_tests_the_oldest_python():
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["session"]
    assert f">={job['strategy']['matrix']['python'][0]}" == PROJECT["requires-python"]


def test_hooks_call_sessions():
    hooks = [
        hook for repo in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    names = [name for hook in hooks for name in called(hook.get("entry", ""))]
    assert names
    assert set(names) <= sessions()


def test_the_hooks_use_a_ruff_that_the_lint_extra_allows():
    revisions = {
        repo["repo"]: repo.get("rev") for repo in read_yaml(".pre-commit-config.yaml")["repos"]
    }
    [revision] = [rev for repo, rev in revisions.items() if repo.endswith("/ruff-pre-commit")]
    [ruff] = [r for r in map(Requirement, EXTRAS["lint"]) if r.name == "ruff"]
    assert revision.removeprefix("v") in ruff.specifier


def test_one_extra_installs_what_contributors_need():
    by_name = {requirement.name: requirement for requirement in map(Requirement, EXTRAS["dev"])}
    assert {"nox", "pre-commit"} <= set(by_name)
    assert by_name["skae"].extras == {"docs", "lint", "test"}


def test_the_oldest_versions_are_those_of_pyproject():
    known = {Requirement(r).name: r for r in PROJECT["dependencies"] + EXTRAS["test"]}
    for name in constant("OLDEST"):
        assert re.search(r">=[\d.]+$", known[name])


@pytest.mark.parametrize("path", constant("TESTS_OF_OLDEST"))
def test_the_tests_of_the_oldest_versions_exist(path):
    assert (ROOT / path).is_file()


def test_the_guide_says_where_ten_changes_go():
    assert len(changes()) == 10


@pytest.mark.parametrize("change", changes())
def test_files_where_things_go_exist(change):
    for name in re.findall(r"`([\w.-]+/[\w./-]*|\w+\.py)`", changes()[change]):
        assert (ROOT / name).exists()


def test_files_that_the_guide_names_exist():
    names = set(re.findall(r"[`\s]((?:[\w.-]+/)+(?:[\w.-]+)?|\w+\.(?:py|md|toml))[`\s]", GUIDE))
    assert {"noxfile.py", "docs/design.md", ".ci/run", "tests/saved/"} <= names
    assert {name for name in names - WRITTEN if not (ROOT / name).exists()} == set()


def test_the_address_of_the_project_is_in_one_place():
    name = DOCUMENTATION.split("//")[1].split("/")[0]
    folders = ("skae", "docs", "tests", "benchmarks", ".github")
    files = [*ROOT.glob("*.*"), *(path for f in folders for path in (ROOT / f).rglob("*.*"))]
    found = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in {".py", ".md", ".toml", ".cff", ".yml", ".rst"}
        and not {"_build", "api", "auto_examples"} & set(path.parts)
        and name in path.read_text(encoding="utf-8")
    }
    assert found == {"skae/_version.py"}


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


def test_the_citation_is_of_this_version():
    assert str(read_yaml("CITATION.cff")["version"]) == skae.__version__


@pytest.mark.parametrize("name", ["bug_report.yml", "feature_request.yml"])
def test_issue_forms_ask_for_something(name):
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}")
    assert {"name", "description", "body"} <= set(form)
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_the_documentation_is_built_where_it_is_read_as_it_is_checked():
    settings = read_yaml(".readthedocs.yaml")
    assert (ROOT / settings["sphinx"]["configuration"]).is_file()
    assert settings["sphinx"]["fail_on_warning"] is True
    [install] = settings["python"]["install"]
    assert set(install["extra_requirements"]) <= set(EXTRAS)
