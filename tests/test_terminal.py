"""What is printed is also kept in the log that is open, with the error that ends it."""

import logging

import pytest
from rich.table import Table

from biomass_pl.errors import DataError
from biomass_pl.terminal import LOGGER, logging_to, say


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, logger=LOGGER)


def test_a_log_holds_lines_messages_and_tables(tmp_path, capsys):
    table = Table("score")
    table.add_row("0.5")
    with logging_to(tmp_path / "run" / "log.txt"):
        say("a [bold] line")
        say(table)
        logging.getLogger(f"{LOGGER}.data").info("%d photos", 3)
        logging.getLogger(LOGGER).warning("few photos")
    say("afterwards")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert [line for line in log.splitlines() if line in ("a [bold] line", "3 photos", "warning: few photos")] == [
        "a [bold] line",
        "3 photos",
        "warning: few photos",
    ]
    assert "score" in log and "0.5" in log and "afterwards" not in log
    printed = capsys.readouterr().out
    assert "a [bold] line" in printed and "0.5" in printed and "afterwards" in printed


def test_a_second_log_goes_on_where_the_first_ended(tmp_path):
    for line in ("first", "second"):
        with logging_to(tmp_path / "log.txt"):
            say(line)
    assert (tmp_path / "log.txt").read_text().splitlines() == ["first", "second"]


def test_the_error_that_ends_a_run_is_kept(tmp_path):
    with pytest.raises(DataError), logging_to(tmp_path / "log.txt"):
        raise DataError("no photos")
    assert (tmp_path / "log.txt").read_text() == "error: no photos\n"


def test_a_line_can_go_another_way_and_still_into_the_log(tmp_path, capsys):
    lines = []
    with logging_to(tmp_path / "log.txt"):
        say("above the bar", through=lines.append)
    assert lines == ["above the bar"] and capsys.readouterr().out == ""
    assert (tmp_path / "log.txt").read_text() == "above the bar\n"
