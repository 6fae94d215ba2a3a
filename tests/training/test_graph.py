"""Recorded training steps give the results of the others; here a stand-in takes the graph's place.

On a CUDA device the graph itself is compared.
"""

import numpy as np
import pytest
import torch

from skae import ConvAutoencoder, DenseAutoencoder
from skae._training import graph as graph_module
from skae._training import run as run_module


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


@pytest.fixture
def stand_in(monkeypatch):
    graph = StandIn()
    monkeypatch.setattr(graph_module, "record", graph.record)
    monkeypatch.setattr(graph_module, "can_record", lambda device: True)
    return graph


def dense(**parameters):
    parameters = {"hidden_layer_sizes": (16,), "linear_path": False, **parameters}
    return DenseAutoencoder(4, batch_size=50, max_epochs=3, random_state=0, **parameters)


def conv(**parameters):
    parameters = {"channels": (4,), "input_shape": (8, 8), "linear_path": False, **parameters}
    return ConvAutoencoder(4, batch_size=50, max_epochs=3, random_state=0, **parameters)


MODELS = {
    "plain": dense,
    "scores": lambda: dense(linear_path=True),
    "noise": lambda: dense(noise=0.2, corruption=0.1),
    "variational": lambda: dense(penalty="variational"),
    "contractive": lambda: dense(penalty="contractive"),
    "ordered": lambda: dense(linear_path=True, truncations=(2,)),
    "pictures": lambda: conv(linear_path=True),
    "plain pictures": conv,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("how", MODELS)
def test_recorded_steps_change_no_bit(how, weighted, digits, stand_in, monkeypatch):
    X = digits[0][:500].astype(np.float32)
    weights = np.linspace(1, 2, len(X)) if weighted else None
    recorded = MODELS[how]().fit(X, sample_weight=weights)
    assert stand_in.n_recorded >= 1
    assert stand_in.n_replays > 10
    monkeypatch.setattr(run_module, "records_steps", lambda rows, options: False)
    expected = MODELS[how]().fit(X, sample_weight=weights)
    np.testing.assert_array_equal(recorded.transform(X), expected.transform(X))
    losses = [[epoch["train_loss"] for epoch in m.history_] for m in (recorded, expected)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("failure", ["recording", "other loss"])
def test_a_graph_that_fails_leaves_the_steps_as_they_are(failure, digits, stand_in, monkeypatch):
    def fail(*args):
        raise RuntimeError("operation not permitted when stream is capturing")

    X = digits[0][:500]
    if failure == "recording":
        monkeypatch.setattr(graph_module, "record", fail)
    stand_in.change = 100.0
    found = dense(noise=0.2).fit(X)
    assert stand_in.n_replays <= 1
    monkeypatch.setattr(run_module, "records_steps", lambda rows, options: False)
    np.testing.assert_array_equal(found.transform(X), dense(noise=0.2).fit(X).transform(X))


@pytest.mark.parametrize(
    "parameters", [{"callbacks": [lambda **kwargs: None]}, {"supervision": 0.5}, {"decoder": True}]
)
def test_steps_with_code_of_users_or_labels_are_not_recorded(parameters, digits, stand_in):
    if "callbacks" in parameters:
        from skorch.callbacks import EpochTimer

        parameters = {"callbacks": [EpochTimer()]}
    if "decoder" in parameters:
        parameters = {"decoder": lambda n_in, n_out: torch.nn.Linear(n_in, n_out)}
    dense(**parameters).fit(digits[0][:500], digits[2][:500])
    assert not stand_in.n_recorded


@pytest.mark.gpu
@pytest.mark.skipif(
    not (torch.cuda.is_available() and torch.backends.cuda.is_built()),
    reason="needs a CUDA device that is not simulated",
)
@pytest.mark.parametrize("how", MODELS)
def test_a_cuda_graph_gives_the_results_of_its_operations(how, digits, monkeypatch):
    X = digits[0].astype(np.float32)
    recorded, n_replays = [], []
    record = graph_module.record

    def counted(*arguments):
        replay, *others = record(*arguments)
        recorded.append(1)
        return lambda: (n_replays.append(1), replay()), *others

    monkeypatch.setattr(graph_module, "record", counted)
    settings = {"device": "cuda", "precision": "float32"}
    found = MODELS[how]().set_params(**settings).fit(X)
    assert len(n_replays) > 10 * len(recorded) > 0
    monkeypatch.setattr(run_module, "records_steps", lambda rows, options: False)
    expected = MODELS[how]().set_params(**settings).fit(X)
    np.testing.assert_allclose(
        found.transform(X), expected.transform(X), atol=1e-3 * np.abs(expected.transform(X)).max()
    )
