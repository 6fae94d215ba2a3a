"""Imports between packages and files, what needs torch alone, and how large files are."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skae

SOURCE = Path(skae.__file__).parent

# A package imports only packages above it.
PACKAGES = [
    "_runtime",
    "_data",
    "_pca",
    "_nn",
    "_training",
    "_estimators",
    "_export",
    "_plotting",
]

# Networks, losses and penalties, and all that they import, are torch and the standard library.
TORCH_ALONE = ["layers", "losses", "penalties", "autoencoders", "conv", "builders"]


def modules():
    """Names of all modules but the packages themselves: ``_data.rows``."""
    paths = [path.relative_to(SOURCE).with_suffix("") for path in SOURCE.rglob("*.py")]
    return sorted(".".join(path.parts) for path in paths if path.name != "__init__")


def path_of(module):
    return SOURCE.joinpath(*module.split(".")).with_suffix(".py")


def imports_of(module):
    """Modules of skae, and packages beside it, that a module imports anywhere in its code."""
    ours, others = set(), set()
    parents = module.split(".")[:-1]
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            where = [*parents[: len(parents) + 1 - node.level], *(node.module or "").split(".")]
            where = ".".join(filter(None, where))
            named = {f"{where}.{alias.name}" for alias in node.names}
            ours |= named & set(modules()) or {where}
    for package in ours & set(PACKAGES):  # stands for what it imports
        ours = (ours - {package}) | imports_of(f"{package}.__init__")[0]
    return ours, others


def all_imports_of(module):
    """The same, and whatever these import."""
    ours, others = imports_of(module)
    for name in ours:
        further = all_imports_of(name)
        ours, others = ours | further[0], others | further[1]
    return ours, others


def test_a_package_imports_only_packages_above_it():
    for module in modules():
        if module == "_version":
            continue
        allowed = PACKAGES[: PACKAGES.index(module.split(".")[0]) + 1]
        for name in imports_of(module)[0] - {"_version"}:
            assert name in modules(), f"{module} imports {name}"
            assert name.split(".")[0] in allowed, f"{module} imports {name}"


def test_imports_go_one_way():
    order = TopologicalSorter({module: imports_of(module)[0] for module in modules()})
    assert set(order.static_order()) == set(modules())  # a circle raises CycleError


@pytest.mark.parametrize("module", [f"_nn.{name}" for name in TORCH_ALONE])
def test_networks_need_torch_alone(module):
    # The builders ask how much memory is free.
    assert all_imports_of(module)[1] - set(sys.stdlib_module_names) <= {"torch", "psutil"}


def test_the_table_of_the_design_page_is_that_of_the_code():
    expected = []
    for package in PACKAGES:
        docstring = ast.get_docstring(ast.parse((SOURCE / package / "__init__.py").read_text()))
        expected.append(f"| **`{package}/`** | **{docstring.splitlines()[0]}** |")
        for path in sorted((SOURCE / package).glob("*.py")):
            if path.name != "__init__.py":
                docstring = ast.get_docstring(ast.parse(path.read_text()))
                expected.append(f"| `{path.name}` | {docstring.splitlines()[0]} |")
    page = (SOURCE.parent / "docs" / "design.md").read_text().splitlines()
    assert [line for line in page if line.startswith(("| `", "| **`")) and line in expected] == (
        expected
    )
