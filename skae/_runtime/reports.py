"""Reports of a running fit: none, one line, a line for each epoch, or scikit-learn's callbacks.

A fit calls the methods of a `Report` when its plan is made, when a run or an epoch begins, when an
epoch ends, and when it is decided what is kept. How many epochs a run will take is not known.
"""

import os
import sys
import threading
from contextlib import contextmanager, suppress
from multiprocessing import parent_process

from tqdm import tqdm

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Without `set_callbacks`, which scikit-learn has from version 1.9."""

    def with_callbacks(method):
        return method


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


def callback_context(estimator):
    """Return a callback context whose subtasks are epochs; None before scikit-learn 1.9."""
    if not hasattr(estimator, "set_callbacks"):
        return None
    return estimator._init_callback_context(max_subtasks=None)


class Report:
    """The interface of all reports; this class reports nothing."""

    def plan(self, plan):
        """Report the `FitPlan`."""

    def on_stage_begin(self, name, n_restored=0):
        """Start a run, of which a checkpoint restored ``n_restored`` epochs."""

    def on_epoch_begin(self):
        """Start an epoch."""

    def on_epoch_end(self, entry):
        """Report an epoch, an entry of `history_`; return whether training should end after it."""

    def conclude(self, sentence, *, interrupted=False):
        """Set the sentence that states the result, and whether the user interrupted the fit."""

    def close(self, *, failed):
        """End the report after the fit has returned or failed."""


NO_REPORT = Report()


class _TextReport(Report):
    """Base class of reports in text, which never fail: a terminal may be gone."""

    def __init__(self):
        worker = _worker_name()
        self._prefix = f"[{worker}] " if worker else ""
        self._conclusion = "codes and reconstructions are PCA's: there were no networks to train"

    def on_stage_begin(self, name, n_restored=0):
        if n_restored:
            self._print(f"{name}: {n_restored} epochs are restored from the checkpoint")

    def conclude(self, sentence, *, interrupted=False):
        self._conclusion = f"interrupted; {sentence}" if interrupted else sentence

    def close(self, *, failed):
        if not failed:
            self._print(self._conclusion)

    def _stream(self):
        # Notebooks display standard error like a failure.
        return sys.stdout if _in_notebook() else sys.stderr

    def _print(self, sentence):
        with suppress(AttributeError, OSError, ValueError):  # no stream, or one that is closed
            self._stream().write(f"{self._prefix}{sentence}\n")  # at once: other workers write too
            self._stream().flush()


class Bar(_TextReport):
    """One line in a terminal or a notebook that shows the last epoch: `verbose=1`."""

    def __init__(self):
        super().__init__()
        # Without a total: validation rows decide how long training is.
        layout = "{desc} [{elapsed}]"
        self._bar = tqdm(desc="PCA", bar_format=layout, file=self._stream(), leave=False)

    def on_epoch_end(self, entry):
        self._bar.set_description_str(f"{entry['stage']}, epoch {entry['epoch']}, {_shares(entry)}")

    def close(self, *, failed):
        self._bar.close()
        super().close(failed=failed)


class SparseLines(_TextReport):
    """Lines after 1, 2, 4, 8 ... epochs: `verbose=1` where output cannot be replaced."""

    def on_epoch_end(self, entry):
        if entry["epoch"] & (entry["epoch"] - 1) == 0:
            self._print(f"{entry['stage']}, epoch {entry['epoch']}, {_shares(entry)}")


class EpochLines(_TextReport):
    """The plan and a line for each epoch on standard output: `verbose=2`."""

    def plan(self, plan):
        self._print(plan)

    def on_epoch_end(self, entry):
        losses = "  ".join(f"{key} {entry[key]:.6g}" for key in entry if key.endswith("_loss"))
        where = f"{entry['stage']}, epoch {entry['epoch']}"
        self._print(f"{where}  {losses}  {_shares(entry)}  {entry['dur']:.2f} s")

    def _stream(self):
        return sys.stdout


class CallbackReport(Report):
    """Runs the callbacks of scikit-learn 1.9 (`set_callbacks`), with a task for each epoch."""

    def __init__(self, estimator, context):
        self._estimator = estimator
        self._context = context

    def on_epoch_begin(self):
        self._task = self._context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(estimator=self._estimator)

    def on_epoch_end(self, entry):
        return self._task.call_on_fit_task_end(estimator=self._estimator)


class ReportGroup(Report):
    """Several reports with the interface of one."""

    def __init__(self, reports):
        self._reports = reports

    def plan(self, plan):
        for report in self._reports:
            report.plan(plan)

    def on_stage_begin(self, name, n_restored=0):
        for report in self._reports:
            report.on_stage_begin(name, n_restored)

    def on_epoch_begin(self):
        for report in self._reports:
            report.on_epoch_begin()

    def on_epoch_end(self, entry):
        should_end = [report.on_epoch_end(entry) for report in self._reports]
        return any(should_end)

    def conclude(self, sentence, *, interrupted=False):
        for report in self._reports:
            report.conclude(sentence, interrupted=interrupted)


def _report_for(verbose):
    if not verbose:
        return NO_REPORT
    if verbose > 1:
        return EpochLines()
    is_terminal = False
    with suppress(AttributeError, ValueError):
        is_terminal = sys.stderr.isatty() and not _worker_name()  # lines of several would mix
    return Bar() if is_terminal or _in_notebook() else SparseLines()


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


def _shares(entry):
    """The share of the variance that an epoch explains, beside PCA's."""
    rows = "validation rows" if "valid_loss" in entry else "training rows"
    share = f"{entry['variance_explained']:.4f} of the variance of {rows}"
    if "variance_explained_by_pca" in entry:
        share += f" (PCA {entry['variance_explained_by_pca']:.4f})"
    return share
