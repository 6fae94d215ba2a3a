"""Claim: a busy machine costs a fit no more than its share of the processor.

Each model is fitted in a process of its own, on a quiet machine and beside one busy process per
core, in turn. Beside them nothing takes more than 2.5 times its quiet time, and nothing of skae
loses more than 1.5 times what scikit-learn's TruncatedSVD loses. And on a quiet machine no fit is
slower, by more than 5 %, with all threads than with one.

    python -m benchmarks.busy_machine

Exits with status 1 if the claim is false. Run it on a machine that does nothing else.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import median

from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import TruncatedSVD
from sklearn.neural_network import MLPClassifier

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import ConvAutoencoder, DenseAutoencoder

MOST, MOST_OF_PEER, MOST_OF_ONE_THREAD = 2.5, 1.5, 1.05


def _digits():
    return load_digits(return_X_y=True)


def _bigrams():
    split = load_split("files-sqrt", per_format=300)
    return split.X_train, split.y_train


def _transform(model, X, y):
    model.fit(X[:500])
    return lambda: model.transform(X)


# What is timed: a function of the rows and their labels that returns what to call again and again.
CASES = {
    "small table": (lambda: load_iris(return_X_y=True), DenseAutoencoder(2, random_state=0)),
    "digits": (_digits, DenseAutoencoder(8, random_state=0)),
    "digits, plain": (_digits, DenseAutoencoder(8, linear_path=False, random_state=0)),
    "pictures": (_digits, ConvAutoencoder(8, input_shape=(8, 8), random_state=0)),
    "bigrams, linear": (_bigrams, DenseAutoencoder(64, hidden_layer_sizes=(), random_state=0)),
    "bigrams": (_bigrams, DenseAutoencoder(16, random_state=0)),
    "bigrams, transform": (_bigrams, DenseAutoencoder(64, hidden_layer_sizes=(), random_state=0)),
    "TruncatedSVD": (_bigrams, TruncatedSVD(64, random_state=0)),
    "MLPClassifier": (_digits, MLPClassifier(max_iter=500, random_state=0)),
}
PEERS = ("TruncatedSVD", "MLPClassifier")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", choices=CASES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    if options.measure:
        print(seconds_of(options.measure, options.runs))
        return 0
    rows = []
    for case in dict.fromkeys([*options.cases, "TruncatedSVD"]):
        quiet = measured(case, options.runs)
        with busy_processes(os.cpu_count()):
            busy = measured(case, options.runs)
        one_thread = measured(case, options.runs, OMP_NUM_THREADS="1")
        row = {"case": case, "quiet": quiet, "busy": busy, "one_thread": one_thread}
        print(f"{case:20} {quiet:8.3f} s quiet {busy / quiet:6.2f} x busy", end=" ")
        print(f"{quiet / one_thread:6.2f} x one thread", flush=True)
        rows.append({**row, **circumstances()})
    write(rows, RESULTS / "busy-machine.jsonl", replacing=("case",))
    return judge(rows)


def judge(rows):
    """Whether the claim holds: the exit status."""
    lost = {row["case"]: row["busy"] / row["quiet"] for row in rows}
    claims = []
    for row in rows:
        case = row["case"]
        if case in PEERS:
            continue
        claims.append((lost[case] <= MOST, f"{case}: {lost[case]:.2f} times its quiet time"))
        ratio = lost[case] / lost["TruncatedSVD"]
        claims.append((ratio <= MOST_OF_PEER, f"{case}: {ratio:.2f} times TruncatedSVD's loss"))
        ratio = row["quiet"] / row["one_thread"]
        claims.append(
            (ratio <= MOST_OF_ONE_THREAD, f"{case}: {ratio:.2f} times one thread's seconds, quiet")
        )
    return check(claims)


def measured(case, n_runs, **environment):
    """Seconds of a case, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.busy_machine", "--measure", case]
    done = subprocess.run(
        [*command, "--runs", str(n_runs)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def seconds_of(case, n_runs):
    """The median of some runs after one that is not counted."""
    load, model = CASES[case]
    X, y = load()
    run = _transform(model, X, y) if case.endswith("transform") else lambda: model.fit(X, y)
    run()
    seconds = []
    for _ in range(n_runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


@contextmanager
def busy_processes(n):
    """So many processes that use a core each, for the time of the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
