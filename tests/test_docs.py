"""What is written is run: README, guide and docstrings."""

import doctest
import re
from pathlib import Path

import pytest
from numpydoc.validate import validate

import skae

ROOT = Path(__file__).parents[1]


def python_blocks(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("block", python_blocks(ROOT / "README.md"))
def test_readme_examples_run(block, capsys):
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", [p.name for p in (ROOT / "docs").glob("*.md")])
def test_examples_of_the_guide_give_what_they_show(page):
    failed, _ = doctest.testfile(str(ROOT / "docs" / page), module_relative=False)
    assert failed == 0


def test_the_readme_gives_two_commands():
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.M)
    assert len(blocks) == 2
    assert "benchmarks.bigrams" in blocks[0]
    assert "pytest" in blocks[1]


def public_objects():
    for name in skae.__all__:
        yield f"skae.{name}"
        for attribute, value in vars(getattr(skae, name)).items():
            if callable(value) and not attribute.startswith("_"):
                yield f"skae.{name}.{attribute}"
    for method in ("fit", "transform", "inverse_transform", "score", "score_samples"):
        yield f"skae.DenseAutoencoder.{method}"
    for method in ("partial_fit", "truncate", "sample"):
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
