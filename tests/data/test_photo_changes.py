"""What training changes at random in photos that are cut into tiles."""

import warnings

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import pytest

from biomass_pl.data.photo_changes import AugmentationConfig, TrainingTransform
from biomass_pl.data.tiles import HalvesGeometry, PlainTransform, WholeGeometry
from tests.data.test_tiles import OBLONG, SQUARE, blocks, drawn, twins


def training(geometry=SQUARE, *, aug_prob=1.0, stereo_correct=False, stereo_swap_prob=0.0):
    config = AugmentationConfig(aug_prob=aug_prob, stereo_correct=stereo_correct, stereo_swap_prob=stereo_swap_prob)
    return TrainingTransform(geometry=geometry, config=config)


def likeness(one, other):
    """Correlation of two pictures; brightness and contrast do not change it, geometry does."""
    return float(np.corrcoef(one.mean(axis=2).ravel(), other.mean(axis=2).ravel())[0, 1])


@pytest.mark.parametrize("geometry", [SQUARE, OBLONG])
@pytest.mark.parametrize("shape", [(64, 128), (61, 131), (20, 40)])
def test_without_changes_training_views_are_the_plain_ones(geometry, shape):
    photo = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    plain = drawn(PlainTransform(geometry=geometry), photo, 0)
    for seed in range(5):
        assert np.array_equal(drawn(training(geometry, aug_prob=0.0, stereo_correct=True), photo, seed), plain)


@pytest.mark.parametrize("stereo_correct", [False, True])
@pytest.mark.parametrize("geometry", [SQUARE, OBLONG, HalvesGeometry(grid=(3, 1), tile_size=8)])
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


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (64, 64)])
def test_whole_photos_of_any_shape_are_changed_in_their_own_shape(shape):
    geometry = WholeGeometry(grid=(2, 3), tile_size=16)
    plain = drawn(PlainTransform(geometry=geometry), blocks(*shape), 0)
    assert np.array_equal(drawn(training(geometry, aug_prob=0.0), blocks(*shape), 3), plain)
    transform = training(geometry)
    changed = [drawn(transform, blocks(*shape), seed) for seed in range(8)]
    assert all(views.shape == plain.shape and views.dtype == np.uint8 for views in changed)
    assert len({views.tobytes() for views in changed}) == 8


def test_a_random_crop_of_a_whole_photo_keeps_its_proportions():
    """A circle stays one, but for a tenth and the small affine change."""
    photo = cv2.circle(np.full((120, 240, 3), 40, np.uint8), (120, 60), 40, (200, 200, 200), -1)
    transform = training(WholeGeometry(grid=(1, 2), tile_size=60))
    for seed in range(20):
        (view,) = drawn(transform, photo, seed)
        rows, columns = np.nonzero(view.mean(axis=2) > 110)
        assert 0.75 < np.ptp(columns) / np.ptp(rows) < 1.33
