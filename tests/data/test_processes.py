"""Values of rows that are divided among processes, as `fit` joins them."""

import subprocess
import sys

import pytest

PROCESS = """
import sys
import numpy as np
from torch import distributed
from skae import DenseAutoencoder, ProcessRows

rank = int(sys.argv[1])
distributed.init_process_group(
    "gloo", init_method=f"file://{sys.argv[2]}/meeting", rank=rank, world_size=2
)
X = np.random.default_rng(0).normal(size=(60, 6))[rank::2]
y = np.arange(30) % 2
for parameters, of_rows in (
    ({"hidden_layer_sizes": ()}, {"sample_weight": np.ones(30) if rank else None}),
    ({"supervision": 1.0}, {"y": y if rank else np.array(["a", "b"])[y]}),
):
    try:
        DenseAutoencoder(2, random_state=0, device="cpu", **parameters).fit(
            ProcessRows(X), **of_rows
        )
    except ValueError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="as in the tests of training in processes")
def test_values_of_some_processes_or_of_two_kinds_are_refused(tmp_path):
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in processes:
        weights, labels = process.communicate(timeout=300)[0].splitlines()
        assert weights == (
            "sample_weight must be given by all processes or by none: process 0 of 2 has none."
        )
        assert labels == "y must be of one kind in all processes, got numbers and strings."
