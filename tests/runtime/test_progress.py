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

from skae._runtime.progress import PlannedStage, Progress

STAGES = ["trial run of both networks", "trial run of the decoder", "training on all rows"]


# -- History --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_rows_suffice")
@pytest.mark.parametrize(("latent_dim", "of_decoder"), [(4, []), (20, [1, 2])])
def test_history_has_an_entry_for_each_epoch_of_each_stage(digits, quick, latent_dim, of_decoder):
    autoencoder = quick(latent_dim, max_epochs=8, early_stopping=False, learning_rate=0.01)
    autoencoder.fit(digits[0])
    epochs = {name: [] for name in STAGES}
    for entry in autoencoder.history_:
        epochs[entry["stage"]].append(entry["epoch"])
    assert list(epochs.values()) == [[1, 2], of_decoder, [1, 2, 3, 4, 5, 6]]
    assert autoencoder.n_iter_ == 6
    assert all(entry["dur"] > 0 for entry in autoencoder.history_)


def test_history_is_in_the_unit_of_the_data(digits, quick):
    X, X_test, _, _ = digits
    autoencoder = quick(8, max_epochs=20).fit(X)
    last = autoencoder.history_[-1]
    error = -autoencoder.score_samples(X).mean()
    # The loss of an epoch is a mean while the weights move, under dropout.
    assert last["train_loss"] == pytest.approx(error, rel=0.2)
    *_, tried = (entry for entry in autoencoder.history_ if entry["stage"] == STAGES[0])
    assert tried["variance_explained"] == pytest.approx(autoencoder.score(X_test), abs=0.1)
    assert tried["valid_loss"] == pytest.approx(
        X.var(axis=0).sum() * (1 - tried["variance_explained"]), rel=0.1
    )


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


@pytest.mark.parametrize("max_epochs", [2, 3, 12])
def test_a_training_cut_short_after_a_large_gain_warns(digits, quick, max_epochs):
    sentence = f"still improving when max_epochs={max_epochs} ended it"
    with pytest.warns(ConvergenceWarning, match=sentence):
        autoencoder = quick(4, max_epochs=max_epochs).fit(digits[0])
    n_tried = sum(entry["stage"] == STAGES[0] for entry in autoencoder.history_)
    assert autoencoder.n_iter_ == max(1, max_epochs - n_tried)


def test_a_training_that_a_slight_gain_ended_does_not_warn(quick):
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=2000)
    X = np.c_[3 * t, 0.3 * t**2, 0.4 * rng.normal(size=(2000, 2))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slight = quick(1, validation_fraction=0.2, learning_rate=0.003).fit(X)
    assert 0 < slight.nonlinear_gain_ < 0.004
    assert slight.n_iter_ == 3


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_training_that_a_callback_ended_does_not_warn(digits, quick, linear_path):
    class Ending(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = quick(4, linear_path=linear_path, callbacks=[Ending()]).fit(digits[0])
    assert ended.n_iter_ == 3


@pytest.mark.slow
def test_the_default_length_does_not_warn(digits, quick, recwarn):
    quick(8, max_epochs="auto").fit(digits[0])
    assert not recwarn.list


# -- Progress -------------------------------------------------------------------------------------


def test_fit_is_silent_by_default(digits, quick, capsys):
    quick(8).fit(digits[0])
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.usefixtures("few_rows_suffice")
@pytest.mark.parametrize(
    ("latent_dim", "trials"), [(4, {"trial run"}), (20, {"trial run 1 of 2", "trial run 2 of 2"})]
)
def test_a_log_file_gets_ten_lines_that_name_their_rows(digits, quick, capsys, latent_dim, trials):
    settings = {"max_epochs": 40, "early_stopping": False, "learning_rate": 0.01, "verbose": 1}
    autoencoder = quick(latent_dim, **settings).fit(digits[0])
    out, err = capsys.readouterr()
    *lines, closing = err.splitlines()
    assert out == ""
    assert 5 <= len(lines) <= 10
    assert "\r" not in err
    n_epochs = autoencoder.n_iter_
    assert lines[-1].startswith(f"training on all rows, epoch {n_epochs} of {n_epochs}, 0 s left")
    labels = [line.partition(", epoch ")[0] for line in lines]
    assert set(labels) == {*trials, "training on all rows"}
    for line, label in zip(lines, labels, strict=True):
        tries = label in trials
        assert ("on validation rows (best 0." in line) == tries
        assert ("at most" in line) == tries
        assert ("on training rows (PCA 0." in line) != tries
    assert closing.startswith("networks kept: ")


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
def test_a_terminal_gets_one_bar_and_a_closing_line():
    *_, bar, closing = shown_in_terminal(f"{SCRIPT}.fit(X)")
    bar = [state.rstrip() for state in bar if state.strip()]
    assert all(len(state) <= 80 for state in bar)
    assert bar[0].startswith("principal directions")
    assert bar[-1].startswith("training on all rows, epoch ")
    assert "training rows 0." in bar[-1]
    assert "PCA 0." in bar[-1]
    tried = [state for state in bar if state.startswith("trial run, epoch ")]
    assert tried
    assert all("at most" in state and "validation rows 0." in state for state in tried)
    assert len(bar[-1].split("|")[1].strip("█")) == 0
    assert closing[0].startswith("networks kept: +")


def test_the_bar_ends_full_where_pca_wins(monkeypatch, capsys, quick):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    X = np.random.default_rng(0).normal(size=(400, 30))
    autoencoder = quick(5, verbose=1).fit(X)
    assert autoencoder.n_iter_ == 0
    bar, closing = capsys.readouterr().err.splitlines()[-2:]
    assert set(bar.rpartition("\r")[2].split("|")[1].strip()) <= {"█", "#"}
    assert closing.startswith("PCA kept: the networks gained ")


def test_verbose_2_prints_a_line_an_epoch(digits, quick, capsys):
    autoencoder = quick(8, verbose=2).fit(digits[0])
    *lines, closing = capsys.readouterr().out.splitlines()
    assert len(lines) == len(autoencoder.history_)
    assert all("train_loss" in line and "variance explained" in line for line in lines)
    for line, epoch in zip(lines, autoencoder.history_, strict=True):
        assert line.startswith(f"[{epoch['stage']}] epoch {epoch['epoch']} of ")
        rows = "validation" if "valid_loss" in epoch else "training"
        assert f"{epoch['variance_explained']:.4f} on {rows} rows" in line
    assert closing.startswith("networks kept: ")


def closing_line(capsys):
    out, err = capsys.readouterr()
    return (out + err).splitlines()[-1]


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_result_is_reported_with_its_gain(digits, quick, capsys, verbose):
    autoencoder = quick(8, verbose=verbose).fit(digits[0])
    *_, tried = (entry for entry in autoencoder.history_ if "valid_loss" in entry)
    gain, of_pca = autoencoder.nonlinear_gain_, tried["variance_explained_by_pca"]
    assert closing_line(capsys) == (
        f"networks kept: {100 * gain:+.1f} % of the variance on validation rows in the trial run "
        f"(PCA {of_pca:.3f})"
    )


def test_the_reason_for_keeping_pca_is_reported(digits, quick, capsys):
    X = digits[0]
    quick(4, verbose=1, validation_fraction=0.1).fit(X[:50])
    assert closing_line(capsys) == ("PCA kept: there are 5 validation rows, and networks need 8")
    quick(4, verbose=1).fit(np.random.default_rng(0).normal(size=(200, 4)))
    assert closing_line(capsys) == "PCA kept: it leaves less than 0.2 % of the variance"
    quick(4, verbose=1, hidden_layer_sizes=()).fit(X)
    assert closing_line(capsys) == "PCA: there were no networks to train"


def test_the_variance_a_plain_network_explains_is_reported(digits, quick, capsys):
    plain = quick(4, verbose=1, linear_path=False).fit(digits[0])
    best = max(entry["variance_explained"] for entry in plain.history_)
    assert closing_line(capsys) == (
        f"networks kept: {best:.3f} of the variance explained on validation rows"
    )
    plain = quick(4, verbose=1, linear_path=False, validation_fraction=0.0005).fit(digits[0])
    assert closing_line(capsys).endswith("explained on training rows")


def test_a_fit_that_fails_has_no_closing_line(digits, quick, capsys):
    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        quick(8, callbacks=[Broken()], verbose=2).fit(digits[0])
    assert "kept" not in capsys.readouterr().out


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
    assert resumed == "resumed at epoch 4 of 9, training on all rows"  # after 3 + 3 trial epochs
    assert sum("resumed" in line for line in lines) == 0
    quick(8, **settings, verbose=1).fit(digits[0])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("networks kept: ")
    assert line.endswith(", as the checkpoint had it")


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
    assert sum("kept: " in line for (line,) in shown) == 4


def test_worker_threads_label_their_lines(digits, quick, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
        pool.submit(quick(2, max_epochs=2, verbose=1).fit, digits[0]).result()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("[worker_0] ") for line in lines)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def fit_in_time(plan, seconds, final=None):
    """Run through stages: return, after each epoch, the estimated and the actual time left.

    Parameters
    ----------
    plan : list of PlannedStage
    seconds : dict
        Of an epoch of each stage.
    final : PlannedStage
        The last stage as it is known when it begins.
    """
    clock = Clock()
    progress = Progress(clock)
    progress.plan(plan, may_end_early=True)
    final = final or plan[-1]
    estimates, fractions = [], []
    for stage in [*plan[:-1], final]:
        if stage is final:
            progress.plan([*plan[:-1], final], may_end_early=False)
        progress.on_stage_begin(stage.name, 0)
        clock.now += 3.0  # what comes before an epoch
        for _ in range(stage.n_epochs):
            progress.on_epoch_begin()
            clock.now += seconds[stage.name]
            progress.on_epoch_end()
            estimates.append((clock.now, progress.seconds_left, progress.may_end_early))
            fractions.append(progress.fraction)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    return [(now, left, clock.now - now, may_end_early) for now, left, may_end_early in estimates]


PLAN = [
    PlannedStage("decoder", "trial run 1 of 2", 10, 0.6 * 900),
    PlannedStage("both", "trial run 2 of 2", 10, 900),
    PlannedStage("all", "training on all rows", 40, 1000),
]


@pytest.mark.parametrize("cost_of_decoder", [0.5, 0.6, 0.9])
def test_time_left_is_within_a_factor_of_two_from_a_fifth_on(cost_of_decoder):
    seconds = {"decoder": 9 * cost_of_decoder, "both": 9.0, "all": 10.0}
    for now, estimate, left, _ in fit_in_time(PLAN, seconds):
        if now > 0.2 * (now + left) and left > 10:
            assert left / 2 <= estimate <= 2 * left


def test_time_left_is_right_once_the_length_is_known():
    final = PlannedStage("all", "training on all rows", 12, 0.6 * 1000)
    seconds = {"decoder": 6.3, "both": 9.0, "all": 7.0}
    for _, estimate, left, may_end_early in fit_in_time(PLAN, seconds, final):
        assert estimate >= left - 6 if may_end_early else estimate == pytest.approx(left)


def test_epochs_of_a_checkpoint_count_as_done_and_not_as_fast():
    clock = Clock()
    progress = Progress(clock)
    progress.plan(PLAN, may_end_early=True)
    progress.on_stage_begin("decoder", 10)
    progress.on_stage_begin("both", 6)
    assert progress.seconds_left is None
    progress.on_epoch_begin()
    clock.now += 9.0
    progress.on_epoch_end()
    assert progress.n_done == 7
    assert progress.seconds_left == pytest.approx(3 * 9 + 40 * 10)
    assert progress.fraction == pytest.approx((5.4 + 6.3) / (5.4 + 9 + 40))


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
    assert 0 < autoencoder.n_iter_ <= 3
    assert autoencoder.nonlinear_gain_ > 0


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
