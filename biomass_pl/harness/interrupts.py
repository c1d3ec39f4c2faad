"""Ctrl-C while Lightning's trainer works."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def passing_on_interrupts() -> Iterator[None]:
    """Hands Ctrl-C on as what it is, where Lightning's trainer would end the process and ignore any further one.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed in the block.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ending:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from ending
