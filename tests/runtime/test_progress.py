"""Output of a fit: its history, its progress, its warnings, and callbacks."""

import io
import os
import re
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from skorch.callbacks import Callback, EarlyStopping

# -- History --------------------------------------------------------------------------------------


def test_history_has_an_entry_for_each_epoch(digits, quick):
    autoencoder = quick(4, max_epochs=8, early_stopping=False, learning_rate=0.01).fit(digits[0])
    assert [entry["epoch"] for entry in autoencoder.history_] == list(range(1, 9))
    assert autoencoder.n_iter_ == 8
    assert all(entry["dur"] > 0 for entry in autoencoder.history_)


def test_history_is_in_the_unit_of_the_data(digits, quick):
    X, X_test, _, _ = digits
    autoencoder = quick(8, max_epochs=20).fit(X)
    last = autoencoder.history_[-1]
    assert last["train_loss"] == pytest.approx(-autoencoder.score_samples(X).mean(), rel=0.3)
    assert last["variance_explained"] == pytest.approx(autoencoder.score(X_test), abs=0.1)
    variance = X.var(axis=0).sum()
    assert last["valid_loss"] == pytest.approx(variance * (1 - last["variance_explained"]), rel=0.1)


def test_history_of_a_plain_network_ends_at_its_score(digits, quick):
    X = digits[0]
    plain = quick(8, linear_path=False, max_epochs=10, early_stopping=False).fit(X)
    best = max(plain.history_, key=lambda entry: entry["variance_explained"])
    assert best["variance_explained"] == pytest.approx(plain.score(X), abs=0.05)


# -- Warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_training_cut_short_warns(digits, quick, linear_path):
    with pytest.warns(ConvergenceWarning, match="still improving when max_epochs=4 ended it"):
        quick(8, linear_path=linear_path, max_epochs=4, early_stopping=False).fit(digits[0])


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_training_that_a_callback_ended_does_not_warn(digits, quick, linear_path):
    class Ending(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 8:
                raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = quick(4, linear_path=linear_path, callbacks=[Ending()]).fit(digits[0])
    assert ended.n_iter_ == 8


@pytest.mark.slow
def test_the_default_length_does_not_warn(digits, quick, recwarn):
    quick(8, max_epochs="auto").fit(digits[0])
    assert not recwarn.list


# -- Progress -------------------------------------------------------------------------------------


def test_fit_is_silent_by_default(digits, quick, capsys):
    quick(8).fit(digits[0])
    assert capsys.readouterr() == ("", "")


def test_a_log_file_gets_few_lines_that_name_their_rows(digits, quick, capsys):
    settings = {"max_epochs": 40, "early_stopping": False, "learning_rate": 0.01, "verbose": 1}
    autoencoder = quick(4, **settings).fit(digits[0])
    out, err = capsys.readouterr()
    *lines, closing = err.splitlines()
    assert out == ""
    assert len(lines) == len(autoencoder.history_).bit_length()  # epochs 1, 2, 4, 8, ...
    assert "\r" not in err
    for number, line in enumerate(lines):
        epoch = autoencoder.history_[2**number - 1]
        assert line == (
            f"training, epoch {epoch['epoch']}, {epoch['variance_explained']:.4f} of the variance "
            f"of validation rows (PCA {epoch['variance_explained_by_pca']:.4f})"
        )
    assert closing.startswith("codes: a network; reconstructions: a network, +")


def shown_in_terminal(code, n_columns=80):
    """What a script writes to a terminal: the states of each line."""
    pty = pytest.importorskip("pty")
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, n_columns, 0, 0))
    command = [sys.executable, "-W", "ignore", "-c", code]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # once the other end is closed
            while part := os.read(ours, 2**16):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    return [line.split("\r") for line in shown.decode().strip().split("\r\n")]


@pytest.mark.slow
def test_a_terminal_gets_one_line_that_ends_as_the_result():
    (states,) = shown_in_terminal(f"{SCRIPT}.fit(X)")
    states = [state.rstrip() for state in states if state.strip()]
    assert all(len(state) <= 80 for state in states[:-1])
    assert states[0].startswith("PCA [")
    assert any("of the variance of validation rows (PCA 0." in state for state in states)
    assert states[-1].startswith("codes: a network; reconstructions: a network, +")


def test_verbose_2_prints_a_line_an_epoch(digits, quick, capsys):
    autoencoder = quick(8, verbose=2).fit(digits[0])
    *lines, closing = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if "train_loss" in line]  # the plan comes first
    assert len(lines) == len(autoencoder.history_)
    for line, epoch in zip(lines, autoencoder.history_, strict=True):
        assert line.startswith(f"{epoch['stage']}, epoch {epoch['epoch']}  train_loss ")
        assert f"{epoch['variance_explained']:.4f} of the variance of validation rows" in line
    assert closing.startswith("codes: a network; ")


def closing_line(capsys):
    out, err = capsys.readouterr()
    return (out + err).splitlines()[-1]


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_result_is_reported_with_its_gain(digits, quick, capsys, verbose):
    autoencoder = quick(8, verbose=verbose).fit(digits[0])
    gain, of_pca = (
        autoencoder.nonlinear_gain_,
        autoencoder.history_[-1]["variance_explained_by_pca"],
    )
    assert closing_line(capsys) == (
        f"codes: a network; reconstructions: a network, {100 * gain:+.1f} % of the variance beyond "
        f"PCA's {of_pca:.3f} on validation rows"
    )


def test_the_reason_for_keeping_pca_is_reported(digits, quick, capsys):
    X, start = digits[0], "codes and reconstructions are PCA's: "
    quick(4, verbose=1, validation_fraction=0.1).fit(X[:50])
    reason = "there are 5 validation rows, and networks need 8"
    assert closing_line(capsys) == start + reason
    quick(4, verbose=1).fit(np.random.default_rng(0).normal(size=(200, 4)))
    assert closing_line(capsys).startswith(start)
    quick(4, verbose=1, hidden_layer_sizes=()).fit(X)
    assert closing_line(capsys) == start + "there were no networks to train"


def test_the_variance_a_plain_network_explains_is_reported(digits, quick, capsys):
    plain = quick(4, verbose=1, linear_path=False).fit(digits[0])
    best = max(entry["variance_explained"] for entry in plain.history_)
    assert closing_line(capsys) == (
        f"codes and reconstructions: networks, {best:.3f} of the variance on validation rows"
    )
    plain = quick(4, verbose=1, linear_path=False, validation_fraction=0.0005).fit(digits[0])
    assert closing_line(capsys).endswith("of the variance on training rows")


def test_a_fit_that_fails_has_no_closing_line(digits, quick, capsys):
    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        quick(8, callbacks=[Broken()], verbose=2).fit(digits[0])
    assert "reconstructions" not in capsys.readouterr().out


def test_a_resumed_fit_reports_its_first_epoch(digits, quick, tmp_path, capsys):
    class Killed(Callback):
        n_epochs_ = 0

        def on_epoch_begin(self, net, **kwargs):
            self.n_epochs_ += 1
            if self.n_epochs_ == 10:
                raise RuntimeError("killed")

    settings = {"early_stopping": False, "checkpoint": tmp_path}
    with pytest.raises(RuntimeError, match="killed"):
        quick(8, **settings, callbacks=[Killed()]).fit(digits[0])
    quick(8, **settings, verbose=1).fit(digits[0])
    resumed, *lines = capsys.readouterr().err.splitlines()
    assert resumed == "training: 9 epochs are restored from the checkpoint"
    assert sum("restored" in line for line in lines) == 0


SCRIPT = """
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skae import DenseAutoencoder

X = load_digits().data[:600]
autoencoder = DenseAutoencoder(
    4, hidden_layer_sizes=(64, 64), max_epochs=12, random_state=0, verbose=1
)
autoencoder"""

SEARCH = """
import os
os.environ["PYTHONWARNINGS"] = "ignore"  # workers of old versions have other filters
autoencoder.set_params(max_epochs=2)
with parallel_config("loky", n_jobs=2):
    search = GridSearchCV(autoencoder, {"latent_dim": [2, 4]}, cv=2, refit=False, n_jobs=2)
    search.fit(X)"""


@pytest.mark.slow
def test_worker_processes_label_their_lines():
    shown = shown_in_terminal(SCRIPT + SEARCH, n_columns=200)
    assert all(len(states) == 1 for states in shown)  # no bar
    labels = [re.match(r"\[worker (\d+)\] ", line) for (line,) in shown]
    assert len({label[1] for label in labels}) == 2
    assert sum("reconstructions" in line for (line,) in shown) == 4


def test_worker_threads_label_their_lines(digits, quick, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
        pool.submit(quick(2, max_epochs=2, verbose=1).fit, digits[0]).result()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("[worker_0] ") for line in lines)


# -- Callbacks ------------------------------------------------------------------------------------


class Diary(Callback):
    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.history[-1, "train_loss"])


def test_skorch_callbacks_are_called_for_every_epoch(digits, quick):
    diary = Diary()
    autoencoder = quick(8, callbacks=[diary]).fit(digits[0])
    assert len(diary.seen) == len(autoencoder.history_)


def test_a_skorch_callback_can_end_a_stage(digits, quick):
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=0.9, sink=lambda text: None)
    autoencoder = quick(8, max_epochs=40, callbacks=[("stop", stop)]).fit(digits[0])
    assert 1 <= len(autoencoder.history_) <= 3


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn has callbacks from version 1.9 on",
)
class TestCallbacksOfScikitLearn:
    class Counter:
        """A callback that counts epochs, and ends a fit after some of them."""

        def __init__(self, most=1000):
            self.most = most
            self.n_epochs = 0
            self.n_set_up = self.n_torn_down = 0

        def setup(self, estimator, context):
            self.n_set_up += 1

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            self.n_epochs += context.task_name == "epoch"
            return context.task_name == "epoch" and self.n_epochs >= self.most

        def teardown(self, estimator, context):
            self.n_torn_down += 1

    def test_each_epoch_is_a_task(self, digits, quick):
        counter = self.Counter()
        autoencoder = quick(8).set_callbacks(counter).fit(digits[0])
        assert counter.n_epochs == len(autoencoder.history_)
        assert counter.n_set_up == counter.n_torn_down == 1

    def test_a_callback_can_end_a_stage(self, digits, quick):
        counter = self.Counter(most=4)
        autoencoder = quick(8, linear_path=False, max_epochs=30).set_callbacks(counter)
        assert len(autoencoder.fit(digits[0]).history_) == 4

    def test_a_failed_fit_tears_down(self, digits, quick):
        counter = self.Counter()

        class Broken(Callback):
            def on_train_begin(self, net, **kwargs):
                raise RuntimeError("broken")

        autoencoder = quick(8, callbacks=[Broken()]).set_callbacks(counter)
        with pytest.raises(RuntimeError, match="broken"):
            autoencoder.fit(digits[0])
        assert counter.n_set_up == counter.n_torn_down == 1

    def test_the_fitted_estimator_can_be_scored(self, digits, quick):
        from sklearn.callback import ScoringMonitor

        X, _, y, _ = digits
        monitor = ScoringMonitor(scoring={"explained": lambda estimator, X, y: estimator.score(X)})
        autoencoder = quick(8).set_callbacks(monitor).fit(X, y)
        assert monitor.get_logs().data[-1]["explained"] == autoencoder.score(X)

    def test_progress_nests_through_search_and_pipeline(self, digits, quick, capsys):
        pytest.importorskip("rich")
        from sklearn.callback import ProgressBar

        pipeline = Pipeline([("scale", StandardScaler()), ("ae", quick(4, max_epochs=4))])
        search = GridSearchCV(pipeline, {"ae__latent_dim": [2, 4]}, cv=2)
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(digits[0])
        shown = capsys.readouterr().out
        assert "DenseAutoencoder" in shown
        assert "100%" in shown


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("verbose", [1, 2])
@pytest.mark.parametrize("stream", [lambda: None, FullDisk, closed], ids=["none", "full", "closed"])
def test_a_fit_goes_on_where_nothing_can_be_written(digits, quick, monkeypatch, stream, verbose):
    monkeypatch.setattr(sys, "stdout", stream())
    monkeypatch.setattr(sys, "stderr", stream())
    autoencoder = quick(4, verbose=verbose).fit(digits[0][:200])
    monkeypatch.undo()
    assert autoencoder.n_samples_ == 200
