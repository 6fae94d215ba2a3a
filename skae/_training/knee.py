"""The end of a training: the knee of its validation losses."""

from math import isfinite

# Steps of the first comparison; the next ones come after a factor of 2 ** 0.25 each.
_FIRST, _FACTOR = 100, 2**0.25

# No training ends by itself before this number of steps; one that has gained nothing so far, after
# three times as many.
_FEWEST = 400
_FEWEST_WITHOUT_GAIN = 3 * _FEWEST

# A smaller gain is none, as a share of the loss of the mean.
_LEAST_GAIN = 0.001

# Training has turned if its best comparison is older than this multiple of its steps, and the
# last loss is higher.
_TURNED = 1.5

# A loss has exploded if it exceeds this multiple of the lowest by more than this amount.
_EXPLOSION_FACTOR, _NEGLIGIBLE_LOSS = 100.0, 1e-6

# An upper bound for data that never ends to give.
MOST_STEPS = 20_000


class Knee:
    """Compares validation losses at steps that grow geometrically, and says when to end.

    Training ends when the second half of its steps brought less than ``tol`` of all that was
    gained, when nothing was gained, or when the losses have turned. So its length follows the
    difficulty of the data and not the number of rows.

    Parameters
    ----------
    start : float
        The loss before the first step. Infinite for random weights: what is gained counts from the
        first comparison then, since any start gains much in its first steps.
    unit : float
        The loss if every row is reconstructed by the mean, to judge what is a gain.
    tol : float
    may_end : bool, default=True
        False if training has a fixed length.

    Attributes
    ----------
    best, best_step : float, int
        The lowest loss so far, and its step.
    is_reached : bool
        Whether training should end.
    exploded : bool
        Whether the last loss is NaN or has grown beyond reason.

    Examples
    --------
    >>> knee = Knee(start=1.0, unit=1.0, tol=0.1)
    >>> for step, loss in [(100, 0.5), (200, 0.3), (400, 0.28), (566, 0.279)]:
    ...     knee.compare(step, loss)
    >>> knee.is_reached, knee.best_step
    (True, 566)
    """

    def __init__(self, start, unit, tol, *, may_end=True):
        self.best, self.best_step = start, 0
        self.is_reached = self.exploded = False
        self._unit, self._tol, self._may_end = unit, tol, may_end
        self._losses = [(0, start)] if isfinite(start) else []
        self._next = _FIRST

    def is_due(self, step):
        """Whether a comparison is wanted after a step."""
        return step >= self._next

    def compare(self, step, loss):
        """Take the loss after a step."""
        while self._next <= step:
            self._next = int(self._next * _FACTOR) + 1
        self.exploded = not loss <= _EXPLOSION_FACTOR * self.best + _NEGLIGIBLE_LOSS
        if self.exploded or not isfinite(loss):
            return
        self._losses.append((step, loss))
        if loss < self.best:
            self.best, self.best_step = loss, step
        self.is_reached = self._may_end and self._ends(step, loss)

    def _ends(self, step, loss):
        if step >= MOST_STEPS:
            return True
        if step < _FEWEST:
            return False
        if loss > self.best and step > _TURNED * self.best_step:
            return True
        gained = self._losses[0][1] - self.best
        if gained < _LEAST_GAIN * self._unit:
            return step >= _FEWEST_WITHOUT_GAIN
        recent = min(loss for s, loss in self._losses if s <= step / 2) - self.best
        return recent < self._tol * gained

    def state(self):
        """All that `restore` needs."""
        return dict(vars(self), _losses=list(self._losses))

    def restore(self, state):
        """Continue from a state."""
        vars(self).update(state)
        self._losses = [tuple(entry) for entry in self._losses]
