"""The cut into tiles and the plain transform."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.photos import split_views
from biomass_pl.data.tiles import SMALLEST_CROP, HalvesGeometry, PlainTransform, WholeGeometry, make_geometry
from biomass_pl.errors import ConfigError

SQUARE = HalvesGeometry(grid=(2, 2), tile_size=16)
OBLONG = HalvesGeometry(grid=(1, 3), tile_size=16)
SHRUNK = HalvesGeometry(grid=(2, 2), tile_size=16, view_size=16)


def drawn(transform, photo, seed):
    return transform(photo, np.random.default_rng(seed))


def blocks(height=64, width=64, seed=0):
    """One view of large blocks in middle colours: no flip or turn of it is like itself, and no colour is cut off."""
    coarse = np.random.default_rng(seed).integers(70, 180, (height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def twins(seed=0):
    return np.concatenate([blocks(seed=seed)] * 2, axis=1)


def test_tiles_are_cut_in_reading_order_as_worked_by_hand():
    geometry = HalvesGeometry(grid=(2, 3), tile_size=1)
    views = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    tiles = geometry.cut(views)
    assert tiles.shape == (2, 6, 3, 1, 1) and tiles.dtype == torch.uint8
    assert tiles[0, :, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14], [15, 16, 17]]
    assert tiles[1, 0, :, 0, 0].tolist() == [18, 19, 20]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.integers(1, 5), views=st.integers(1, 3))
def test_each_tile_is_what_slicing_the_view_gives(rows, columns, size, views):
    geometry = HalvesGeometry(grid=(rows, columns), tile_size=size)
    assert geometry.view_shape == (rows * size, columns * size)
    pixels = np.random.default_rng(0).integers(0, 256, (views, *geometry.view_shape, 3), dtype=np.uint8)
    tiles = geometry.cut(pixels).numpy()
    assert tiles.shape == (views, rows * columns, 3, size, size)
    for row in range(rows):
        for column in range(columns):
            sliced = pixels[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            assert np.array_equal(tiles[:, row * columns + column], sliced.transpose(0, 3, 1, 2))


def test_flipped_views_are_cut_as_their_copies_are():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for axis in (1, 2):
        flipped = np.flip(pixels, axis)
        assert torch.equal(SQUARE.cut(flipped), SQUARE.cut(flipped.copy()))


def test_plain_views_are_area_means_as_worked_by_hand():
    photo = np.zeros((4, 8, 3), np.uint8)
    photo[:2, :2] = [[[10], [20]], [[30], [40]]]
    photo[2:, 6:] = 200
    views = PlainTransform(geometry=HalvesGeometry(grid=(1, 2), tile_size=1))(photo[:2], np.random.default_rng(0))
    assert views[..., 0].tolist() == [[[25, 0]], [[0, 0]]]
    views = PlainTransform(geometry=HalvesGeometry(grid=(2, 2), tile_size=1))(photo, np.random.default_rng(0))
    assert views[..., 0].tolist() == [[[25, 0], [0, 0]], [[0, 0], [0, 200]]]


@pytest.mark.parametrize("geometry", [SQUARE, OBLONG])
def test_plain_views_draw_nothing(geometry):
    plain, photo = PlainTransform(geometry=geometry), twins()
    rng = np.random.default_rng(0)
    views = plain(photo, rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
    assert np.array_equal(views, drawn(plain, photo, 1))
    assert views.shape == (2, *geometry.view_shape, 3) and views.dtype == np.uint8


def test_a_plain_view_of_the_right_size_is_unchanged():
    photo = twins()[:32, 32:96]
    assert np.array_equal(drawn(PlainTransform(geometry=SQUARE), photo, 0), np.stack(split_views(photo)))


@pytest.mark.parametrize("geometry", [SQUARE, OBLONG, SHRUNK])
def test_the_smallest_crop_of_a_decoded_photo_is_enlarged_by_a_hundredth(geometry):
    height, width = geometry.view_shape
    enlarged = SMALLEST_CROP**0.5 * 1.01
    assert geometry.decode_size[0] * enlarged == pytest.approx(height, abs=0.5)
    assert geometry.decode_size[1] * enlarged == pytest.approx(2 * width, abs=0.5)


def test_half_of_the_competition_s_pixels_suffice_for_tiles_of_224():
    height, width = HalvesGeometry(grid=(2, 2), tile_size=224).decode_size
    assert height <= 500 and width <= 1000


def test_a_shrunken_view_asks_for_a_smaller_photo():
    assert SHRUNK.view_shape == (16, 16) and SQUARE.view_shape == (32, 32)
    published = HalvesGeometry(grid=(2, 2), tile_size=518, view_size=518)
    assert published.decode_size == (573, 1147)
    assert HalvesGeometry(grid=(2, 2), tile_size=518).decode_size == (1147, 2294)


def test_tiles_of_a_shrunken_view_are_each_enlarged_on_their_own():
    """A tile of one colour stays so: nothing of its neighbours is drawn into it."""
    views = np.zeros((1, 16, 16, 3), np.uint8)
    views[:, :8, 8:], views[:, 8:, :8], views[:, 8:, 8:] = 80, 160, 240
    tiles = SHRUNK.cut(views)
    assert tiles.shape == (1, 4, 3, 16, 16)
    assert [set(tile.ravel().tolist()) for tile in tiles[0].numpy()] == [{0}, {80}, {160}, {240}]


def test_enlarged_pixels_blend_into_each_other_as_worked_by_hand():
    views = np.zeros((1, 1, 2, 3), np.uint8).repeat(2, axis=1)
    views[:, :, 1] = 200
    tile = HalvesGeometry(grid=(1, 1), tile_size=4, view_size=2).cut(views)[0, 0, 0]
    assert tile.tolist() == [[0, 50, 150, 200]] * 4


def test_tiles_larger_than_wanted_are_reduced_by_area():
    views = np.zeros((1, 4, 4, 3), np.uint8)
    views[0, 0, 0] = 160
    tile = HalvesGeometry(grid=(1, 1), tile_size=1, view_size=4).cut(views)
    assert tile.tolist() == [[[[[10]]] * 3]]


@pytest.mark.parametrize(
    ("grid", "view_size", "sizes"),
    [((2, 2), 517, "Give 516 or 518,"), ((2, 3), 518, "Give 516 or 522,"), ((4, 4), 3, "Give 4,")],
)
def test_a_view_that_the_grid_does_not_divide_is_refused_with_sizes_that_work(grid, view_size, sizes):
    with pytest.raises(ConfigError) as caught:
        HalvesGeometry(grid=grid, tile_size=16, view_size=view_size)
    message = str(caught.value)
    assert f"data.view_size is {view_size}" in message and sizes in message
    for size in map(int, re.findall(r"\d+", sizes)):
        HalvesGeometry(grid=grid, tile_size=16, view_size=size)


def whole(rows=2, columns=2, size=10, **settings):
    return WholeGeometry(grid=(rows, columns), tile_size=size, **settings)


def photo_of(height, width):
    """Every pixel tells its row and its column."""
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(height)[:, None], np.arange(width)
    return photo


@pytest.mark.parametrize(
    ("geometry", "shape", "resized"),
    [
        (whole(), (40, 40), (20, 20)),
        (whole(), (300, 400), (15, 20)),
        (whole(), (400, 300), (20, 15)),
        (whole(), (100, 200), (10, 20)),
        (whole(), (100, 400), (10, 40)),  # narrower than a tile: larger than the grid
        (whole(1, 1), (300, 400), (10, 13)),
        (whole(1, 3), (100, 200), (10, 20)),
        (whole(), (3, 4), (15, 20)),
        (whole(native_tiles=True), (300, 400), (300, 400)),
        (whole(native_tiles=True), (5, 40), (10, 80)),
    ],
)
def test_a_whole_photo_just_fits_into_the_grid_undistorted(geometry, shape, resized):
    assert geometry.resized_shape(photo_of(*shape)) == resized
    (view,) = drawn(PlainTransform(geometry=geometry), photo_of(*shape), 0)
    assert view.shape == (*resized, 3)
    assert geometry.cut(view[None]).shape == (1, geometry.grid[0] * geometry.grid[1], 3, 10, 10)


def corners(geometry, photo):
    """Row and column of the first pixel of each tile."""
    return geometry.cut(photo[None]).numpy()[0, :, :2, 0, 0].tolist()


def test_tiles_of_a_whole_photo_are_evenly_spread_and_overlap_where_it_is_narrow():
    assert corners(whole(), photo_of(20, 20)) == [[0, 0], [0, 10], [10, 0], [10, 10]]
    assert corners(whole(), photo_of(15, 20)) == [[0, 0], [0, 10], [5, 0], [5, 10]]
    assert corners(whole(1, 1), photo_of(10, 14)) == [[0, 2]]
    assert corners(whole(1, 3, native_tiles=True), photo_of(30, 110)) == [[10, 0], [10, 50], [10, 100]]
    last = whole(1, 2).cut(photo_of(10, 16)[None]).numpy()[0, 1]
    assert np.array_equal(last.transpose(1, 2, 0), photo_of(10, 16)[:, 6:])


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), height=st.integers(2, 90), width=st.integers(2, 90))
def test_a_whole_photo_keeps_its_shape_and_is_seen_wholly_where_its_shape_is_near_the_grid_s(
    rows, columns, height, width
):
    geometry = whole(rows, columns)
    tall, wide = geometry.resized_shape(np.zeros((height, width, 3), np.uint8))
    assert min(tall, wide) >= 10
    # As far as whole pixels can.
    assert abs(tall * width - wide * height) <= max(height, width)
    seen = np.zeros((tall, wide), bool)
    for row, column in corners(geometry, photo_of(tall, wide)):
        seen[row : row + 10, column : column + 10] = True
    fits = tall <= 10 * rows and wide <= 10 * columns
    assert seen.all() == fits
    if 10 * rows * width / height >= 10 and 10 * columns * height / width >= 10:
        assert fits


def test_a_whole_photo_is_decoded_for_its_grid_or_with_all_its_pixels():
    assert whole(2, 4, 224).decode_size == (496, 992)
    assert whole(native_tiles=True).decode_size == (0, 0)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"views": "whole", "view_size": 32}, "Set it to null, or data.views to halves"),
        ({"views": "halves", "native_tiles": True}, "Set data.views to whole"),
        ({"views": "whole", "grid": (0, 2)}, "data.grid is 0; give 1 or more"),
        ({"views": "whole", "tile_size": 0}, "data.tile_size is 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(chosen, message):
    with pytest.raises(ConfigError, match=message):
        make_geometry(**{"grid": (2, 2), "tile_size": 16, "native_tiles": False, **chosen})


def test_the_settings_choose_the_geometry():
    assert make_geometry(views="whole", grid=(1, 2), tile_size=8, native_tiles=True) == whole(
        1, 2, 8, native_tiles=True
    )
    found = make_geometry(views="halves", grid=(2, 2), tile_size=16, view_size=16, native_tiles=False)
    assert found == SHRUNK and found.view_count == 2 and whole().view_count == 1
