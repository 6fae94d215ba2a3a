"""What a fit tells while it lasts: nothing, a progress bar, a line an epoch, or callbacks.

A report is told the stages that are planned, each as it begins, each epoch as it begins and as it
ends, and what came of it all.
"""

import os
import sys
import threading
import time
from contextlib import contextmanager
from math import ceil
from multiprocessing import parent_process

from tqdm import tqdm

from .progress import Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """An older scikit-learn: there is no `set_callbacks`."""

    def with_callbacks(method):
        return method


def callback_context(estimator, n_epochs):
    """The context of a fit whose subtasks are its epochs; None before version 1.9."""
    if not hasattr(estimator, "set_callbacks"):
        return None
    return estimator._init_callback_context(max_subtasks=n_epochs)


# A notebook is not told more often than this, in seconds.
_INTERVAL = 0.1

# Characters of the bar in a notebook.
_WIDTH = 20


class Report:
    """Silence, and what every report can be told."""

    def plan(self, stages, *, may_end_early):
        """The stages of the fit, as far as is known by now.

        Parameters
        ----------
        stages : list of PlannedStage
            Those that are done included.
        may_end_early : bool
            Whether the fit may end sooner.
        """

    def on_stage_begin(self, name, n_restored=0):
        """A planned stage begins, of which a checkpoint held ``n_restored`` epochs."""

    def on_epoch_begin(self):
        pass

    def on_epoch_end(self, epoch, best, of_pca):
        """Take note of an epoch; true if training should end with it.

        Parameters
        ----------
        epoch : dict
            What `history_` will hold of it.
        best : float
            The largest share of variance explained by an epoch of this stage.
        of_pca : float
            The share that PCA explains of the same rows; nan without a linear path.
        """

    def conclude(self, sentence, *, interrupted=False):
        """What was kept, and why; and whether the user ended the fit."""

    def close(self, *, failed):
        """The fit has ended."""


NO_REPORT = Report()


class _Shown(Report):
    """A report that people read. A subclass shows an epoch and a sentence.

    Parameters
    ----------
    worker : str, default=""
        Which of several workers this is.
    """

    def __init__(self, worker=""):
        self._prefix = f"[{worker}] " if worker else ""
        self._progress = Progress()
        self._conclusion = "PCA: there were no networks to train"
        self._interrupted = False

    def plan(self, stages, *, may_end_early):
        self._progress.plan(stages, may_end_early=may_end_early)

    def on_stage_begin(self, name, n_restored=0):
        self._progress.on_stage_begin(name, n_restored)

    def on_epoch_begin(self):
        progress = self._progress
        progress.on_epoch_begin()
        if progress.n_restored and not progress.n_new:
            stage = progress.stage
            where = f"epoch {progress.n_done + 1} of {stage.n_epochs}, {stage.label}"
            self._say(f"resumed at {where}")

    def on_epoch_end(self, epoch, best, of_pca):
        self._progress.on_epoch_end()
        self._show(epoch, best, of_pca)

    def conclude(self, sentence, *, interrupted=False):
        self._conclusion = f"interrupted; {sentence}" if interrupted else sentence
        self._interrupted = interrupted

    def close(self, *, failed):
        if not failed:
            self._say(self._closing())

    def _show(self, epoch, best, of_pca):
        """Show an epoch that has ended."""
        raise NotImplementedError

    def _say(self, sentence):
        """Show a sentence for good."""
        self._write(_stream(), sentence)

    def _write(self, stream, sentence):
        stream.write(f"{self._prefix}{sentence}\n")  # at once: others may write there too
        stream.flush()

    def _closing(self):
        found = self._progress.n_restored and not self._progress.n_new
        return self._conclusion + (", as the checkpoint had it" if found else "")

    def _where(self):
        stage, n_done = self._progress.stage, self._progress.n_done
        return f"{stage.label}, epoch {n_done} of {stage.n_epochs}"

    def _time_left(self):
        left = _in_words(self._progress.seconds_left)
        return f"at most {left}" if self._progress.may_end_early else left


class Bar(_Shown):
    """One bar for the whole fit, in a terminal: `verbose=1`."""

    def __init__(self):
        super().__init__()
        self._bar = tqdm(total=1.0, dynamic_ncols=True, bar_format="principal directions |{bar}|")

    def close(self, *, failed):
        if not failed and not self._interrupted:
            self._bar.n = self._bar.total
            self._bar.refresh()
        self._bar.close()
        super().close(failed=failed)

    def _show(self, epoch, best, of_pca):
        where = self._where().replace(" of ", "/")  # for a terminal of 80 columns
        self._bar.bar_format = f"{where} |{{bar}}| {self._time_left()}, {_brief(epoch, of_pca)}"
        self._bar.update(self._progress.fraction - self._bar.n)
        if self._progress.n_done == 1:
            self._bar.refresh()  # tqdm would pass over a stage that is short

    def _say(self, sentence):
        self._bar.write(sentence, file=sys.stderr)


class NotebookBar(_Shown):
    """One bar for the whole fit, in the output of a notebook's cell: `verbose=1`.

    It is text that is replaced, which needs no widgets and leaves one line in the saved notebook.
    """

    def __init__(self):
        super().__init__()
        from IPython.display import display

        self._handle = display(_as_text("principal directions"), raw=True, display_id=True)
        self._last = 0.0

    def close(self, *, failed):
        if not failed:
            self._replace(self._closing())

    def _show(self, epoch, best, of_pca):
        now = time.monotonic()
        if now - self._last < _INTERVAL:
            return
        self._last = now
        n_full = round(_WIDTH * self._progress.fraction)
        bar = "█" * n_full + "░" * (_WIDTH - n_full)
        self._replace(f"{self._where()} {bar} {self._time_left()} left, {_brief(epoch, of_pca)}")

    def _replace(self, sentence):
        self._handle.update(_as_text(sentence), raw=True)


class Milestones(_Shown):
    """A line every tenth of the way, with the time left: `verbose=1` where nothing can move."""

    _n_tenths = 0

    def _show(self, epoch, best, of_pca):
        n_tenths = int(10 * self._progress.fraction + 1e-6)
        if n_tenths == self._n_tenths:
            return
        self._n_tenths = n_tenths
        self._say(f"{self._where()}, {self._time_left()} left, {_shares(epoch, best, of_pca)}")


class Lines(_Shown):
    """A line an epoch, on standard output: `verbose=2`."""

    def _show(self, epoch, best, of_pca):
        losses = "  ".join(f"{key} {epoch[key]:.6g}" for key in epoch if key.endswith("_loss"))
        self._say(
            f"[{epoch['stage']}] epoch {epoch['epoch']} of {self._progress.stage.n_epochs}  "
            f"{losses}  {_shares(epoch, best, of_pca)}  {epoch['dur']:.2f} s"
        )

    def _say(self, sentence):
        self._write(sys.stdout, sentence)


class Tasks(Report):
    """Each epoch is a task to the callbacks that scikit-learn 1.9 knows (`set_callbacks`)."""

    def __init__(self, estimator, context):
        self._estimator = estimator
        self._context = context

    def on_epoch_begin(self):
        self._task = self._context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(estimator=self._estimator)

    def on_epoch_end(self, epoch, best, of_pca):
        return self._task.call_on_fit_task_end(estimator=self._estimator)


class Reports(Report):
    """Several reports as one."""

    def __init__(self, reports):
        self._reports = reports

    def plan(self, stages, *, may_end_early):
        for report in self._reports:
            report.plan(stages, may_end_early=may_end_early)

    def on_stage_begin(self, name, n_restored=0):
        for report in self._reports:
            report.on_stage_begin(name, n_restored)

    def on_epoch_begin(self):
        for report in self._reports:
            report.on_epoch_begin()

    def on_epoch_end(self, epoch, best, of_pca):
        asked = [report.on_epoch_end(epoch, best, of_pca) for report in self._reports]
        return any(asked)

    def conclude(self, sentence, *, interrupted=False):
        for report in self._reports:
            report.conclude(sentence, interrupted=interrupted)


@contextmanager
def open_report(verbose):
    """What `verbose` asks for, closed at the end of the block."""
    report = _chosen(verbose)
    try:
        yield report
    except BaseException:
        report.close(failed=True)
        raise
    report.close(failed=False)


def _chosen(verbose):
    if not verbose:
        return NO_REPORT
    worker = _worker()
    if verbose > 1:
        return Lines(worker)
    if worker:  # bars of several workers would overwrite each other
        return Milestones(worker)
    if _in_notebook():
        return NotebookBar()
    return Bar() if sys.stderr.isatty() else Milestones()


def _worker():
    """A name for a fit that is one of several at a time, as with ``n_jobs``; else empty."""
    names = []
    if parent_process() is not None:
        names.append(f"worker {os.getpid()}")
    if threading.current_thread() is not threading.main_thread():
        names.append(threading.current_thread().name)
    return ", ".join(names)


def _in_notebook():
    """Whether a Jupyter kernel runs this process."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def _stream():
    """Notebooks show standard error as if something had failed."""
    return sys.stdout if _in_notebook() else sys.stderr


def _as_text(sentence):
    return {"text/plain": sentence}


def _judges(epoch):
    """The rows on which an epoch was measured."""
    return "validation rows" if "valid_loss" in epoch else "training rows"


def _brief(epoch, of_pca):
    shares = f"{_judges(epoch)} {epoch['variance_explained']:.3f}"
    return f"{shares} (PCA {of_pca:.3f})" if of_pca == of_pca else shares


def _shares(epoch, best, of_pca):
    others = [f"best {best:.4f}"] if "valid_loss" in epoch else []
    others += [f"PCA {of_pca:.4f}"] if of_pca == of_pca else []
    shares = f"variance explained {epoch['variance_explained']:.4f} on {_judges(epoch)}"
    return f"{shares} ({', '.join(others)})" if others else shares


def _in_words(seconds):
    if seconds < 100:
        return f"{ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
