"""Results as JSON lines in `benchmarks/results`: one measured row a line."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(rows, path, *, replacing=()):
    """Write rows to path; given keys, keep the earlier rows that differ from all new ones in them.

    So a part of a benchmark can be measured again.
    """
    path.parent.mkdir(exist_ok=True)
    if replacing and path.exists():
        again = {tuple(row[key] for key in replacing) for row in rows}
        earlier = (row for row in read(path) if tuple(row[key] for key in replacing) not in again)
        rows = [*earlier, *rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
