"""Claim: importing skae takes no more than 1.15 times importing what it is made of.

Fresh processes in turns: one imports torch, scikit-learn and skorch, the other skae.

    python -m benchmarks.import_time

Exits with status 1 if the claim is false.
"""

import subprocess
import sys

import numpy as np

from benchmarks.lib.claims import check
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write

MOST = 1.15
N_ROUNDS = 7
STATEMENTS = {"parts": "import torch, sklearn, skorch", "skae": "import skae"}


def seconds(statement):
    """Of a statement in a process of its own."""
    program = f"from time import perf_counter as t; s = t(); {statement}; print(t() - s)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return float(done.stdout)


def main():
    taken = {name: [] for name in STATEMENTS}
    for _ in range(1 + N_ROUNDS):
        for name, statement in STATEMENTS.items():
            taken[name].append(seconds(statement))
    # The first of each reads from disk what the others find in memory.
    medians = {name: float(np.median(times[1:])) for name, times in taken.items()}
    write([{**medians, **circumstances()}], RESULTS / "import_time.jsonl")
    ratio = medians["skae"] / medians["parts"]
    sentence = f"import skae takes {ratio:.3f} times its parts, {MOST} at most"
    return check([(ratio <= MOST, sentence)])


if __name__ == "__main__":
    sys.exit(main())
