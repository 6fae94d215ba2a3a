"""What a fit tells while it lasts: nothing, a progress bar, a line an epoch, or callbacks.

A report hears how many epochs lie ahead, then of each epoch as it begins and as it ends.
"""

import sys
import time
from contextlib import contextmanager

from tqdm.auto import tqdm


class Report:
    """Silence, and what every report can be told."""

    def plan(self, n_epochs):
        """How many epochs there will be in all, as far as is known by now."""

    def epoch_begins(self):
        pass

    def epoch_ends(self, epoch, best, of_pca):
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

    def close(self):
        pass


SILENCE = Report()


class Bar(Report):
    """One bar for the whole fit, in a terminal or a notebook: `verbose=1`."""

    def __init__(self):
        self._bar = tqdm(desc="principal directions", unit=" epochs", dynamic_ncols=True)

    def plan(self, n_epochs):
        self._bar.total = n_epochs
        self._bar.refresh()

    def epoch_ends(self, epoch, best, of_pca):
        self._bar.set_description(epoch["stage"], refresh=False)
        self._bar.set_postfix_str(_shares(epoch, best, of_pca), refresh=False)
        self._bar.update()

    def close(self):
        self._bar.close()


class Milestones(Report):
    """A line every tenth of the way, with the time left: `verbose=1` where nothing can move."""

    def __init__(self):
        self._n_planned, self._n_done, self._n_told = 0, 0, 0
        self._start = time.perf_counter()

    def plan(self, n_epochs):
        self._n_planned = n_epochs

    def epoch_ends(self, epoch, best, of_pca):
        self._n_done += 1
        if self._n_done - self._n_told < self._n_planned / 10:
            return
        self._n_told = self._n_done
        spent = time.perf_counter() - self._start
        left = spent * (self._n_planned / self._n_done - 1)
        print(
            f"{epoch['stage']}: {self._n_done} of {self._n_planned} epochs, {left:.0f} s left, "
            f"{_shares(epoch, best, of_pca)}",
            file=sys.stderr,
            flush=True,
        )


class Lines(Report):
    """A line an epoch, on standard output: `verbose=2`."""

    def epoch_ends(self, epoch, best, of_pca):
        losses = "  ".join(f"{key} {epoch[key]:.6g}" for key in epoch if key.endswith("_loss"))
        print(
            f"[{epoch['stage']}] epoch {epoch['epoch']}  {losses}  "
            f"{_shares(epoch, best, of_pca)}  {epoch['dur']:.2f} s",
            flush=True,
        )


class Tasks(Report):
    """Each epoch is a task to the callbacks that scikit-learn 1.9 knows (`set_callbacks`)."""

    def __init__(self, estimator, context):
        self._estimator = estimator
        self._context = context

    def epoch_begins(self):
        self._task = self._context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(estimator=self._estimator)

    def epoch_ends(self, epoch, best, of_pca):
        return self._task.call_on_fit_task_end(estimator=self._estimator)


class Reports(Report):
    """Several reports as one."""

    def __init__(self, reports):
        self._reports = reports

    def plan(self, n_epochs):
        for report in self._reports:
            report.plan(n_epochs)

    def epoch_begins(self):
        for report in self._reports:
            report.epoch_begins()

    def epoch_ends(self, epoch, best, of_pca):
        asked = [report.epoch_ends(epoch, best, of_pca) for report in self._reports]
        return any(asked)


@contextmanager
def report_of(verbose):
    """What `verbose` asks for, closed at the end of the block."""
    if not verbose:
        report = SILENCE
    elif verbose > 1:
        report = Lines()
    else:
        report = Bar() if _can_move() else Milestones()
    try:
        yield report
    finally:
        report.close()


def _can_move():
    """Whether standard error is a terminal or a notebook, not a file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _shares(epoch, best, of_pca):
    sentence = f"variance explained {epoch['variance_explained']:.4f} (best {best:.4f}"
    return f"{sentence}; PCA {of_pca:.4f})" if of_pca == of_pca else f"{sentence})"
