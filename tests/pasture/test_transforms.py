"""The cut into tiles, the plain transform, and what training changes at random."""

import re
import warnings

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.photos import split_views
from biomass_pl.errors import ConfigError
from biomass_pl.pasture.transforms import (
    SMALLEST_CROP,
    AugmentationConfig,
    PlainTransform,
    TileGeometry,
    TrainingTransform,
)

SQUARE = TileGeometry(grid=(2, 2), tile_size=16)
OBLONG = TileGeometry(grid=(1, 3), tile_size=16)
SHRUNK = TileGeometry(grid=(2, 2), tile_size=16, view_size=16)


def training(geometry=SQUARE, *, aug_prob=1.0, stereo_correct=False, stereo_swap_prob=0.0):
    config = AugmentationConfig(aug_prob=aug_prob, stereo_correct=stereo_correct, stereo_swap_prob=stereo_swap_prob)
    return TrainingTransform(geometry=geometry, config=config)


def drawn(transform, photo, seed):
    return transform(photo, np.random.default_rng(seed))


def blocks(height=64, width=64, seed=0):
    """One view of large blocks in middle colours: no flip or turn of it is like itself, and no colour is cut off."""
    coarse = np.random.default_rng(seed).integers(70, 180, (height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def likeness(one, other):
    """Correlation of two pictures; brightness and contrast do not change it, geometry does."""
    return float(np.corrcoef(one.mean(axis=2).ravel(), other.mean(axis=2).ravel())[0, 1])


def twins(seed=0):
    return np.concatenate([blocks(seed=seed)] * 2, axis=1)


def test_tiles_are_cut_in_reading_order_as_worked_by_hand():
    geometry = TileGeometry(grid=(2, 3), tile_size=1)
    views = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    tiles = geometry.cut(views)
    assert tiles.shape == (2, 6, 3, 1, 1) and tiles.dtype == torch.uint8
    assert tiles[0, :, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14], [15, 16, 17]]
    assert tiles[1, 0, :, 0, 0].tolist() == [18, 19, 20]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.integers(1, 5), views=st.integers(1, 3))
def test_each_tile_is_what_slicing_the_view_gives(rows, columns, size, views):
    geometry = TileGeometry(grid=(rows, columns), tile_size=size)
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
    views = PlainTransform(geometry=TileGeometry(grid=(1, 2), tile_size=1))(photo[:2], np.random.default_rng(0))
    assert views[..., 0].tolist() == [[[25, 0]], [[0, 0]]]
    views = PlainTransform(geometry=TileGeometry(grid=(2, 2), tile_size=1))(photo, np.random.default_rng(0))
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
    height, width = TileGeometry(grid=(2, 2), tile_size=224).decode_size
    assert height <= 500 and width <= 1000


def test_a_shrunken_view_asks_for_a_smaller_photo():
    assert SHRUNK.view_shape == (16, 16) and SQUARE.view_shape == (32, 32)
    published = TileGeometry(grid=(2, 2), tile_size=518, view_size=518)
    assert published.decode_size == (573, 1147)
    assert TileGeometry(grid=(2, 2), tile_size=518).decode_size == (1147, 2294)


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
    tile = TileGeometry(grid=(1, 1), tile_size=4, view_size=2).cut(views)[0, 0, 0]
    assert tile.tolist() == [[0, 50, 150, 200]] * 4


def test_tiles_larger_than_wanted_are_reduced_by_area():
    views = np.zeros((1, 4, 4, 3), np.uint8)
    views[0, 0, 0] = 160
    tile = TileGeometry(grid=(1, 1), tile_size=1, view_size=4).cut(views)
    assert tile.tolist() == [[[[[10]]] * 3]]


@pytest.mark.parametrize(
    ("grid", "view_size", "sizes"),
    [((2, 2), 517, "Give 516 or 518,"), ((2, 3), 518, "Give 516 or 522,"), ((4, 4), 3, "Give 4,")],
)
def test_a_view_that_the_grid_does_not_divide_is_refused_with_sizes_that_work(grid, view_size, sizes):
    with pytest.raises(ConfigError) as caught:
        TileGeometry(grid=grid, tile_size=16, view_size=view_size)
    message = str(caught.value)
    assert f"data.view_size is {view_size}" in message and sizes in message
    for size in map(int, re.findall(r"\d+", sizes)):
        TileGeometry(grid=grid, tile_size=16, view_size=size)


@pytest.mark.parametrize("geometry", [SQUARE, OBLONG])
@pytest.mark.parametrize("shape", [(64, 128), (61, 131), (20, 40)])
def test_without_changes_training_views_are_the_plain_ones(geometry, shape):
    photo = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    plain = drawn(PlainTransform(geometry=geometry), photo, 0)
    for seed in range(5):
        assert np.array_equal(drawn(training(geometry, aug_prob=0.0, stereo_correct=True), photo, seed), plain)


@pytest.mark.parametrize("stereo_correct", [False, True])
@pytest.mark.parametrize("geometry", [SQUARE, OBLONG, TileGeometry(grid=(3, 1), tile_size=8)])
def test_training_views_are_bytes_of_the_right_shape_and_each_draw_differs(geometry, stereo_correct):
    transform = training(geometry, stereo_correct=stereo_correct)
    photo = np.concatenate([blocks(seed=1), blocks(seed=2)], axis=1)
    outputs = [drawn(transform, photo, seed) for seed in range(15)]
    assert all(views.shape == (2, *geometry.view_shape, 3) and views.dtype == np.uint8 for views in outputs)
    assert len({views.tobytes() for views in outputs}) == 15


@pytest.mark.parametrize("stereo_correct", [False, True])
def test_the_same_generator_gives_the_same_views_whatever_came_before(stereo_correct):
    transform, photo = training(aug_prob=0.5, stereo_correct=stereo_correct), twins()
    first = [drawn(transform, photo, seed) for seed in range(12)]
    fresh = training(aug_prob=0.5, stereo_correct=stereo_correct)
    again = {seed: drawn(fresh, photo, seed) for seed in reversed(range(12))}
    assert all(np.array_equal(first[seed], again[seed]) for seed in range(12))


def test_training_does_not_change_the_photo_it_is_given():
    photo = twins()
    for seed in range(5):
        drawn(training(stereo_correct=True), photo, seed)
    assert np.array_equal(photo, twins())


def test_equal_halves_stay_equal_when_colours_are_drawn_once():
    transform = training(aug_prob=0.7)
    for seed in range(25):
        left, right = drawn(transform, twins(), seed)
        assert np.array_equal(left, right)


def test_equal_halves_keep_the_same_geometry_but_get_colours_of_their_own_when_stereo_correct():
    transform = training(stereo_correct=True)
    outputs = [drawn(transform, twins(), seed) for seed in range(25)]
    # Noise and blur take a little of the likeness; another flip, turn or crop takes nearly all of it.
    assert min(likeness(left, right) for left, right in outputs) > 0.8
    colours = [np.abs(left.mean(axis=(0, 1)) - right.mean(axis=(0, 1))).max() for left, right in outputs]
    assert np.median(colours) > 5
    assert min(likeness(outputs[0][0], left) for left, _ in outputs[1:]) < 0.5


def test_colour_of_one_view_does_not_depend_on_drawing_the_other_on_its_own():
    own, common = (training(stereo_correct=flag) for flag in (True, False))
    for seed in range(5):
        assert np.array_equal(drawn(own, twins(), seed)[0], drawn(common, twins(), seed)[0])


def test_swapping_reverses_the_views_and_changes_nothing_else():
    photo = np.concatenate([blocks(seed=1), blocks(seed=2)], axis=1)
    for seed in range(5):
        kept = drawn(training(stereo_correct=True), photo, seed)
        swapped = drawn(training(stereo_correct=True, stereo_swap_prob=1.0), photo, seed)
        assert np.array_equal(swapped, kept[::-1]) and not np.array_equal(swapped, kept)


def test_views_are_swapped_about_as_often_as_asked():
    photo = np.concatenate([np.full((32, 32, 3), 50, np.uint8), np.full((32, 32, 3), 150, np.uint8)], axis=1)
    transform = training(aug_prob=0.0, stereo_swap_prob=0.3)
    swapped = sum(drawn(transform, photo, seed)[0, 0, 0, 0] == 150 for seed in range(300))
    assert 60 <= swapped <= 120


def test_views_of_a_square_grid_come_in_all_eight_orientations():
    view = blocks(seed=4)
    small = cv2.resize(view, (32, 32), interpolation=cv2.INTER_AREA)
    orientations = [np.rot90(side, turns) for side in (small, small[:, ::-1]) for turns in range(4)]
    transform = training(aug_prob=0.5)
    photo = np.concatenate([view, view], axis=1)
    found = [
        int(np.argmax([likeness(drawn(transform, photo, seed)[0], turned) for turned in orientations]))
        for seed in range(120)
    ]
    assert set(found) == set(range(8))


def test_views_of_an_oblong_grid_are_flipped_but_never_turned():
    view = blocks(height=32, width=96, seed=4)
    small = cv2.resize(view, (48, 16), interpolation=cv2.INTER_AREA)
    flips = [small, small[:, ::-1], small[::-1], small[::-1, ::-1]]
    transform, photo = training(OBLONG, aug_prob=0.5), np.concatenate([view, view], axis=1)
    best = []
    for seed in range(40):
        like = [likeness(drawn(transform, photo, seed)[0], flipped) for flipped in flips]
        best.append(int(np.argmax(like)))
    assert set(best) == {0, 1, 2, 3}


def test_flips_left_right_and_top_bottom_are_drawn_apart_from_each_other():
    corner = np.zeros((32, 96, 3), np.uint8)
    corner[:12, :36] = 160
    transform, photo = training(OBLONG, aug_prob=0.5), np.concatenate([corner, corner], axis=1)
    counts = np.zeros((2, 2), int)
    for seed in range(200):
        rows, columns = np.nonzero(drawn(transform, photo, seed)[0].mean(axis=2) > 60)
        counts[int(rows.mean() > 8), int(columns.mean() > 24)] += 1
    # Each of the four has a chance of a quarter: 50 of 200, give or take 6.
    assert counts.min() > 25 and counts.max() < 80


@pytest.mark.parametrize("geometry", [SQUARE, OBLONG])
def test_the_augmentation_library_knows_every_argument_it_is_given(geometry):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="not valid"):
            A.HorizontalFlip(always=True)  # the library only warns about what it does not know
        drawn(training(geometry, aug_prob=0.5, stereo_correct=True), twins(), 0)
