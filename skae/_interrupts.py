"""Ctrl-C in a fit: the first ends training and keeps what it learnt, the second ends the fit."""

import signal
import threading
from contextlib import contextmanager


class Interrupts:
    """The interrupts of one fit.

    Before the first training, and during every one, an interrupt is raised where it comes. After a
    training the first is only counted, since the work that is left is short and makes the
    estimator usable; the next training does not start. A second one is raised anywhere.

    Attributes
    ----------
    n : int
        How many there were.
    """

    def __init__(self):
        self.n = 0
        self._raises_first = True

    @contextmanager
    def counted(self):
        """Count those that come within the block.

        The handler of SIGINT that was there still decides what an interrupt is: it is called, and
        if it raises KeyboardInterrupt, that is one. Only the main thread meets signals.
        """
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT) if is_main else None
        if not callable(before):
            yield
            return

        def handle(number, frame):
            try:
                before(number, frame)
            except KeyboardInterrupt:
                self.n += 1
                if self._raises_first or self.n > 1:
                    raise

        try:
            signal.signal(signal.SIGINT, handle)
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is handle:
                signal.signal(signal.SIGINT, before)

    @contextmanager
    def ending_training(self):
        """Raise the first within the block, and count those after it."""
        self._raises_first = True
        try:
            yield
        except KeyboardInterrupt:
            self.n = max(1, self.n)  # it may not have come by a signal
            raise
        finally:
            self._raises_first = False

    def check(self):
        """Raise one that came before, or that was lost where Python ignores exceptions."""
        if self.n:
            raise KeyboardInterrupt
