"""Ctrl-C, by the signal that it sends."""

import signal
import subprocess
import sys
import threading
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback, EarlyStopping

from skae._data.splits import held_out_runs

# Of 1,300 rows 1,172 are trained on, in batches of 73.
N_STEPS_OF_EPOCH = 17


def press():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def handler():
    """Python's handler of Ctrl-C, whoever runs the tests."""
    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


class Pressing(Callback):
    """Presses Ctrl-C after a number of training steps, or at the end of an epoch."""

    def __init__(self, *, steps=None, epochs=None):
        self.steps = steps
        self.epochs = epochs
        self.n_steps_ = self.n_epochs_ = 0

    def on_batch_end(self, net, training=False, **kwargs):
        self.n_steps_ += training
        if training and self.n_steps_ == self.steps:
            press()

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs_ += 1
        if self.n_epochs_ == self.epochs:
            press()


def interrupted(autoencoder, X):
    """The autoencoder, whose fit was interrupted."""
    with pytest.raises(KeyboardInterrupt):
        autoencoder.fit(X)
    return autoencoder


def assert_is_pca(autoencoder, X):
    codes = PCA(4, svd_solver="full").fit(X).transform(X)
    np.testing.assert_allclose(autoencoder.transform(X), codes, atol=1e-8)


# -- The first interrupt --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 17])
def test_before_networks_proved_themselves_it_leaves_pca(digits, quick, steps):
    sentence = (
        "Interrupted after 0 epochs of the training, before the networks had proved themselves on "
        "validation rows: the model is PCA."
    )
    with pytest.warns(ConvergenceWarning, match=sentence):
        autoencoder = interrupted(quick(4, callbacks=[Pressing(steps=steps)]), digits[0])
    assert autoencoder.interrupted_
    assert autoencoder.n_iter_ == 0
    assert autoencoder.nonlinear_gain_ == 0
    assert_is_pca(autoencoder, digits[0])


def test_after_some_epochs_it_leaves_networks_that_beat_pca(digits, quick):
    X, X_test = digits[:2]
    pressing = Pressing(steps=7 * N_STEPS_OF_EPOCH + 8)
    with pytest.warns(ConvergenceWarning, match=r"Interrupted after 7 epochs of .* beat PCA"):
        autoencoder = interrupted(quick(4, callbacks=[pressing]), X)
    _, validation = held_out_runs(len(X), 0.1, np.random.RandomState(0))
    pca = quick(4, hidden_layer_sizes=()).fit(X)
    for rows in (X[validation], X_test):
        assert autoencoder.score(rows) > pca.score(rows) + 0.02
    assert autoencoder.interrupted_
    assert autoencoder.n_iter_ == len(autoencoder.history_) == 7
    assert autoencoder.nonlinear_gain_ > 0.02


def test_in_a_plain_network_it_leaves_the_best(digits, quick, capsys):
    pressing = Pressing(steps=2 * N_STEPS_OF_EPOCH + 8)
    plain = quick(4, linear_path=False, callbacks=[pressing], verbose=1)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 2 epochs"):
        interrupted(plain, digits[0])
    assert plain.n_iter_ == 2
    assert plain.interrupted_
    assert "interrupted; codes and reconstructions: networks, " in capsys.readouterr().err
    assert np.isfinite(plain.transform(digits[1])).all()


def test_in_the_first_epoch_of_a_plain_network_an_earlier_fit_stays(digits, quick):
    plain = quick(4, linear_path=False).fit(digits[0])
    codes = plain.transform(digits[1])
    interrupted(plain.set_params(callbacks=[Pressing(steps=3)]), digits[0])
    np.testing.assert_array_equal(plain.transform(digits[1]), codes)
    assert plain.interrupted_ is False


def test_a_callback_that_ends_a_stage_is_no_interrupt(digits, quick):
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=0.9, sink=lambda text: None)
    assert quick(8, callbacks=[stop]).fit(digits[0]).interrupted_ is False


def pressing_blocks(X):
    """A dask array that presses Ctrl-C when it is read."""

    def pressed(block):
        press()
        return block

    return da.from_array(X, chunks=(len(X), -1)).map_blocks(pressed, dtype=X.dtype, meta=X[:0])


def test_in_the_principal_directions_and_in_partial_fit_nothing_is_left(digits, quick):
    X = digits[0][:400]
    with dask.config.set(scheduler="synchronous"):
        autoencoder = interrupted(quick(4), pressing_blocks(X))
        assert not hasattr(autoencoder, "latent_dim_")
        stream = quick(4).partial_fit(X)
        codes = stream.transform(digits[1])
        with pytest.raises(KeyboardInterrupt):
            stream.partial_fit(pressing_blocks(X))
    np.testing.assert_array_equal(stream.transform(digits[1]), codes)


def test_a_second_one_leaves_the_estimator_as_it_was(digits, quick):
    autoencoder = quick(4, whiten=True, max_epochs=3).fit(digits[0])
    before = dict(vars(autoencoder))
    with warnings.catch_warnings(action="always"):
        warnings.showwarning = lambda *args, **kwargs: press()  # on what the first one left
        interrupted(autoencoder.set_params(callbacks=[Pressing(steps=40)]), digits[0])
    changed = {name for name, value in vars(autoencoder).items() if before.get(name) is not value}
    assert changed == {"callbacks"}


def test_a_fit_after_it_is_whole(digits, quick):
    autoencoder = quick(4, callbacks=[Pressing(steps=20)])
    with pytest.warns(ConvergenceWarning, match="after 1 epochs of the training"):
        interrupted(autoencoder, digits[0])
    assert autoencoder.fit(digits[0]).interrupted_ is False
    assert autoencoder.nonlinear_gain_ > 0


def test_an_interrupted_fit_with_a_checkpoint_ends_with_the_same_bits(digits, quick, tmp_path):
    for steps in (20, 8 * N_STEPS_OF_EPOCH):
        pressing = Pressing(steps=steps)
        autoencoder = quick(4, callbacks=[pressing], checkpoint=tmp_path / str(steps))
        with pytest.warns(ConvergenceWarning, match="Interrupted"):
            interrupted(autoencoder, digits[0])
        resumed = quick(4, checkpoint=tmp_path / str(steps)).fit(digits[0])
        np.testing.assert_array_equal(
            resumed.transform(digits[1]), quick(4).fit(digits[0]).transform(digits[1])
        )


# -- The second interrupt -------------------------------------------------------------------------


# -- What goes on around it -----------------------------------------------------------------------


def test_it_ends_a_pipeline_and_a_search(digits, quick):
    X, _, y, _ = digits
    pipeline = make_pipeline(quick(4, callbacks=[Pressing(steps=20)]), LogisticRegression())
    with pytest.warns(ConvergenceWarning), pytest.raises(KeyboardInterrupt):
        pipeline.fit(X, y)
    assert pipeline[0].interrupted_
    assert not hasattr(pipeline[1], "coef_")
    pressing = quick(4, callbacks=[Pressing(steps=20)])
    search = GridSearchCV(make_pipeline(pressing, LogisticRegression()), {}, cv=2)
    with pytest.warns(ConvergenceWarning), pytest.raises(KeyboardInterrupt):
        search.fit(X, y)


def test_the_handler_of_the_user_is_called_and_restored(digits, quick):
    pressed = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    autoencoder = quick(4, callbacks=[Pressing(steps=20)]).fit(digits[0])
    assert pressed == [signal.SIGINT]
    assert autoencoder.interrupted_ is False
    mine = signal.signal(signal.SIGINT, handler)
    mine(signal.SIGINT, None)
    assert len(pressed) == 2


SCRIPT = """
import sys
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from skae import DenseAutoencoder

X, y = load_digits(return_X_y=True)
autoencoder = DenseAutoencoder(
    4, hidden_layer_sizes=(64, 64), max_epochs=10_000, random_state=0, verbose=2
)
make_pipeline(autoencoder, LogisticRegression()).fit(X, y)
print("the program went on")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT alone")
def test_it_ends_a_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        for line in process.stdout:
            if "training, epoch 3 " in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "the program went on" not in out
    kept = out.splitlines()[-1]
    assert kept.startswith("interrupted; codes")
    assert ("which beat PCA on validation rows" in err) == ("codes: a network" in kept)
    assert ("the model is PCA" in err) == ("reconstructions are PCA's" in kept)
    assert err.rstrip().endswith("KeyboardInterrupt")
