"""What a user sees of a fit: its history, its progress, its warnings, and callbacks."""

import sys

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from skorch.callbacks import Callback, EarlyStopping

STAGES = ["rehearsal of the decoder", "rehearsal of both networks", "training on all rows"]


# -- History --------------------------------------------------------------------------------------


def test_history_has_an_entry_for_each_epoch_of_each_stage(digits, quick):
    autoencoder = quick(8, max_epochs=8, early_stopping=False).fit(digits[0])
    numbers = {name: [] for name in STAGES}
    for entry in autoencoder.history_:
        numbers[entry["stage"]].append(entry["epoch"])
    assert list(numbers.values()) == [[1, 2], [1, 2], list(range(1, 9))]
    assert autoencoder.n_iter_ == 8
    assert all(entry["dur"] > 0 for entry in autoencoder.history_)


def test_history_is_in_the_unit_of_the_data(digits, quick):
    X, X_test, _, _ = digits
    autoencoder = quick(8, max_epochs=20).fit(X)
    last = autoencoder.history_[-1]
    error = -autoencoder.score_samples(X).mean()
    # The loss of an epoch is a mean while the weights move, under dropout.
    assert last["train_loss"] == pytest.approx(error, rel=0.2)
    rehearsed = [entry for entry in autoencoder.history_ if entry["stage"] == STAGES[1]]
    assert rehearsed[-1]["variance_explained"] == pytest.approx(autoencoder.score(X_test), abs=0.1)
    assert rehearsed[-1]["valid_loss"] == pytest.approx(
        X.var(axis=0).sum() * (1 - rehearsed[-1]["variance_explained"]), rel=0.1
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


def test_a_length_left_to_us_does_not_warn(digits, quick, recwarn):
    quick(8, max_epochs="auto").fit(digits[0])
    assert not recwarn.list


# -- Progress -------------------------------------------------------------------------------------


def test_silent_unless_asked(digits, quick, capsys):
    quick(8).fit(digits[0])
    assert capsys.readouterr() == ("", "")


def test_a_log_file_gets_ten_lines(digits, quick, capsys):
    autoencoder = quick(8, max_epochs=40, verbose=1).fit(digits[0])
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert 5 <= len(lines) <= 12
    assert "\r" not in err
    n_epochs = len(autoencoder.history_)
    assert lines[-1].startswith("training on all rows")
    assert f"of {n_epochs} epochs" in lines[-1]
    assert "s left, variance explained 0." in lines[0]
    assert "PCA 0." in lines[0]


def test_a_terminal_gets_one_bar_that_ends_full(digits, quick, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    autoencoder = quick(8, verbose=1).fit(digits[0])
    err = capsys.readouterr().err
    n_epochs = len(autoencoder.history_)
    last = err.rstrip().rpartition("\r")[2]
    assert f"{n_epochs}/{n_epochs}" in last
    assert "100%" in last
    assert err.count("\n") == 1


def test_a_bar_ends_full_where_pca_wins(quick, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    X = np.random.default_rng(0).normal(size=(400, 30))
    autoencoder = quick(5, verbose=1).fit(X)
    n_epochs = len(autoencoder.history_)
    assert autoencoder.n_iter_ == 0 < n_epochs
    assert f"{n_epochs}/{n_epochs}" in capsys.readouterr().err.rstrip().rpartition("\r")[2]


def test_verbose_2_prints_a_line_an_epoch(digits, quick, capsys):
    autoencoder = quick(8, verbose=2).fit(digits[0])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(autoencoder.history_)
    assert all("train_loss" in line and "variance explained" in line for line in lines)


# -- Callbacks ------------------------------------------------------------------------------------


class Diary(Callback):
    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.history[-1, "train_loss"])


def test_skorch_callbacks_hear_of_every_epoch(digits, quick):
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
        """A callback that counts epochs, and asks for an end after some of a fit's."""

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
