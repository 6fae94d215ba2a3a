"""Tests that need a CUDA device run on a simulated one where there is no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "simulated_cuda"


@pytest.fixture
def build(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import build

    yield build
    del sys.modules["build"]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="they run on the CUDA device")
def test_the_tests_of_a_gpu_pass_on_a_simulated_one(build):
    if reason := build.reason_against():
        pytest.skip(reason)
    files = [str(p) for p in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text()]
    command = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *sorted(files)]
    # What the parent's pytest-xdist has set does not apply to the child.
    variables = {k: v for k, v in build.environment().items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=variables | {"PYTHONPATH": f"{variables['PYTHONPATH']}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.gpu
def test_a_simulated_device_refuses_and_counts_what_cuda_does(counts):
    x, on_cpu = torch.ones(3, device="cuda"), torch.ones(3)
    with pytest.raises(RuntimeError, match="on the same device"):
        x + on_cpu
    with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
        torch.randn(3, device="cuda", generator=torch.Generator())
    with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
        x.numpy()
    counts.reset()
    float((x + on_cpu.to("cuda")).sum())
    found = counts.stats()
    assert (found["copies_to_device"], found["bytes_to_device"], found["waits"]) == (1, 12, 1)
    assert found["launches"] == 4
    assert counts.operations()["aten::add.out"] == 1
    counts.limit(counts.stats()["bytes_in_use"] + 2**20)
    try:
        with pytest.raises(torch.OutOfMemoryError, match="tried to allocate"):
            torch.empty(2**20, device="cuda")
    finally:
        counts.limit(2**40)
