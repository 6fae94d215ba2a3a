"""What a fit says while it runs: its history, its lines, its warnings, and callbacks."""

import errno
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
from skorch.callbacks import Callback

from skae import DenseAutoencoder

# -- History --------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
def test_history_is_in_the_unit_of_the_data(digits, quick, linear_path):
    X, X_test, _, _ = digits
    autoencoder = quick(8, linear_path=linear_path, max_epochs=20, learning_rate=0.003).fit(X)
    history = autoencoder.history_
    assert [entry["epoch"] for entry in history] == [*range(1, autoencoder.n_iter_ + 1)]
    assert {entry["stage"] for entry in history} == {"training"}
    assert all(entry["dur"] > 0 for entry in history)
    last, variance = history[-1], X.var(axis=0).sum()
    assert last["valid_loss"] == pytest.approx(variance * (1 - autoencoder.score(X_test)), rel=0.2)
    assert last["valid_loss"] == pytest.approx(variance * (1 - last["variance_explained"]), rel=0.1)
    assert ("variance_explained_by_pca" in last) == linear_path


# -- Warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_training_cut_short_warns(digits, quick, linear_path):
    sentence = "Training was still improving when max_epochs=4 ended it"
    with pytest.warns(ConvergenceWarning, match=sentence):
        quick(8, linear_path=linear_path, max_epochs=4).fit(digits[0])


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_training_that_ended_by_itself_does_not_warn(digits, quick, linear_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = quick(2, linear_path=linear_path, max_epochs=500, tol=0.5).fit(digits[0])
    assert ended.n_iter_ < 500


# -- Lines ----------------------------------------------------------------------------------------


def test_a_log_file_gets_few_lines_that_name_their_rows(digits, quick, capsys):
    autoencoder = quick(4, verbose=1).fit(digits[0])
    out, err = capsys.readouterr()
    *lines, closing = err.splitlines()
    assert out == ""
    assert "\r" not in err
    entries = [entry for entry in autoencoder.history_ if entry["epoch"] in (1, 2, 4, 8)]
    for line, entry in zip(lines, entries, strict=True):
        assert line == (
            f"training, epoch {entry['epoch']}, {entry['variance_explained']:.4f} of the variance "
            f"of validation rows (PCA {entry['variance_explained_by_pca']:.4f})"
        )
    assert closing.startswith("codes: a network; reconstructions: a network, +")


def test_verbose_2_prints_the_plan_and_a_line_an_epoch(digits, quick, capsys):
    autoencoder = quick(8, verbose=2).fit(digits[0])
    out, err = capsys.readouterr()
    plan, *lines, closing = out.splitlines()
    assert err == ""
    assert plan.startswith("plan: PCA of 8 dimensions by 64 principal directions, then ")
    for line, entry in zip(lines, autoencoder.history_, strict=True):
        assert line.startswith(f"training, epoch {entry['epoch']}  train_loss ")
        assert f"valid_loss {entry['valid_loss']:.6g}" in line
        assert f"{entry['variance_explained']:.4f} of the variance of validation rows" in line
    of_pca = autoencoder.history_[0]["variance_explained_by_pca"]
    assert closing == (
        f"codes: a network; reconstructions: a network, {100 * autoencoder.nonlinear_gain_:+.1f} % "
        f"of the variance beyond PCA's {of_pca:.3f} on validation rows"
    )


def closing_line(autoencoder, X, capsys):
    autoencoder.set_params(verbose=1).fit(X)
    return capsys.readouterr().err.splitlines()[-1]


def test_the_reason_for_keeping_pca_is_reported(digits, quick, capsys):
    X, rng = digits[0], np.random.default_rng(0)
    pca = "codes and reconstructions are PCA's: "
    few_rows = quick(4, validation_fraction=0.1)
    assert closing_line(few_rows, X[:50], capsys) == (
        f"{pca}there are 5 validation rows, and networks need 8"
    )
    nothing_left = closing_line(quick(4), rng.normal(size=(200, 4)), capsys)
    assert nothing_left.startswith(f"{pca}networks have too little to gain")
    without_networks = closing_line(quick(4, hidden_layer_sizes=()), X, capsys)
    assert without_networks == f"{pca}there were no networks to train"
    noise = closing_line(quick(5), rng.normal(size=(400, 30)), capsys)
    assert noise.startswith(f"{pca}networks gained ")
    assert noise.endswith(" of the variance on validation rows, which is not enough")


def test_a_resumed_fit_says_so(digits, quick, tmp_path, capsys):
    class Killed(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 5:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        quick(8, checkpoint=tmp_path, callbacks=[Killed()]).fit(digits[0])
    quick(8, checkpoint=tmp_path, verbose=1).fit(digits[0])
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "training: 4 epochs are restored from the checkpoint"
    assert second.startswith("training, epoch 8, ")


class Gone(io.StringIO):
    """The standard error of a process that nobody reads any more."""

    def __init__(self, error):
        super().__init__()
        self._error = error
        self.isatty = lambda: error == errno.EIO

    def write(self, text):
        raise OSError(self._error, "gone")


@pytest.mark.parametrize("stream", [None, Gone(errno.EPIPE), Gone(errno.EIO)])
def test_a_stream_that_is_gone_does_not_end_the_fit(digits, quick, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert quick(4, verbose=1, max_epochs=3).fit(digits[0]).n_iter_ == 3


SCRIPT = """
import os
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skae import DenseAutoencoder

X = load_digits().data[:600]
autoencoder = DenseAutoencoder(
    4, hidden_layer_sizes=(64, 64), max_epochs=12, random_state=0, verbose=1
)
autoencoder.fit(X)
os.environ["PYTHONWARNINGS"] = "ignore"  # workers of old versions have other filters
autoencoder.set_params(max_epochs=2)
with parallel_config("multiprocessing", n_jobs=2):
    search = GridSearchCV(autoencoder, {"latent_dim": [2, 4]}, cv=2, refit=False, n_jobs=2)
    search.fit(X)
"""


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
def test_a_terminal_gets_one_line_that_the_result_replaces_and_workers_label_theirs():
    states, *of_workers = shown_in_terminal(SCRIPT, n_columns=200)
    *states, closing = [state.rstrip() for state in states if state.strip()]
    assert states[0].startswith("PCA [")
    assert re.match(r"training, epoch 12, 0\.\d+ of the variance of validation rows", states[-1])
    assert closing.startswith("codes: a network; reconstructions: a network, +")
    assert all(len(states) == 1 for states in of_workers)  # no bar
    labels = [re.match(r"\[worker (\d+)\] ", line) for (line,) in of_workers]
    assert len({label[1] for label in labels}) == 2
    assert sum("] codes" in line for (line,) in of_workers) == 4


def test_worker_threads_label_their_lines(digits, quick, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
        pool.submit(quick(2, max_epochs=2, verbose=1).fit, digits[0]).result()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("[worker_0] ") for line in lines)


PREPARE = """
import signal, sys, warnings
sys.modules["ipywidgets"] = None  # an environment without it
warnings.simplefilter("ignore")
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from skae import DenseAutoencoder

class Press(Callback):
    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)

X = load_digits().data[:600]
settings = dict(hidden_layer_sizes=(16,), max_epochs=8, random_state=0)
"""


@pytest.mark.slow
def test_a_notebook_gets_one_line_and_its_interrupt_leaves_a_fitted_autoencoder():
    nbformat, nbclient = map(pytest.importorskip, ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    sources = [
        PREPARE,
        "DenseAutoencoder(4, verbose=1, **settings).fit(X);",
        "ae = DenseAutoencoder(4, linear_path=False, callbacks=[Press()], **settings)\nae.fit(X);",
        "print(ae.interrupted_, ae.transform(X).shape)",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, allow_errors=True).execute()
    _, shown, interrupted, fitted = [cell.outputs for cell in notebook.cells]
    assert {output.name for output in shown} == {"stdout"}
    *_, line = "".join(output.text for output in shown).replace("\r", "\n").splitlines()
    assert line.startswith("codes")
    assert [output.ename for output in interrupted] == ["KeyboardInterrupt"]
    assert fitted[0].text == "True (600, 4)\n"


# -- Callbacks of scikit-learn --------------------------------------------------------------------


class Counter:
    """A callback that counts epochs, and ends a fit after some of them."""

    def __init__(self, most=1000):
        self.most = most
        self.n_epochs = self.n_set_up = self.n_torn_down = 0

    def setup(self, estimator, context):
        self.n_set_up += 1

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"
        return context.task_name == "epoch" and self.n_epochs >= self.most

    def teardown(self, estimator, context):
        self.n_torn_down += 1


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn has callbacks from version 1.9 on",
)
class TestCallbacksOfScikitLearn:
    @pytest.mark.parametrize("linear_path", [True, False])
    def test_each_epoch_is_a_task_that_can_end_training(self, digits, quick, linear_path):
        counter = Counter(most=4)
        autoencoder = quick(8, linear_path=linear_path).set_callbacks(counter).fit(digits[0])
        assert counter.n_epochs == len(autoencoder.history_) == 4
        assert counter.n_set_up == counter.n_torn_down == 1

    def test_a_failed_fit_tears_down(self, digits):
        counter = Counter()
        with pytest.raises(ValueError, match="latent_dim"):
            DenseAutoencoder(1000).set_callbacks(counter).fit(digits[0])
        assert counter.n_set_up == counter.n_torn_down

    def test_the_fitted_estimator_can_be_scored(self, digits, quick):
        from sklearn.callback import ScoringMonitor

        X, _, y, _ = digits
        monitor = ScoringMonitor(scoring={"explained": lambda estimator, X, y: estimator.score(X)})
        autoencoder = quick(8, max_epochs=2).set_callbacks(monitor).fit(X, y)
        assert monitor.get_logs().data[-1]["explained"] == autoencoder.score(X)

    def test_progress_nests_through_search_and_pipeline(self, digits, quick, capsys):
        pytest.importorskip("rich")
        from sklearn.callback import ProgressBar

        pipeline = Pipeline([("scale", StandardScaler()), ("ae", quick(4, max_epochs=2))])
        search = GridSearchCV(pipeline, {"ae__latent_dim": [2, 4]}, cv=2)
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(digits[0])
        shown = capsys.readouterr().out
        assert "DenseAutoencoder" in shown
        assert "100%" in shown
