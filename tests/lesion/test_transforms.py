"""What training changes about a lesion's photo, how much and how often; what validation leaves alone."""

import math
import warnings
from typing import get_args

import albumentations as A  # noqa: N812
import numpy as np
import pytest

from biomass_pl.lesion.transforms import Augmentation, change, decode_size, plain_changes, training_changes

LEVELS = get_args(Augmentation)
SIDE = 32
SMALLEST_CROP = {"light": 1.0, "medium": 0.8, "heavy": 0.7}


def noise(height=SIDE, width=SIDE):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(value, side=SIDE):
    """The same colour everywhere: crops, flips, turns and blur do not show."""
    return np.broadcast_to(np.array(value, np.uint8), (side, side, 3))


def drawn(changes, photo, seed):
    return change(changes, photo, np.random.default_rng(seed))


def part(level, kind):
    """One of the changes of a level, always applied."""
    (found,) = [step for step in training_changes(SIDE, level).transforms if isinstance(step, kind)]
    found.p = 1.0
    return A.Compose([found])


def symmetries(picture):
    """The picture turned and flipped in all eight ways."""
    turned = [np.rot90(picture, quarter) for quarter in range(4)]
    return [view.tobytes() for view in (*turned, *(np.flip(view, 1) for view in turned))]


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (9, 7), (50, 80)])
def test_a_plain_picture_is_square_and_draws_nothing_that_shows(shape):
    photo = noise(*shape)
    one, other = (drawn(plain_changes(SIDE), photo, seed) for seed in (0, 1))
    assert one.shape == (SIDE, SIDE, 3) and one.dtype == np.uint8 and np.array_equal(one, other)


def test_a_plain_picture_of_the_right_size_is_unchanged():
    assert np.array_equal(drawn(plain_changes(SIDE), noise(), 0), noise())


def test_a_plain_picture_shows_the_whole_photo():
    photo = np.zeros((60, 90, 3), np.uint8)
    photo[:, 45:, 0], photo[30:, :, 1] = 255, 255
    picture = drawn(plain_changes(30), photo, 0)
    assert (picture[:, :14, 0] == 0).all() and (picture[:, 16:, 0] == 255).all()
    assert (picture[:14, :, 1] == 0).all() and (picture[16:, :, 1] == 255).all()
    assert (picture[..., 2] == 0).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (9, 7), (50, 80)])
def test_changed_pictures_are_square_bytes_of_the_size_asked_for(level, shape):
    changes = training_changes(SIDE, level)
    for seed in range(10):
        picture = drawn(changes, noise(*shape), seed)
        assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("level", LEVELS)
def test_a_change_depends_on_its_generator_alone(level):
    used, photo = training_changes(SIDE, level), noise(40, 40)
    first = [drawn(used, photo, seed) for seed in range(20)]
    again = [drawn(training_changes(SIDE, level), photo, seed) for seed in reversed(range(20))]
    assert all(np.array_equal(one, other) for one, other in zip(first, reversed(again), strict=True))
    assert len({picture.tobytes() for picture in first}) > 4


@pytest.mark.parametrize("level", LEVELS)
def test_the_photo_itself_is_never_written_to(level):
    photo = noise()
    for seed in range(20):
        drawn(training_changes(SIDE, level), photo, seed)
    assert np.array_equal(photo, noise())


def test_light_changes_turn_and_flip_in_all_eight_ways_and_change_no_pixel():
    changes, views = training_changes(SIDE, "light"), symmetries(noise())
    seen = [drawn(changes, noise(), seed).tobytes() for seed in range(300)]
    assert set(seen) == set(views) and len(set(views)) == 8
    # Half of the draws turn, half of these by 90 or 270 degrees: 1/4 of all is spread over four ways, 3/4 over the
    # other four. The standard deviation of a share in 300 draws is 0.023 at most.
    shares = [seen.count(view) / len(seen) for view in views]
    expected = [3 / 16, 1 / 16, 3 / 16, 1 / 16] * 2
    assert shares == pytest.approx(expected, abs=0.09)


@pytest.mark.parametrize("level", LEVELS)
def test_a_crop_keeps_the_share_of_the_photo_that_its_level_says(level):
    """Red is the column and green the row, so that the corners tell what was kept."""
    size = 256
    photo = np.zeros((size, size, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(size)[None, :], np.arange(size)[:, None]
    first = A.Compose(training_changes(size, level).transforms[:1])
    shares, ratios = [], []
    for seed in range(200):
        picture = drawn(first, photo, seed).astype(int)
        width, height = np.ptp(picture[..., 0]) + 1, np.ptp(picture[..., 1]) + 1
        shares.append(width * height / size**2)
        ratios.append(width / height)
    smallest = SMALLEST_CROP[level]
    stretch = {"light": 1.0, "medium": 1.1, "heavy": 1.25}[level]
    rounding = 0.01  # two of 256 pixels
    assert smallest - rounding <= min(shares) <= smallest + 0.05 and max(shares) <= 1
    assert 1 / stretch - 2 * rounding <= min(ratios) and max(ratios) <= stretch + 2 * rounding


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [1, 224, 336])
def test_a_decoded_photo_has_pixels_enough_for_the_smallest_crop_and_hardly_more(level, size):
    height, width = decode_size(size, level)
    assert height == width
    assert size <= height * math.sqrt(SMALLEST_CROP[level]) < size + 1


@pytest.mark.parametrize(("level", "often"), [("medium", 0.3), ("heavy", 0.5 / 3)])
def test_noise_is_as_frequent_as_its_level_says(level, often):
    """Of a flat picture only noise makes pixels that differ; heavy changes choose among three half the time."""
    changes, draws = training_changes(SIDE, level), 600
    noisy = sum(np.ptp(drawn(changes, flat(128), seed)[..., 0]) > 0 for seed in range(draws))
    assert noisy / draws == pytest.approx(often, abs=0.05)  # 0.019 is the standard deviation at 0.3


def test_the_noise_of_medium_changes_has_a_variance_between_10_and_50():
    forced = part("medium", A.GaussNoise)
    side = 64
    spreads = [(drawn(forced, flat(128, side), seed).astype(float) - 128).std() for seed in range(100)]

    def cut_off(variance):
        """Noise is cut off to whole grey levels, towards zero: half a level less on average, and 1/12 by the steps."""
        return math.sqrt(variance - math.sqrt(2 * variance / math.pi) + 1 / 4 + 1 / 12)

    # A spread estimated from 64 x 64 x 3 values varies by 0.6 %.
    assert cut_off(10) * 0.97 < min(spreads) < 3.1
    assert 6.3 < max(spreads) < cut_off(50) * 1.03


def test_medium_changes_shift_colours_by_a_fifth_at_most():
    changes = training_changes(SIDE, "medium")
    means = np.array([drawn(changes, flat(120), seed).mean(axis=(0, 1)) for seed in range(200)])
    # Of grey, saturation and hue show nothing, and contrast is about its own mean: brightness by 0.8 to 1.2 is left,
    # or a value shifted by 20. One grey level is rounding and the mean of the noise.
    assert means.min() >= 0.8 * 120 - 1 and means.max() <= 1.2 * 120 + 1
    assert means.min() < 110 and means.max() > 130
    unchanged = (np.abs(means - 120) < 1).all(axis=1).mean()
    assert unchanged == pytest.approx(0.5, abs=0.15)


def test_heavy_changes_bring_no_black_edges():
    changes = training_changes(SIDE, "heavy")
    assert min(drawn(changes, flat(200), seed).min() for seed in range(300)) > 100


@pytest.mark.parametrize("level", LEVELS)
def test_the_library_knows_all_arguments_and_warns_of_nothing(level):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changes = training_changes(SIDE, level)
        for seed in range(40):
            drawn(changes, noise(), seed)
        drawn(plain_changes(SIDE), noise(), 0)
