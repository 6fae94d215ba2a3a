"""Results as JSON lines, one measured row a line: in `$SKAE_RESULTS`, else in `build/benchmarks`.

Those that the docs show are in `benchmarks/results`, which is written only where it is asked for:

    SKAE_RESULTS=benchmarks/results python -m benchmarks.bigrams
"""

import json
import os
from pathlib import Path

PUBLISHED = Path(__file__).parents[1] / "results"


def results_folder(environment):
    """Where this run writes: a folder that git ignores, unless another is named."""
    return Path(environment.get("SKAE_RESULTS") or Path(__file__).parents[2] / "build/benchmarks")


RESULTS = results_folder(os.environ)


def write(rows, path, *, replacing=()):
    """Write rows to path; given keys, keep the known rows that differ from all new ones in them.

    So a part of a benchmark can be measured again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if replacing:
        again = {tuple(row[key] for key in replacing) for row in rows}
        earlier = (row for row in known(path) if tuple(row[key] for key in replacing) not in again)
        rows = [*earlier, *rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def known(path):
    """The rows in path; before its first run those that are published, if there are any."""
    for candidate in (path, PUBLISHED / path.name):
        if candidate.exists():
            return read(candidate)
    return []


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
