"""How far a fit is: the stages that are planned, what is done of them, the time for the rest."""

import time
from dataclasses import dataclass
from math import log


@dataclass(frozen=True)
class PlannedStage:
    """A training among those of a fit.

    Attributes
    ----------
    name : str
        As in `history_`.
    label : str
        What progress calls it.
    n_epochs : int
        At most.
    cost : float
        Of an epoch, relative to those of the other stages.
    """

    name: str
    label: str
    n_epochs: int
    cost: float = 1.0


class Progress:
    """The plan of a fit, and what is done of it.

    Parameters
    ----------
    clock : callable, default=time.perf_counter
        The present time in seconds.

    Attributes
    ----------
    may_end_early : bool
        Whether the fit may end sooner than planned.
    n_restored : int
        Epochs that a checkpoint held, of all stages so far.
    n_new : int
        Epochs made since.
    """

    def __init__(self, clock=time.perf_counter):
        self._clock = clock
        self._stages, self._present = [], None
        self._n_done, self._epoch_seconds = {}, {}
        self._fraction = 0.0
        self.may_end_early = True
        self.n_restored = self.n_new = 0

    def plan(self, stages, *, may_end_early):
        """Set the stages, those that are done included."""
        self._stages, self.may_end_early = list(stages), may_end_early

    def on_stage_begin(self, name, n_restored):
        """A stage begins, of which a checkpoint held some epochs."""
        self._present = name
        self._n_done[name] = n_restored
        self.n_restored += n_restored
        self._n_made_of_stage = 0

    def on_epoch_begin(self):
        if not self._n_made_of_stage:
            self._start = self._clock()  # what came before is done once

    def on_epoch_end(self):
        self._n_done[self._present] += 1
        self._n_made_of_stage += 1
        self.n_new += 1
        seconds = (self._clock() - self._start) / self._n_made_of_stage
        self._epoch_seconds[self._present] = seconds

    @property
    def stage(self):
        """The present stage."""
        return self._stages[self._index]

    @property
    def n_done(self):
        """Epochs done of the present stage."""
        return self._n_done[self._present]

    @property
    def fraction(self):
        """Share of the planned work that is done; it never falls."""
        before = self._stages[: self._index]
        done = sum(self._n_done.get(stage.name, 0) * stage.cost for stage in before)
        done += self.n_done * self.stage.cost
        left = sum(n_epochs * stage.cost for stage, n_epochs in self._left())
        self._fraction = max(self._fraction, done / (done + left))
        return self._fraction

    @property
    def seconds_left(self):
        """For the rest of the plan, by the time that epochs have taken; None before the first."""
        if not self._epoch_seconds:
            return None
        return sum(n_epochs * self._seconds_of(stage) for stage, n_epochs in self._left())

    @property
    def _index(self):
        return [stage.name for stage in self._stages].index(self._present)

    def _left(self):
        """Stages that are not done, with their epochs that are left."""
        yield self.stage, self.stage.n_epochs - self.n_done
        for stage in self._stages[self._index + 1 :]:
            yield stage, stage.n_epochs

    def _seconds_of(self, stage):
        """Of an epoch: measured, or scaled from the measured stage of the nearest cost."""
        if stage.name in self._epoch_seconds:
            return self._epoch_seconds[stage.name]
        measured = [other for other in self._stages if other.name in self._epoch_seconds]
        nearest = min(measured, key=lambda other: abs(log(other.cost / stage.cost)))
        return self._epoch_seconds[nearest.name] * stage.cost / nearest.cost
