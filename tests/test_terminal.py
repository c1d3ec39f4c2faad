"""What is printed, and the copy of it in a log; bars where there is a terminal."""

import logging
import sys

import pytest
import rich
from rich.table import Table

from biomass_pl.errors import ConfigError
from biomass_pl.terminal import LOGGER, MessageFormatter, logging_to, progress, say

LONG = "one [red] of " + "many " * 60 + "words [1, 2]"


@pytest.fixture
def messages():
    """The logger of this package, at the level at which the command uses it."""
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield logging.getLogger(f"{LOGGER}.somewhere")
    logger.setLevel(level)


def test_a_line_is_printed_as_it_is_however_long(capsys):
    say(LONG)
    assert capsys.readouterr().out == f"{LONG}\n"


def test_a_line_can_go_elsewhere_and_a_table_not(capsys):
    lines = []
    say("a line", through=lines.append)
    assert lines == ["a line"] and capsys.readouterr().out == ""
    table = Table("target", "R2")
    table.add_row("Dry_Green_g", "0.25")
    say(table, through=lines.append)
    printed = capsys.readouterr().out
    assert "Dry_Green_g" in printed and "0.25" in printed and lines == ["a line"]


def test_a_log_has_what_was_printed_and_the_messages_of_its_time(tmp_path, messages, capsys):
    path = tmp_path / "run" / "log.txt"
    say("before")
    messages.info("before")
    with logging_to(path):
        say(LONG)
        say("through a bar", through=lambda line: None)
        messages.info("Run folder: %s", "somewhere [0]")
        messages.warning("odd labels")
        messages.debug("details")
        table = Table("target")
        table.add_row("Dry_Green_g")
        say(table)
    say("after")
    messages.info("after")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:4] == [LONG, "through a bar", "Run folder: somewhere [0]", "warning: odd labels"]
    assert "Dry_Green_g" in "".join(lines[4:]) and not {"before", "after", "details"} & set(lines)
    assert "through a bar" not in capsys.readouterr().out


def test_a_log_goes_on_and_keeps_the_error_that_ended_it(tmp_path, messages):
    path = tmp_path / "log.txt"

    def fail():
        with logging_to(path):
            say("second")
            raise ConfigError("nothing to learn")

    with logging_to(path):
        say("first")
    with pytest.raises(ConfigError, match="nothing to learn"):
        fail()
    messages.info("later")
    assert path.read_text() == "first\nsecond\nerror: nothing to learn\n"


def test_a_crash_leaves_the_log_closed_and_the_rest_working(tmp_path, messages, capsys):
    with pytest.raises(ZeroDivisionError), logging_to(tmp_path / "log.txt"):
        raise ZeroDivisionError
    say("goes on")
    assert capsys.readouterr().out == "goes on\n" and (tmp_path / "log.txt").read_text() == ""


@pytest.mark.parametrize(
    ("level", "text"),
    [(logging.INFO, "3 photos"), (logging.WARNING, "warning: 3 photos"), (logging.ERROR, "warning: 3 photos")],
)
def test_only_warnings_say_what_they_are(level, text):
    record = logging.LogRecord(LOGGER, level, __file__, 1, "%d photos", (3,), None)
    assert MessageFormatter().format(record) == text


@pytest.fixture
def rich_looks_again():
    """Rich settles once for a process what it prints to."""
    yield rich.reconfigure
    rich.reconfigure()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_shown_in_a_terminal_alone(terminal, rich_looks_again, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setenv("TERM", "xterm")
        patched.setattr(sys.stdout, "isatty", lambda: terminal)
        rich_looks_again()
        with progress("Checking photos", 3) as advance:
            for _ in range(3):
                advance()
    shown = capsys.readouterr().out
    assert ("Checking photos" in shown and "3/3" in shown) == terminal == bool(shown)
