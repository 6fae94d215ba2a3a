"""Run Python with a simulated CUDA device: ``python tests/simulated_cuda -m pytest -m gpu``."""

import os
import sys

from build import environment

if __name__ == "__main__":
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment())
