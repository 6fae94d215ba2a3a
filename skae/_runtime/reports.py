"""Reports of a running fit: none, a progress bar, lines of text, or scikit-learn's callbacks.

A fit calls the methods of a `Report` when stages are planned, when a stage or an epoch begins, when
an epoch ends, and when the fit is done.
"""

import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from math import ceil
from multiprocessing import parent_process

from tqdm import tqdm

from .progress import Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Without `set_callbacks`, which scikit-learn has from version 1.9."""

    def with_callbacks(method):
        return method


# Least seconds between two updates of a notebook.
_MIN_INTERVAL = 0.1

# Characters of the progress bar in a notebook.
_BAR_WIDTH = 20


@contextmanager
def open_report(verbose):
    """Create the report for `verbose`, and close it at the end of the block."""
    report = _report_for(verbose)
    try:
        yield report
    except BaseException:
        report.close(failed=True)
        raise
    report.close(failed=False)


def callback_context(estimator, n_epochs):
    """Return a callback context whose subtasks are epochs; None before scikit-learn 1.9."""
    if not hasattr(estimator, "set_callbacks"):
        return None
    return estimator._init_callback_context(max_subtasks=n_epochs)


class Report:
    """The interface of all reports; this class reports nothing."""

    def plan(self, stages, *, may_end_early):
        """Set the planned stages of the fit.

        Parameters
        ----------
        stages : list of PlannedStage
            Including those that are done.
        may_end_early : bool
            Whether the fit may end earlier.
        """

    def on_stage_begin(self, name, n_restored=0):
        """Start a stage, of which a checkpoint restored ``n_restored`` epochs."""

    def on_epoch_begin(self):
        """Start an epoch."""

    def on_epoch_end(self, epoch, best, pca_share):
        """Report an epoch, and return whether training should end after it.

        Parameters
        ----------
        epoch : dict
            The entry of `history_`.
        best : float
            The largest share of the variance explained after any epoch of this stage.
        pca_share : float
            The share that PCA explains on the same rows; nan without a linear path.
        """

    def conclude(self, sentence, *, interrupted=False):
        """Set the sentence that states the result, and whether the user interrupted the fit."""

    def close(self, *, failed):
        """End the report after the fit has returned or failed."""


NO_REPORT = Report()


class _TextReport(Report):
    """Base class of reports in text.

    Parameters
    ----------
    worker : str, default=""
        Name of the worker that runs the fit, if it is one of several.
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
            self._print(
                f"resumed at epoch {progress.n_done + 1} of {stage.n_epochs}, {stage.label}"
            )

    def on_epoch_end(self, epoch, best, pca_share):
        self._progress.on_epoch_end()
        self._show_epoch(epoch, best, pca_share)

    def conclude(self, sentence, *, interrupted=False):
        self._conclusion = f"interrupted; {sentence}" if interrupted else sentence
        self._interrupted = interrupted

    def close(self, *, failed):
        if not failed:
            self._print(self._final_sentence())

    def _show_epoch(self, epoch, best, pca_share):
        """Show an epoch after its end."""
        raise NotImplementedError

    def _print(self, sentence):
        """Write a sentence that is not replaced later."""
        self._write(_output_stream(), sentence)

    def _write(self, stream, sentence):
        if stream is None:  # as in a service, or with pythonw
            return
        with suppress(OSError, ValueError):  # closed, or on a full disk: the fit goes on
            stream.write(f"{self._prefix}{sentence}\n")  # in one call: other workers write there
            stream.flush()

    def _final_sentence(self):
        is_restored = self._progress.n_restored and not self._progress.n_new
        return self._conclusion + (", as the checkpoint had it" if is_restored else "")

    def _position(self):
        stage, n_done = self._progress.stage, self._progress.n_done
        return f"{stage.label}, epoch {n_done} of {stage.n_epochs}"

    def _remaining_time(self):
        duration = _duration(self._progress.seconds_left)
        return f"at most {duration}" if self._progress.may_end_early else duration


class Bar(_TextReport):
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

    def _show_epoch(self, epoch, best, pca_share):
        position = self._position().replace(" of ", "/")  # for a terminal of 80 columns
        self._bar.bar_format = (
            f"{position} |{{bar}}| {self._remaining_time()}, {_short_summary(epoch, pca_share)}"
        )
        self._bar.update(self._progress.fraction - self._bar.n)
        if self._progress.n_done == 1:
            self._bar.refresh()  # tqdm would skip a short stage

    def _print(self, sentence):
        self._bar.write(sentence, file=sys.stderr)


class NotebookBar(_TextReport):
    """One bar for the whole fit, in the output of a notebook's cell: `verbose=1`.

    It is replaceable text: it needs no widgets and leaves one line in the saved notebook.
    """

    def __init__(self):
        super().__init__()
        from IPython.display import display

        self._handle = display(_plain_text("principal directions"), raw=True, display_id=True)
        self._last = 0.0

    def close(self, *, failed):
        if not failed:
            self._replace(self._final_sentence())

    def _show_epoch(self, epoch, best, pca_share):
        now = time.monotonic()
        if now - self._last < _MIN_INTERVAL:
            return
        self._last = now
        n_full = round(_BAR_WIDTH * self._progress.fraction)
        bar = "█" * n_full + "░" * (_BAR_WIDTH - n_full)
        summary = f"{self._remaining_time()} left, {_short_summary(epoch, pca_share)}"
        self._replace(f"{self._position()} {bar} {summary}")

    def _replace(self, sentence):
        self._handle.update(_plain_text(sentence), raw=True)


class TenthLines(_TextReport):
    """A line after every tenth of the work: `verbose=1` where output cannot be replaced."""

    _n_tenths = 0

    def _show_epoch(self, epoch, best, pca_share):
        n_tenths = int(10 * self._progress.fraction + 1e-6)
        if n_tenths == self._n_tenths:
            return
        self._n_tenths = n_tenths
        summary = f"{self._remaining_time()} left, {_summary(epoch, best, pca_share)}"
        self._print(f"{self._position()}, {summary}")


class EpochLines(_TextReport):
    """A line for each epoch on standard output: `verbose=2`."""

    def _show_epoch(self, epoch, best, pca_share):
        losses = "  ".join(f"{key} {epoch[key]:.6g}" for key in epoch if key.endswith("_loss"))
        self._print(
            f"[{epoch['stage']}] epoch {epoch['epoch']} of {self._progress.stage.n_epochs}  "
            f"{losses}  {_summary(epoch, best, pca_share)}  {epoch['dur']:.2f} s"
        )

    def _print(self, sentence):
        self._write(sys.stdout, sentence)


class CallbackReport(Report):
    """Runs the callbacks of scikit-learn 1.9 (`set_callbacks`), with a task for each epoch."""

    def __init__(self, estimator, context):
        self._estimator = estimator
        self._context = context

    def on_epoch_begin(self):
        self._task = self._context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(estimator=self._estimator)

    def on_epoch_end(self, epoch, best, pca_share):
        return self._task.call_on_fit_task_end(estimator=self._estimator)


class ReportGroup(Report):
    """Several reports with the interface of one."""

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

    def on_epoch_end(self, epoch, best, pca_share):
        should_end = [report.on_epoch_end(epoch, best, pca_share) for report in self._reports]
        return any(should_end)

    def conclude(self, sentence, *, interrupted=False):
        for report in self._reports:
            report.conclude(sentence, interrupted=interrupted)


def _report_for(verbose):
    if not verbose:
        return NO_REPORT
    worker = _worker_name()
    if verbose > 1:
        return EpochLines(worker)
    if worker:  # bars of several workers would overwrite each other
        return TenthLines(worker)
    if _in_notebook():
        return NotebookBar()
    return Bar() if _is_terminal(sys.stderr) else TenthLines()


def _is_terminal(stream):
    """Whether a stream is a terminal; false if there is none, or it is closed."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _worker_name():
    """The name of this worker if several fits may run at a time, as with ``n_jobs``; else ""."""
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


def _output_stream():
    # Notebooks display standard error like a failure.
    return sys.stdout if _in_notebook() else sys.stderr


def _plain_text(sentence):
    return {"text/plain": sentence}


def _measured_rows(epoch):
    """Which rows an epoch was evaluated on."""
    return "validation rows" if "valid_loss" in epoch else "training rows"


def _short_summary(epoch, pca_share):
    share = f"{_measured_rows(epoch)} {epoch['variance_explained']:.3f}"
    return f"{share} (PCA {pca_share:.3f})" if pca_share == pca_share else share


def _summary(epoch, best, pca_share):
    references = [f"best {best:.4f}"] if "valid_loss" in epoch else []
    references += [f"PCA {pca_share:.4f}"] if pca_share == pca_share else []
    share = f"variance explained {epoch['variance_explained']:.4f} on {_measured_rows(epoch)}"
    return f"{share} ({', '.join(references)})" if references else share


def _duration(seconds):
    if seconds < 100:
        return f"{ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
