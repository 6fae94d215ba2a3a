"""Callbacks of skorch: each works with its defaults, in fits with the linear path and without."""

import numpy as np
import pytest
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    LRScheduler,
    PassthroughScoring,
    TrainEndCheckpoint,
    Unfreezer,
)

from skae import DenseAutoencoder

N_EPOCHS = 4


class Watch(Callback):
    """Keeps the net and the learning rate of each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.net_, self.rates_ = net, []

    def on_epoch_end(self, net, **kwargs):
        self.rates_.append(net.optimizer_.param_groups[0]["lr"])


@pytest.fixture(params=["residual", "plain"])
def fitted(request, digits):
    """A function: a brief fit with callbacks, and what a `Watch` beside them saw."""

    def fit(*callbacks, weighted=False, **parameters):
        watch = Watch()
        named = [(f"callback{i}", callback) for i, callback in enumerate(callbacks)]
        settings = {"hidden_layer_sizes": (16,), "max_epochs": N_EPOCHS, "random_state": 0}
        model = DenseAutoencoder(
            4,
            linear_path=request.param == "residual",
            callbacks=[*named, ("watch", watch)],
            **settings | parameters,
        )
        weights = np.linspace(1, 2, 400) if weighted else None
        return model.fit(digits[0][:400], sample_weight=weights), watch

    return fit


def error_of(net, X, y=None):
    """A scorer of skorch: y is known where it caches predictions, else the rows are a `Dataset`."""
    rows = np.stack([X[i][1].numpy() for i in range(len(X))]) if y is None else y
    return float(np.square(net.predict(X) - rows).mean())


@pytest.mark.parametrize(("use_caching", "weighted"), [(False, False), (True, True)])
@pytest.mark.parametrize("on_train", [True, False])
def test_scores_of_epochs_are_finite(fitted, on_train, use_caching, weighted):
    scoring = EpochScoring(error_of, name="error", on_train=on_train, use_caching=use_caching)
    model, watch = fitted(scoring, weighted=weighted)
    errors = watch.net_.history[:, "error"]
    assert len(errors) == model.n_iter_ == N_EPOCHS
    assert np.isfinite(errors).all()
    assert errors[-1] < errors[0]
    assert [epoch["error"] for epoch in model.history_ if epoch["stage"] == "training"] == errors


def test_the_rate_follows_a_schedule_after_the_warm_up(fitted):
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
    _, watch = fitted(schedule, batch_size=6, learning_rate=0.01)  # 60 steps an epoch
    rates = np.array(watch.rates_)
    np.testing.assert_allclose(rates[2:] / rates[1:-1], 0.5, rtol=1e-6)


@pytest.mark.parametrize("policy", ["StepLR", "ReduceLROnPlateau"])
def test_schedules_work_with_their_defaults(fitted, policy):
    parameters = {"step_size": 30} if policy == "StepLR" else {}
    model, watch = fitted(LRScheduler(policy, **parameters))
    assert model.n_iter_ == N_EPOCHS
    assert np.isfinite(watch.rates_).all()


def test_early_stopping_ends_the_run(fitted):
    stop = EarlyStopping("valid_loss", patience=2, threshold=0.9, sink=lambda text: None)
    model, _ = fitted(stop, max_epochs=40, learning_rate=1e-5)
    assert len(model.history_) <= 4


def test_checkpoints_of_a_run_are_written(fitted, tmp_path):
    best, last = (
        Checkpoint(dirname=tmp_path / "best"),
        TrainEndCheckpoint(dirname=tmp_path / "last"),
    )
    fitted(best, last)
    for name in ("params.pt", "optimizer.pt", "history.json"):
        assert (tmp_path / "best" / name).stat().st_size > 0
        assert (tmp_path / "last" / f"train_end_{name}").stat().st_size > 0


def test_frozen_weights_do_not_change(fitted):
    class Weights(Callback):
        def on_train_begin(self, net, **kwargs):
            self.seen_ = []

        def on_epoch_end(self, net, **kwargs):
            weights = dict(net.module_.named_parameters())
            self.seen_.append({name: w.detach().clone() for name, w in weights.items()})

    weights = Weights()
    fitted(Freezer("decoder*"), Unfreezer("decoder*", at=3), weights)
    first, second, third, _ = weights.seen_
    frozen = [name for name in first if name.startswith("decoder")]
    assert frozen
    assert all((first[name] == second[name]).all() for name in frozen)
    assert any((third[name] != second[name]).any() for name in frozen)


def test_what_is_frozen_stays_so_in_the_steps_on_all_rows(digits):
    frozen = DenseAutoencoder(4, hidden_layer_sizes=(32,), max_epochs=10, random_state=0)
    frozen.set_params(callbacks=[Freezer("encoder*")]).fit(digits[0][:600])
    pca = DenseAutoencoder(4, hidden_layer_sizes=()).fit(digits[0][:600])
    # An encoder starts at zero, so codes are PCA's; the decoder was trained.
    assert frozen.nonlinear_gain_ > 0.01
    np.testing.assert_allclose(
        frozen.transform(digits[1]), pca.transform(digits[1]), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "callback",
    [
        EpochTimer(),
        PassthroughScoring("train_batch_count", on_train=True),
        GradientNormClipping(1.0),
        Initializer("*weight", fn=lambda weight: weight.data.mul_(0.99)),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_others_leave_a_fit_that_learns(fitted, callback):
    _, watch = fitted(callback)
    losses = watch.net_.history[:, "train_loss"]
    assert len(losses) == N_EPOCHS
    assert losses[-1] < losses[0]
