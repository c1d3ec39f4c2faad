"""Sums of targets: their parts, and what cannot be one."""

import pytest

from biomass_pl.errors import ConfigError
from biomass_pl.trait.sums import parts_of

TARGETS = ("green", "total", "dead", "clover", "gdm")
ODD = ("green", "dead", "dry.total", "total+", "__total")


def test_without_sums_every_target_is_a_part_of_itself():
    parts = parts_of(TARGETS, {})
    assert parts.names == TARGETS and parts.matrix.tolist() == [
        [float(row == column) for column in range(5)] for row in range(5)
    ]


def test_a_sum_of_sums_contains_their_parts():
    parts = parts_of(TARGETS, {"total": ["gdm", "dead"], "gdm": ["green", "clover"]})
    assert parts.names == ("green", "dead", "clover")
    assert parts.matrix.tolist() == [[1, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 1]]
    assert parts.of_sums(TARGETS) == {"total": ("green", "dead", "clover"), "gdm": ("green", "clover")}


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        ({"all": ["green", "dead"]}, "names 'all', which is not among data.targets"),
        ({"total": ["green", "grey"]}, "names 'grey', which is not among"),
        ({"total": ["green"]}, "'total' fewer than two parts"),
        ({"total": []}, "'total' fewer than two parts"),
        ({"total": ["green", "green"]}, "adds 'green' to 'total' more than once"),
        ({"total": ["gdm", "green"], "gdm": ["green", "clover"]}, "adds 'green' to 'total' more than once"),
        ({"total": ["green", "total"]}, "'total' contain itself"),
        ({"total": ["gdm", "dead"], "gdm": ["total", "green"]}, "contain itself"),
    ],
)
def test_what_is_no_sum_is_refused(sums, message):
    with pytest.raises(ConfigError, match=message):
        parts_of(TARGETS, sums)


@pytest.mark.parametrize("name", ODD[2:])
def test_a_name_that_a_configuration_reads_as_something_else_is_refused(name):
    with pytest.raises(ConfigError, match="Rename the column"):
        parts_of(ODD, {name: ["green", "dead"]})
