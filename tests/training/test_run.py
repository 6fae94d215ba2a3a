from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skae._nn.layers import initialised, perceptron
from skae._nn.losses import SquaredError
from skae._training.data import Measure, RowSet
from skae._training.run import TrainingOptions, train

OPTIONS = TrainingOptions(
    loss=SquaredError,
    max_epochs=20,
    batch_size=32,
    learning_rate=1e-2,
    weight_decay=0.0,
    early_stopping=True,
    validation_fraction=0.1,
    tol=0.1,
    bfloat16=False,
    device=torch.device("cpu"),
)


@pytest.fixture
def rows(digits):
    x = torch.from_numpy(digits[0]).float() / 16
    measure = Measure(error_of_mean=float((x - x.mean(dim=0)).square().sum(dim=1).mean()))
    parts = np.split(np.arange(1300), [1100])
    return [RowSet(x.__getitem__, part, measure) for part in parts]


def network():
    return initialised(torch.Generator().manual_seed(0), perceptron, [64, 16, 64], "gelu")


def loss_on(module, row_set):
    x = row_set.get_batch(row_set.indices)
    with torch.inference_mode():
        return SquaredError()(module(x), x).item()


def test_training_lowers_the_loss_on_validation_rows(rows):
    fitted, validation = rows
    module = network()
    before = loss_on(module, validation)
    train(module, fitted, OPTIONS, validation=validation)
    assert loss_on(module, validation) < 0.5 * before


def test_the_best_average_of_the_weights_is_kept(rows):
    fitted, validation = rows
    module = network()
    wild = replace(OPTIONS, learning_rate=0.3, max_epochs=30)
    history = train(module, fitted, wild, validation=validation)
    start = loss_on(network(), validation)
    assert loss_on(module, validation) < 0.9 * start
    assert loss_on(module, validation) <= 1.001 * max(e["valid_loss"] for e in history)


def test_training_without_a_limit_ends_at_the_knee(rows):
    fitted, validation = rows
    free = replace(OPTIONS, max_epochs=None, learning_rate=1e-3)
    n_epochs = {
        tol: len(train(network(), fitted, replace(free, tol=tol), validation=validation))
        for tol in (0.3, 0.05)
    }
    assert 400 / 35 < n_epochs[0.3] < n_epochs[0.05]


def test_losses_are_means_over_rows_whatever_the_batch(rows):
    fitted, validation = rows
    frozen = replace(OPTIONS, max_epochs=1, learning_rate=1e-12)
    losses = []
    for batch_size in (7, 1000):
        module = network()
        expected = loss_on(module.eval(), validation)
        history = train(
            module, fitted, replace(frozen, batch_size=batch_size), validation=validation
        )
        losses.append(history[0]["valid_loss"])
    assert losses == pytest.approx([expected, expected], rel=1e-5)


def poisoned(fitted, times):
    """The rows, of which some batches are no numbers."""
    n_batches = 0

    def get_batch(indices):
        nonlocal n_batches
        n_batches += 1
        batch = fitted.get_batch(indices)
        return batch * np.nan if n_batches in times else batch

    return replace(fitted, get_batch=get_batch)


def test_a_loss_that_is_no_number_costs_an_epoch_and_rate(rows):
    fitted, validation = rows
    module = network()
    with pytest.warns(ConvergenceWarning, match=r"exploded after \d+ steps .* goes on at 0.0025"):
        history = train(module, poisoned(fitted, [2 * 35 + 1]), OPTIONS, validation=validation)
    assert [epoch["epoch"] for epoch in history] == list(range(1, 21))
    assert loss_on(module, validation) < 0.7 * loss_on(network(), validation)


class Cramped(nn.Module):
    """A network on a device that has room for a limited number of rows at a time."""

    def __init__(self, network, most_rows):
        super().__init__()
        self.network = network
        self.most_rows = most_rows

    def forward(self, x):
        if self.training and len(x) > self.most_rows:
            raise torch.OutOfMemoryError("out of memory")
        return self.network(x)


def test_a_batch_without_room_is_cut_and_means_the_same(rows):
    fitted, validation = rows
    network = nn.Sequential(nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 64))
    roomy, cramped = Cramped(deepcopy(network), 1000), Cramped(deepcopy(network), 10)
    brief = replace(OPTIONS, max_epochs=2)
    history = train(roomy, fitted, brief, validation=validation)
    with pytest.warns(RuntimeWarning, match="no room for a batch of 32 rows"):
        of_cramped = train(cramped, fitted, brief, validation=validation)
    assert of_cramped[-1]["valid_loss"] == pytest.approx(history[-1]["valid_loss"], rel=1e-4)
