"""What a user sees: lines, tables and progress; and the copy of them that a run keeps in its `log.txt`."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from biomass_pl.errors import BiomassError

LOGGER = "biomass_pl"

_LOG_WIDTH = 120
_open_logs: list[TextIO] = []


class MessageFormatter(logging.Formatter):
    """Messages as they are; warnings say that they are warnings."""

    def format(self, record: logging.LogRecord) -> str:
        """One message."""
        text = super().format(record)
        return f"warning: {text}" if record.levelno >= logging.WARNING else text


def say(what: RenderableType, *, through: Callable[[str], object] | None = None) -> None:
    """Prints a line or a table, here and into the logs that are open.

    Args:
        what: A text, which is not wrapped, or anything that Rich renders.
        through: Prints a line of text in place of the terminal's console, such as above a progress bar.
    """
    is_text = isinstance(what, str)
    if through is not None and isinstance(what, str):
        through(what)
    else:
        Console(highlight=False).print(what, soft_wrap=is_text, markup=False)
    for log in _open_logs:
        Console(file=log, width=_LOG_WIDTH, highlight=False).print(what, soft_wrap=is_text, markup=False)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Adds what is printed while the block lasts, and the error that ends it, to a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        handler = logging.StreamHandler(log)
        handler.setFormatter(MessageFormatter())
        messages = logging.getLogger(LOGGER)
        messages.addHandler(handler)
        _open_logs.append(log)
        try:
            yield
        except (BiomassError, OSError) as error:
            log.write(f"error: {error}\n")
            raise
        finally:
            _open_logs.remove(log)
            messages.removeHandler(handler)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar while the block lasts, in a terminal only.

    Args:
        what: What is done, such as `Checking photos`.
        total: Steps there are.

    Yields:
        To be called after every step.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
