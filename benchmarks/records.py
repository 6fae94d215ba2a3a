"""Results as JSON lines in `benchmarks/results`: one measured row a line."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(rows, path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
