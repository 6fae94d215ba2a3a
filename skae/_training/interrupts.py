"""Ctrl-C during a fit."""

import signal
import threading
from contextlib import contextmanager


class Interrupts:
    """The interrupts of one fit.

    Before the first training an interrupt is raised at once. One during a training ends it. After a
    training the first is only counted, since the work that is left is short and makes the estimator
    usable; the next training does not start. A second one is always raised.

    Attributes
    ----------
    n : int
        Number of interrupts so far.
    """

    def __init__(self):
        self.n = 0
        self._raises_first = True

    @contextmanager
    def counted(self):
        """Count interrupts within the block.

        The present handler of SIGINT decides what an interrupt is: it is called, and a
        KeyboardInterrupt that it raises is one. Only the main thread receives signals.
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
        """End the block at the first interrupt within it; count the first one after it."""
        self._raises_first = True
        try:
            yield
        except KeyboardInterrupt:
            self.n = max(1, self.n)  # it may have been raised without a signal
        finally:
            self._raises_first = False

    def check(self):
        """Raise an earlier interrupt, such as one that Python ignored in a destructor."""
        if self.n:
            raise KeyboardInterrupt
