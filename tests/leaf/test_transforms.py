"""What training changes about a leaf's photo, how much and how often; what validation leaves alone."""

import copy
import math
import pickle
import warnings
from typing import get_args

import albumentations as A  # noqa: N812
import numpy as np
import pytest
import torch

from biomass_pl.errors import ConfigError
from biomass_pl.leaf.transforms import (
    RandomOperations,
    Severity,
    change,
    change_with_bands,
    decode_size,
    plain_changes,
    training_changes,
)

SEVERITIES = get_args(Severity)
SIDE = 32
SMALLEST_CROP = {"light": 0.8, "moderate": 0.7, "aggressive": 0.6}
TURN = {"moderate": 25, "aggressive": 35}
KINDS = {
    "light": [A.RandomResizedCrop, A.HorizontalFlip],
    "moderate": [A.RandomResizedCrop, A.HorizontalFlip, A.Rotate, A.ColorJitter, A.GaussianBlur],
    "aggressive": [A.RandomResizedCrop, A.HorizontalFlip, A.Rotate, A.GridDistortion, A.ColorJitter, A.GaussianBlur,
                   RandomOperations, A.CoarseDropout],
}  # fmt: skip


def noise(height=SIDE, width=SIDE):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(value, side=SIDE):
    """The same colour everywhere: crops, flips, turns and blur do not show."""
    return np.broadcast_to(np.array(value, np.uint8), (side, side, 3))


def ramp(side):
    """Red is the column, green the row and blue nought, so that pixels tell where they came from."""
    photo = np.zeros((side, side, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(side)[None, :], np.arange(side)[:, None]
    return photo


def drawn(changes, photo, seed):
    return change(changes, photo, np.random.default_rng(seed))


def part(severity, kind, size=SIDE):
    """One of the changes of a severity, always applied."""
    (found,) = [step for step in training_changes(size, severity).transforms if isinstance(step, kind)]
    found.p = 1.0
    return A.Compose([found])


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (9, 7), (50, 80)])
def test_a_plain_picture_is_square_and_draws_nothing_that_shows(shape):
    one, other = (drawn(plain_changes(SIDE), noise(*shape), seed) for seed in (0, 1))
    assert one.shape == (SIDE, SIDE, 3) and one.dtype == np.uint8 and np.array_equal(one, other)


def test_a_plain_picture_shows_the_whole_photo():
    photo = np.zeros((60, 90, 3), np.uint8)
    photo[:, 45:, 0], photo[30:, :, 1] = 255, 255
    picture = drawn(plain_changes(30), photo, 0)
    assert (picture[:, :14, 0] == 0).all() and (picture[:, 16:, 0] == 255).all()
    assert (picture[:14, :, 1] == 0).all() and (picture[16:, :, 1] == 255).all()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (9, 7), (50, 80)])
def test_changed_pictures_are_square_bytes_of_the_size_asked_for(severity, shape):
    changes = training_changes(SIDE, severity)
    for seed in range(10):
        picture = drawn(changes, noise(*shape), seed)
        assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_change_depends_on_its_generator_alone_and_disturbs_no_other(severity):
    used, photo = training_changes(SIDE, severity), noise(40, 40)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [drawn(used, photo, seed) for seed in range(20)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = [drawn(pickle.loads(pickle.dumps(used)), photo, seed) for seed in reversed(range(20))]
    assert all(np.array_equal(one, other) for one, other in zip(first, reversed(again), strict=True))
    assert len({picture.tobytes() for picture in first}) == 20


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_photo_itself_is_never_written_to(severity):
    photo = noise()
    for seed in range(20):
        drawn(training_changes(SIDE, severity), photo, seed)
    assert np.array_equal(photo, noise())


@pytest.mark.parametrize("severity", SEVERITIES)
def test_each_severity_has_the_published_kinds_of_changes_and_those_of_the_one_before(severity):
    kinds = [type(step) for step in training_changes(SIDE, severity).transforms]
    assert kinds == KINDS[severity]
    milder = SEVERITIES[: SEVERITIES.index(severity)]
    assert all(set(KINDS[name]) <= set(kinds) for name in milder)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_crop_keeps_the_share_of_the_photo_that_its_severity_says(severity):
    size = 256
    first = A.Compose(training_changes(size, severity).transforms[:1])
    shares, ratios = [], []
    for seed in range(200):
        picture = drawn(first, ramp(size), seed).astype(int)
        width, height = np.ptp(picture[..., 0]) + 1, np.ptp(picture[..., 1]) + 1
        shares.append(width * height / size**2)
        ratios.append(width / height)
    smallest, rounding = SMALLEST_CROP[severity], 0.01  # two of 256 pixels
    assert smallest - rounding <= min(shares) <= smallest + 0.05 and 0.95 < max(shares) <= 1
    assert 3 / 4 - 2 * rounding <= min(ratios) and max(ratios) <= 4 / 3 + 2 * rounding


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [1, 224, 256])
def test_a_decoded_photo_has_pixels_enough_for_the_smallest_crop_and_hardly_more(severity, size):
    height, width = decode_size(size, severity)
    assert height == width
    assert size <= height * math.sqrt(SMALLEST_CROP[severity]) < size + 1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_half_of_the_photos_are_flipped_left_to_right(severity):
    flip = A.Compose(training_changes(SIDE, severity).transforms[1:2])
    seen = [drawn(flip, noise(), seed).tobytes() for seed in range(300)]
    assert set(seen) == {noise().tobytes(), noise()[:, ::-1].tobytes()}
    assert seen.count(noise().tobytes()) / 300 == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("severity", TURN)
def test_photos_are_turned_either_way_up_to_the_severitys_angle_and_borders_are_reflected(severity):
    side = 65
    photo = ramp(side)
    photo[..., 2] = 200
    turn = A.Compose([step for step in training_changes(side, severity).transforms if isinstance(step, A.Rotate)])
    angles = []
    for seed in range(200):
        picture = drawn(turn, photo, seed).astype(float)
        assert picture[..., 2].min() >= 199  # no black corner
        right = picture[32, 42] - picture[32, 22]  # where the line through the centre came from
        angles.append(math.degrees(math.atan2(right[1], right[0])))
    assert -TURN[severity] - 3 < min(angles) < -TURN[severity] + 3
    assert TURN[severity] - 3 < max(angles) < TURN[severity] + 3


def test_colours_of_moderate_changes_differ_by_a_fifth_and_hues_by_seven_degrees():
    jitter = part("moderate", A.ColorJitter)
    means = np.array([drawn(jitter, flat(120), seed).mean() for seed in range(200)])
    assert 0.8 * 120 - 1 <= means.min() < 100 and 140 < means.max() <= 1.2 * 120 + 1
    hues = []
    for seed in range(200):
        red, green, blue = drawn(jitter, flat((60, 180, 60)), seed)[0, 0].astype(float)  # 120 degrees
        hues.append(120 + 60 * (blue - red) / (green - min(red, blue)))
    # One grey level of the hundred between the channels is .6 degrees.
    assert 112 - 1 < min(hues) < 115 and 125 < max(hues) < 128 + 1


def changed_share(severity, kind, photo, draws=400):
    """How often one kind of change shows."""
    (found,) = [step for step in training_changes(len(photo), severity).transforms if isinstance(step, kind)]
    only = A.Compose([found])
    return sum(not np.array_equal(drawn(only, photo, seed), photo) for seed in range(draws)) / draws


@pytest.mark.parametrize(
    ("severity", "kind", "share"),
    [
        ("moderate", A.ColorJitter, 0.8),
        ("moderate", A.GaussianBlur, 0.25 * 1.15 / 1.4),  # a sigma below .35 or so changes no byte
        ("aggressive", A.GridDistortion, 0.3),
        ("aggressive", A.CoarseDropout, 0.5),
        ("aggressive", RandomOperations, 0.5 * (1 - 1 / 14**2)),  # one operation leaves all as it is
    ],
)
def test_changes_are_as_frequent_as_their_severity_says(severity, kind, share):
    # The standard deviation of a share in 400 draws is .025 at most.
    assert changed_share(severity, kind, noise()) == pytest.approx(share, abs=0.08)


def test_cutout_hides_one_rectangle_of_the_mean_colour():
    size = 100
    cutout = part("aggressive", A.CoarseDropout, size)
    heights = []
    for seed in range(100):
        hidden = (drawn(cutout, flat(7, size), seed) == (124, 116, 104)).all(axis=2)
        rows, columns = hidden.any(axis=1).sum(), hidden.any(axis=0).sum()
        assert hidden.sum() == rows * columns and min(rows, columns) >= 15 and max(rows, columns) <= 35
        heights.append(rows)
    assert min(heights) <= 17 and max(heights) >= 32


def test_grid_distortion_leaves_no_black_edges_and_keeps_the_corners():
    size = 60
    distortion = part("aggressive", A.GridDistortion, size)
    assert min(drawn(distortion, flat(200, size), seed).min() for seed in range(50)) >= 199
    corners = np.array([drawn(distortion, ramp(size), seed)[[0, -1], [0, -1], :2] for seed in range(50)], dtype=int)
    assert (corners[:, 0] <= 2).all() and (corners[:, 1] >= size - 3).all()


def test_random_operations_are_the_librarys_two_at_magnitude_nine():
    """The same seed gives the library's own picture; outside of the photo is its mean colour."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import RandAugment

    photo = noise()
    library = RandAugment(2, 9, interpolation=InterpolationMode.BILINEAR, fill=photo.mean(axis=(0, 1)).tolist())
    found = set()
    for seed in range(30):
        torch.manual_seed(seed)
        expected = library(torch.from_numpy(photo).permute(2, 0, 1)).permute(1, 2, 0).numpy()
        assert np.array_equal(RandomOperations().apply(photo, seed), expected)
        found.add(expected.tobytes())
    assert len(found) > 15


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("bands", [1, 4, 6])
def test_bands_are_moved_with_their_photo_which_looks_as_without_them(severity, bands):
    changes, photo = training_changes(SIDE, severity), noise(40, 50)
    registered = np.random.default_rng(1).random((40, 50, bands), dtype=np.float32)
    for seed in range(10):
        picture, moved = change_with_bands(changes, photo, registered, np.random.default_rng(seed))
        assert np.array_equal(picture, drawn(changes, photo, seed))
        assert moved.shape == (SIDE, SIDE, bands) and moved.dtype == np.float32
    picture, moved = change_with_bands(plain_changes(SIDE), photo, registered, np.random.default_rng(0))
    assert np.array_equal(picture, drawn(plain_changes(SIDE), photo, 0)) and moved.shape == (SIDE, SIDE, bands)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_bands_show_the_same_places_as_their_photo(severity):
    """Bands are the photo's own rows and columns: where pixels were only moved, both still agree."""
    size = 200
    changes = training_changes(size, severity)
    for step in changes.transforms:
        if isinstance(step, A.ColorJitter | A.GaussianBlur | A.CoarseDropout):
            step.p = 0
        elif isinstance(step, A.GridDistortion | RandomOperations):
            step.p = 1
    photo = ramp(size)
    moved_alike = 0
    for seed in range(60):
        picture, bands = change_with_bands(changes, photo, photo.astype(np.float32), np.random.default_rng(seed))
        assert (np.abs(bands - bands.round()) > 0.1).any()  # measured values between the pixels, not the nearest one's
        coloured = severity == "aggressive" and picture[..., 2].any()  # of what was nought
        if not coloured and np.abs(picture - bands).max() < 3:
            moved_alike += 1
    # Of RandAugment's two operations both are of the six that only move or do nothing in 6/14 x 6/14 of the draws.
    expected = 60 if severity != "aggressive" else 60 * (6 / 14) ** 2 / 2
    assert moved_alike >= expected


def test_operations_on_colours_leave_bands_as_they_are():
    """Bands in no order of their own: what moves them shows, and so would a change of values."""
    bands = np.random.default_rng(1).random((SIDE, SIDE, 5), dtype=np.float32)
    photo, operations = noise(), RandomOperations()
    unmoved = coloured_alone = 0
    for seed in range(60):
        moved = operations.apply_to_mask(bands, seed)
        if np.array_equal(moved, bands):
            unmoved += 1
            coloured_alone += not np.array_equal(operations.apply(photo, seed), photo)
        assert moved.min() >= bands.min() - 1e-6 and moved.max() <= bands.max() + 1e-6
    # Nine of fourteen operations move nothing.
    assert unmoved / 60 == pytest.approx((9 / 14) ** 2, abs=0.2) and coloured_alone > 10


def test_an_unknown_severity_is_refused():
    with pytest.raises(ConfigError, match=r"data\.severity is 'strong'; give light, moderate, aggressive"):
        training_changes(SIDE, "strong")


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_library_knows_all_arguments_and_warns_of_nothing(severity):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changes = copy.deepcopy(training_changes(SIDE, severity))
        for seed in range(40):
            drawn(changes, noise(), seed)
        drawn(plain_changes(SIDE), noise(), 0)
