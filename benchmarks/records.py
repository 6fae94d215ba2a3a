"""Results as JSON lines in `benchmarks/results`: one measured row a line."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(rows, path, *, replacing=None):
    """Write rows to path; with ``replacing`` a key, keep earlier rows that have none of its values.

    So a part of a benchmark can be measured again.
    """
    path.parent.mkdir(exist_ok=True)
    if replacing is not None and path.exists():
        again = {row[replacing] for row in rows}
        rows = [row for row in read(path) if row[replacing] not in again] + rows
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
