"""Recorded training steps give the results of the others; here a stand-in takes the graph's place.

On a CUDA device the graph itself is compared.
"""

from functools import partial

import numpy as np
import pytest
import torch
from skorch.callbacks import EpochTimer

from skae import ConvAutoencoder, DenseAutoencoder
from skae._training import graph as graph_module


class StandIn:
    """Replays a function into the memory of its first results, as a CUDA graph does."""

    def __init__(self, change=0.0):
        self.change, self.n_recorded, self.n_replays = change, 0, 0

    def record(self, function, weights, generator):
        def compute():
            for weight in weights:
                weight.grad = None
            return function(), [weight.grad for weight in weights]

        before = generator.get_state()
        loss, gradients = compute()
        generator.set_state(before)  # a recording computes nothing
        self.n_recorded += 1

        def replay():
            self.n_replays += 1
            new_loss, new_gradients = compute()
            loss.copy_(new_loss + self.change)
            for own, new in zip(gradients, new_gradients, strict=True):
                if own is not None:
                    own.copy_(new)
                    new.fill_(torch.nan)  # the caller must use the recorded ones

        return replay, loss, gradients


def dense(**parameters):
    parameters = {"hidden_layer_sizes": (16,), "linear_path": False, **parameters}
    return DenseAutoencoder(4, batch_size=50, max_epochs=3, random_state=0, **parameters)


def conv(**parameters):
    parameters = {"channels": (4,), "input_shape": (8, 8), "linear_path": False, **parameters}
    return ConvAutoencoder(4, batch_size=50, max_epochs=3, random_state=0, **parameters)


MODELS = {
    "plain": dense,
    "scores": partial(dense, linear_path=True),
    "noise": partial(dense, noise=0.2, corruption=0.1),
    "variational": partial(dense, penalty="variational"),
    "contractive": partial(dense, penalty="contractive"),
    "ordered": partial(dense, linear_path=True, truncations=(2,)),
    "pictures": partial(conv, linear_path=True),
    "plain pictures": conv,
}
# With a callback, no step is recorded.
UNRECORDED = [EpochTimer()]


@pytest.mark.parametrize("failure", [None, "recording", "other loss"])
def test_recorded_steps_and_recordings_that_fail_change_no_bit(failure, digits, monkeypatch):
    def fail(*args):
        raise RuntimeError("operation not permitted when stream is capturing")

    X = digits[0][:500].astype(np.float32)
    monkeypatch.setattr(graph_module, "can_record", lambda device: True)
    for number, make in enumerate(MODELS.values() if failure is None else [dense]):
        graph = StandIn(100.0 if failure == "other loss" else 0.0)
        monkeypatch.setattr(
            graph_module, "record", fail if failure == "recording" else graph.record
        )
        weights = np.linspace(1, 2, len(X)) if number % 2 else None
        found = make().fit(X, sample_weight=weights)
        assert graph.n_replays > 10 if failure is None else graph.n_replays <= 1
        graph.n_recorded = 0
        expected = make(callbacks=UNRECORDED).fit(X, sample_weight=weights)
        assert not graph.n_recorded
        np.testing.assert_array_equal(found.transform(X), expected.transform(X))
        losses = [[epoch["train_loss"] for epoch in m.history_] for m in (found, expected)]
        assert losses[0] == losses[1]


@pytest.mark.gpu
@pytest.mark.skipif(
    not (torch.cuda.is_available() and torch.backends.cuda.is_built()),
    reason="needs a CUDA device that is not simulated",
)
@pytest.mark.parametrize("how", MODELS)
def test_a_cuda_graph_gives_the_results_of_its_operations(how, digits, monkeypatch):
    X, n_replays = digits[0].astype(np.float32), []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (n_replays.append(1), replay(graph))
    )
    settings = {"device": "cuda", "precision": "float32"}
    found = MODELS[how](**settings).fit(X).transform(X)
    assert len(n_replays) > 10
    expected = MODELS[how](**settings, callbacks=UNRECORDED).fit(X).transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
