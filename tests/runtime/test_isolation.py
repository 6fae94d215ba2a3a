"""Fits and transforms side by side: in threads, in processes, in forks, under a search."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from skorch.callbacks import Callback

from skae import ConvAutoencoder


def test_eight_threads_may_transform_at_once(digits, quick):
    X_train, X_test, _, _ = digits
    autoencoder = quick(max_epochs=4).fit(X_train[:400])
    expected = autoencoder.transform(X_test)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: autoencoder.transform(X_test), range(32)))
    for one in codes:
        np.testing.assert_array_equal(one, expected)


def test_fits_in_threads_do_not_touch_each_other(digits, quick):
    X = digits[0][:300]
    autoencoders = [quick(k, max_epochs=2) for k in (2, 3, 2, 3)]
    alone = [clone(autoencoder).fit(X).transform(X) for autoencoder in autoencoders]
    with parallel_config("threading", n_jobs=2):
        together = Parallel()(
            delayed(autoencoder.fit)(X) for autoencoder in map(clone, autoencoders)
        )
    for fitted, expected in zip(together, alone, strict=True):
        # A worker may have fewer threads, and so another order of summation.
        np.testing.assert_allclose(fitted.transform(X), expected, rtol=1e-3, atol=1e-3)


class _Eavesdropper(Callback):
    def __init__(self):
        self.heard = set()

    def on_batch_end(self, net, **kwargs):
        self.heard.add(torch.get_rng_state().numpy().tobytes())


def test_training_draws_nothing_from_the_process(digits, quick):
    # Another thread would see what a callback sees.
    before = torch.get_rng_state().numpy().tobytes()
    eavesdropper = _Eavesdropper()
    quick(4, noise=0.1, linear_path=False, callbacks=[eavesdropper]).fit(digits[0][:500])
    assert eavesdropper.heard == {before}


def _transform_in_child(autoencoder, X, queue):
    queue.put(autoencoder.transform(X))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
# Python warns of any fork of a process with threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_worker_can_transform(digits, quick):
    X_train, X_test, _, _ = digits
    autoencoder = quick(max_epochs=4).fit(X_train[:400])
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_transform_in_child, args=(autoencoder, X_test, queue))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_allclose(queue.get(), autoencoder.transform(X_test), rtol=1e-6, atol=1e-6)


def test_what_ran_before_changes_no_bit(digits, quick):
    X = digits[0][:400]
    first = quick().fit_transform(X)
    ConvAutoencoder(2, input_shape=(8, 8), channels=(4,), max_epochs=2).fit(X)
    torch.rand(3)
    np.random.rand(3)
    np.testing.assert_array_equal(quick().fit_transform(X), first)


def test_importing_skae_brings_none_of_the_extras():
    program = "import skae, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    extras = {"dask", "h5py", "matplotlib", "onnx", "onnxruntime", "skl2onnx", "zarr"}
    assert not extras & set(done.stdout.split())
