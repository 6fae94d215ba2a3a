"""Build the library of the simulated CUDA device, once for each version of torch."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "device.cpp"

# The versions of torch whose internal headers the source was written for.
VERSIONS = ("2.13",)


def reason_against():
    """Why this environment cannot simulate a device; None if it can."""
    import torch

    if sys.platform != "linux":
        return "a simulated device needs Linux"
    if torch.version.cuda or torch.version.hip:
        return "a simulated device needs a PyTorch without CUDA"
    if not torch.__version__.startswith(VERSIONS):
        return f"a simulated device needs torch {' or '.join(VERSIONS)}, not {torch.__version__}"
    if compiler() is None:
        return "a simulated device needs a C++ compiler"
    return None


def compiler():
    """The path of a C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def environment():
    """The environment variables of a process with a simulated device."""
    paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "SIMULATED_CUDA": str(library())}


def library():
    """The path of the library, which is built first if it does not exist: that takes a minute."""
    torch = Path(find_spec("torch").submodule_search_locations[0])
    version = (torch / "version.py").read_bytes()
    key = sha256(SOURCE.read_bytes() + version + str(torch).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    path = cache / "skae-tests" / f"simulated-cuda-{key}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    includes = [torch / "include", torch / "include/torch/csrc/api/include"]
    with TemporaryDirectory(dir=path.parent) as folder:  # other processes may build it too
        built = Path(folder, path.name)
        # Without optimisation: it does not compute, and is compiled in a fraction of the time.
        options = ["-O0", "-std=c++20", "-fPIC", "-shared", "-w", *(f"-I{p}" for p in includes)]
        libraries = [f"-L{torch / 'lib'}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch / 'lib'}"]
        subprocess.run([compiler(), *options, SOURCE, "-o", built, *libraries], check=True)
        built.replace(path)
    return path
