"""The progress of a fit: planned stages, the share of work done, the time left."""

import time
from dataclasses import dataclass
from math import log


@dataclass(frozen=True)
class PlannedStage:
    """One training stage of a fit.

    Attributes
    ----------
    name : str
        As in `history_`.
    label : str
        Shown to the user.
    n_epochs : int
        The maximum number of epochs.
    cost : float
        Of an epoch, relative to epochs of the other stages.
    """

    name: str
    label: str
    n_epochs: int
    cost: float = 1.0


class Progress:
    """The planned stages of a fit, and the epochs that are done.

    Parameters
    ----------
    clock : callable, default=time.perf_counter
        Returns the current time in seconds.

    Attributes
    ----------
    may_end_early : bool
        Whether the fit may end earlier than planned.
    n_restored : int
        Epochs restored from a checkpoint, in all stages so far.
    n_new : int
        Epochs done since.
    """

    def __init__(self, clock=time.perf_counter):
        self._clock = clock
        self._stages, self._current = [], None
        self._n_done, self._epoch_seconds = {}, {}
        self._fraction = 0.0
        self.may_end_early = True
        self.n_restored = self.n_new = 0

    def plan(self, stages, *, may_end_early):
        """Set the stages of the fit, including those that are done."""
        self._stages, self.may_end_early = list(stages), may_end_early

    def on_stage_begin(self, name, n_restored):
        """Start a stage, of which some epochs may be restored from a checkpoint."""
        self._current = name
        self._n_done[name] = n_restored
        self.n_restored += n_restored
        self._n_new_of_stage = 0

    def on_epoch_begin(self):
        if not self._n_new_of_stage:
            self._start = self._clock()  # preparations of the stage are not repeated

    def on_epoch_end(self):
        self._n_done[self._current] += 1
        self._n_new_of_stage += 1
        self.n_new += 1
        seconds = (self._clock() - self._start) / self._n_new_of_stage
        self._epoch_seconds[self._current] = seconds

    @property
    def stage(self):
        """The current stage."""
        return self._stages[self._index]

    @property
    def n_done(self):
        """Epochs done in the current stage."""
        return self._n_done[self._current]

    @property
    def fraction(self):
        """Share of the planned work that is done; it never decreases."""
        before = self._stages[: self._index]
        done = sum(self._n_done.get(stage.name, 0) * stage.cost for stage in before)
        done += self.n_done * self.stage.cost
        left = sum(n_epochs * stage.cost for stage, n_epochs in self._stages_left())
        self._fraction = max(self._fraction, done / (done + left))
        return self._fraction

    @property
    def seconds_left(self):
        """Estimated seconds for the rest of the plan; None before the end of the first epoch."""
        if not self._epoch_seconds:
            return None
        return sum(
            n_epochs * self._seconds_per_epoch(stage) for stage, n_epochs in self._stages_left()
        )

    @property
    def _index(self):
        return [stage.name for stage in self._stages].index(self._current)

    def _stages_left(self):
        """Yield the stages that are not done, and their numbers of epochs left."""
        yield self.stage, self.stage.n_epochs - self.n_done
        for stage in self._stages[self._index + 1 :]:
            yield stage, stage.n_epochs

    def _seconds_per_epoch(self, stage):
        """Measured, or scaled by cost from the measured stage with the nearest cost."""
        if stage.name in self._epoch_seconds:
            return self._epoch_seconds[stage.name]
        measured = [other for other in self._stages if other.name in self._epoch_seconds]
        nearest = min(measured, key=lambda other: abs(log(other.cost / stage.cost)))
        return self._epoch_seconds[nearest.name] * stage.cost / nearest.cost
