"""The project's words are those of the field: CONTRIBUTING.md lists them."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Patterns of words to avoid, and what to write instead.
INSTEAD = {
    r"(?<![a-z])ground(?!-truth|s)(?![a-z])": "training problem",
    "verdict": "selection result",
    "rehears": "trial run",
    "unseen|puts? aside|putting aside": "validation rows or test rows",
    r"\bkin\b": "same group",
    "follower": "running average of weights",
    r"(?<![a-z])guests?(?![a-z])": "user callbacks",
    "blueprint": "module specification",
    r"\btall\b": "memory-mapped",
    r"(?<![a-z])roads?(?![a-z])": "solver or route",
    "one's own": "custom",
    r"(codes? of|at|to|the first) [\d,{}]* ?numbers\b|numbers of (a|the) code": "dimensions",
    r"(?<!standard )(?<!standard_)\bdeviations? (of|in|along)\b": "standard deviation",
}


def files():
    """What the project writes for people, without the changelog and this file."""
    folders = [ROOT / name for name in ("skae", "docs", "tests", "benchmarks")]
    found = chain.from_iterable(folder.rglob("*") for folder in folders)
    found = [p for p in found if p.suffix in {".py", ".md"} and "_build" not in p.parts]
    generated = ("docs/gallery", "docs/api")
    return [
        path
        for path in [*found, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
        if path not in (ROOT / "docs" / "changelog.md", Path(__file__))
        and not path.relative_to(ROOT).as_posix().startswith(tuple(f"{g}/" for g in generated))
    ]


@pytest.mark.parametrize("pattern", INSTEAD)
def test_the_words_are_those_of_the_field(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert not found, f"write {INSTEAD[pattern]!r}:\n" + "\n".join(found)
