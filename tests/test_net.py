from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from skae._losses import SquaredError
from skae._net import RowSet, TrainingOptions, train

OPTIONS = TrainingOptions(
    loss=SquaredError,
    max_epochs=20,
    batch_size=32,
    learning_rate=1e-2,
    weight_decay=0.0,
    early_stopping=True,
    n_iter_no_change=5,
    tol=1e-4,
    bfloat16=False,
    device=torch.device("cpu"),
    verbose=0,
)


@pytest.fixture
def rows(digits):
    x = torch.from_numpy(digits[0]).float() / 16
    return (RowSet(x.__getitem__, part) for part in np.split(np.arange(1300), [1100]))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 64))


def loss_on(module, row_set):
    x = row_set.fetch(row_set.numbers)
    with torch.inference_mode():
        return SquaredError()(module(x), x).item()


@pytest.fixture(autouse=True)
def _untouched_random_state():
    with torch.random.fork_rng(devices=[]):
        yield


def test_training_lowers_the_loss_on_unseen_rows(rows):
    fitted, unseen = rows
    module = network()
    before = loss_on(module, unseen)
    train(module, fitted, OPTIONS, unseen=unseen)
    assert loss_on(module, unseen) < 0.5 * before


def test_the_weights_of_the_best_epoch_are_kept(rows):
    fitted, unseen = rows
    module = network()
    wild = replace(OPTIONS, learning_rate=0.5, n_iter_no_change=100)
    history = train(module, fitted, wild, unseen=unseen)
    best = min(epoch["valid_loss"] for epoch in history)
    assert history[-1]["valid_loss"] > best
    assert loss_on(module, unseen) == pytest.approx(best, rel=1e-5)


def test_training_stops_when_unseen_rows_stop_improving(rows):
    fitted, unseen = rows
    patient = replace(OPTIONS, max_epochs=50, learning_rate=0.5, n_iter_no_change=3)
    assert len(train(network(), fitted, patient, unseen=unseen)) < 50
    stubborn = replace(patient, early_stopping=False)
    assert len(train(network(), fitted, stubborn, unseen=unseen)) == 50


def test_losses_are_means_over_rows_whatever_the_batch(rows):
    fitted, unseen = rows
    frozen = replace(OPTIONS, max_epochs=1, learning_rate=1e-12)
    losses = []
    for batch_size in (7, 1000):
        module = network()
        expected = loss_on(module.eval(), unseen)
        history = train(module, fitted, replace(frozen, batch_size=batch_size), unseen=unseen)
        losses.append(history[0]["valid_loss"])
    assert losses == pytest.approx([expected, expected], rel=1e-5)


def test_ctrl_c_is_passed_on(rows):
    fitted, unseen = rows

    def interrupt(numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), RowSet(interrupt, fitted.numbers), OPTIONS, unseen=unseen)


def test_only_whole_batches_are_fetched(rows):
    fitted, _ = rows
    sizes = []

    def fetch(numbers):
        sizes.append(len(numbers))
        return fitted.fetch(numbers)

    train(network(), RowSet(fetch, fitted.numbers), replace(OPTIONS, max_epochs=1))
    assert sizes == [32] * 34 + [12]
