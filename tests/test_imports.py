import ast
import sys
from pathlib import Path

import skae

# A file imports only files above it.
ORDER = [
    "_version",
    "_defaults",
    "_documented",
    "_parallel",
    "_device",
    "_environment",
    "_threads",
    "_calls",
    "_losses",
    "_random",
    "_own",
    "_modules",
    "_ordered",
    "_penalties",
    "_variational",
    "_forms",
    "_convolutions",
    "_tall",
    "_canonical",
    "_blocks",
    "_dask",
    "_sparse_product",
    "_rows",
    "_weights",
    "_checkpoint",
    "_cache",
    "_krylov",
    "_basis",
    "_memory",
    "_interrupts",
    "_progress",
    "_reports",
    "_net",
    "_best",
    "_shards",
    "_training",
    "_unseen",
    "_gate",
    "_code_length",
    "_scores",
    "_running_basis",
    "_follower",
    "_stream",
    "_on_rows",
    "_plain",
    "_codec",
    "_callbacks",
    "_names",
    "_parameters",
    "_input",
    "_truncate",
    "_sample",
    "_blueprint",
    "_as_json",
    "_base",
    "_partial_fit",
    "_dense",
    "_conv",
    "_bigrams",
    "_canvas",
    "_mosaic",
    "_painters",
    "_reconstruction_display",
    "_loss_curve_display",
    "_latent_display",
    "_variance_display",
    "_persistence",
    "_to_torch",
    "_onnx_graph",
    "_onnx",
    "__init__",
]
SOURCE = Path(skae.__file__).parent


def skae_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from [node.module] if node.module else [alias.name for alias in node.names]


def test_every_file_has_a_place_in_the_order():
    assert {path.stem for path in SOURCE.glob("*.py")} == set(ORDER)


def test_files_import_only_files_above_them():
    for place, name in enumerate(ORDER):
        below = set(skae_imports(SOURCE / f"{name}.py")) - set(ORDER[:place])
        assert not below, f"{name} imports {below}"


def test_modules_and_losses_need_torch_alone():
    for name in ("_modules", "_ordered", "_penalties", "_variational", "_convolutions", "_losses"):
        for node in ast.walk(ast.parse((SOURCE / f"{name}.py").read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            else:
                continue
            packages = {module.split(".")[0] for module in modules}
            assert packages - set(sys.stdlib_module_names) <= {"torch"}
