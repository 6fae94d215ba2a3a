"""An earlier version of skae, in a process of its own that takes turns with this one.

Seconds compare only where both are measured in the same minutes on the same machine.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The first path is the other checkout's until its skae is imported, then this one's.
WORKER = """
import sys, json, time, warnings
sys.path.insert(0, sys.argv[1])
import skae
sys.path[0] = sys.argv[2]
from benchmarks.lib.fields_data import load_field

warnings.simplefilter("ignore")
name, field = None, None
for line in sys.stdin:
    asked, data, latent_dim = json.loads(line)
    if asked != name:
        name, field = asked, load_field(asked, data)
    model = skae.DenseAutoencoder(latent_dim, random_state=0)
    start, cpu_start = time.perf_counter(), time.process_time()
    model.fit(field.split.X_train)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    share = float(model.score(field.split.X_test))
    answer = {"earlier": share, "earlier_seconds": seconds, "earlier_cpu_seconds": cpu_seconds}
    print(json.dumps(answer), flush=True)
"""


class EarlierVersion:
    """The skae of another checkout; `measure` answers with its share and seconds of a cell."""

    def __init__(self, checkout):
        command = [sys.executable, "-c", WORKER, str(Path(checkout).resolve()), str(ROOT)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, **pipes)

    def measure(self, name, data, latent_dim):
        data = None if data is None else str(data)
        print(json.dumps([name, data, latent_dim]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the earlier version ended at {name} with {latent_dim} dimensions")
        return json.loads(answer)
