"""Grids of other scales, and which of their tiles lies over another."""

import pytest

from biomass_pl.data.tiles import HalvesGeometry, WholeGeometry, tiles_over
from biomass_pl.errors import ConfigError


@pytest.mark.parametrize(
    ("grid", "scale", "expected"), [((2, 4), 0.5, (1, 2)), ((1, 1), 2, (2, 2)), ((3, 3), 1 / 3, (1, 1))]
)
def test_a_scale_changes_the_number_of_tiles_and_not_their_size(grid, scale, expected):
    for geometry in (HalvesGeometry(grid=grid, tile_size=8), WholeGeometry(grid=grid, tile_size=8)):
        scaled = geometry.scaled(scale)
        assert type(scaled) is type(geometry) and (scaled.grid, scaled.tile_size) == (expected, 8)


@pytest.mark.parametrize("scale", [0.5, 0.25, 1.2, 0, -1])
def test_a_scale_that_gives_no_whole_tiles_is_refused(scale):
    with pytest.raises(ConfigError, match="no whole tiles"):
        HalvesGeometry(grid=(2, 3), tile_size=8).scaled(scale)


def test_native_tiles_have_one_scale():
    native = WholeGeometry(grid=(2, 2), tile_size=8, native_tiles=True)
    assert native.scaled(1) == native
    with pytest.raises(ConfigError, match=r"data\.native_tiles keeps their own pixels"):
        native.scaled(0.5)


@pytest.mark.parametrize(
    ("grid", "other", "expected"),
    [
        ((2, 2), (1, 1), [0, 0, 0, 0]),
        ((2, 2), (2, 2), [0, 1, 2, 3]),
        ((2, 4), (1, 2), [0, 0, 1, 1, 0, 0, 1, 1]),
        ((3, 3), (2, 2), [0, 1, 1, 2, 3, 3, 2, 3, 3]),
        ((1, 1), (2, 2), [3]),
    ],
)
def test_the_tile_over_the_middle_of_another(grid, other, expected):
    """A middle on a border belongs to the tile after it."""
    assert tiles_over(grid, other).tolist() == expected
