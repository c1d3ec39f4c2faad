"""Pairs of views: what they depend on, what they show of a photo, and how often each change is drawn."""

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from biomass_pl.data.base import TrainingPhotos
from biomass_pl.data.pairs import PairAugmentation, PairDataset, without_copies
from biomass_pl.data.photos import PhotoPaths
from biomass_pl.data.sampling import EpochSampler, shuffled
from biomass_pl.errors import ConfigError

SIDE = 32
NONE = PairAugmentation(crop_scale=(1.0, 1.0), flip_prob=0, jitter_prob=0, greyscale_prob=0, blur_prob=0)
"""No change but the crop, which keeps the whole of a square."""


def noise(height: int = 80, width: int = 80, seed: int = 0) -> np.ndarray:
    """A photo whose parts all look different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


class Photos:
    """Photos in memory; notes how large they were asked for."""

    def __init__(self, **photos: np.ndarray) -> None:
        self.photos = photos
        self.asked: set[tuple[int, int]] = set()

    def read(self, name: str, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
        self.asked.add(at_least)
        return self.photos[name]


def pairs(
    augmentation: PairAugmentation = PairAugmentation(),
    *,
    photos: Photos | None = None,
    grid: tuple[int, int] = (1, 1),
    seed: int = 1,
    files: tuple[Path, ...] = (),
) -> PairDataset:
    known = photos or Photos(a=noise(), b=noise(seed=1), c=noise(seed=2))
    training = TrainingPhotos(photos=known, names=list(known.photos), grid=grid, seed=seed)
    return PairDataset(training, augmentation=augmentation, tile_size=SIDE, files=files)


def drawn(augmentation: PairAugmentation, photo: np.ndarray, *, count: int = 200) -> np.ndarray:
    """Views of one photo, two per epoch (2 count, S, S, 3)."""
    dataset = pairs(augmentation, photos=Photos(a=photo))
    views = torch.cat([dataset[0, epoch]["tiles"] for epoch in range(count)])
    return views.permute(0, 2, 3, 1).numpy()


def assert_share(measured: float, expected: float, draws: int) -> None:
    """Within four standard errors."""
    assert measured == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))


# What a pair depends on


def test_an_item_is_two_unequal_views_of_its_photo():
    item = pairs()[1, 0]
    assert item["id"] == "b" and item["tiles"].shape == (2, 3, SIDE, SIDE) and item["tiles"].dtype == torch.uint8
    assert not torch.equal(item["tiles"][0], item["tiles"][1])


def test_the_same_key_gives_the_same_views_whatever_was_drawn_before():
    dataset, other = pairs(), pairs()
    expected = dataset[1, 3]["tiles"]
    for key in ((0, 0), (2, 3), (1, 2)):
        assert not torch.equal(other[key]["tiles"], expected)
    assert torch.equal(other[1, 3]["tiles"], expected) and torch.equal(dataset[1, 3]["tiles"], expected)


def test_another_seed_epoch_or_photo_is_another_pair():
    same = noise()
    dataset = pairs(photos=Photos(a=same, b=same))
    reference = dataset[0, 0]["tiles"]
    others = [dataset[0, 1], dataset[1, 0], pairs(photos=Photos(a=same), seed=2)[0, 0]]
    assert not any(torch.equal(item["tiles"], reference) for item in others)


def test_a_photo_is_the_same_pair_wherever_it_stands():
    first, second = noise(), noise(seed=1)
    pair = pairs(photos=Photos(a=first, b=second))[1, 0]
    assert torch.equal(pairs(photos=Photos(b=second, a=first))[0, 0]["tiles"], pair["tiles"])


def test_workers_draw_what_the_main_process_draws():
    def batches(workers: int) -> list[torch.Tensor]:
        sampler = EpochSampler(length=3, order=shuffled(3), seed=0, first_epoch=4)
        return [batch["tiles"] for batch in DataLoader(pairs(), 2, sampler=sampler, num_workers=workers)]

    assert all(torch.equal(*both) for both in zip(batches(0), batches(2), strict=True))


def test_nothing_outside_decides_what_is_drawn():
    np.random.seed(0)
    cv2.setRNGSeed(0)
    torch.manual_seed(0)
    expected = pairs()[0, 0]["tiles"]
    np.random.seed(1)
    cv2.setRNGSeed(1)
    torch.manual_seed(1)
    assert torch.equal(pairs()[0, 0]["tiles"], expected)


# What a view shows


def test_without_changes_a_view_is_the_photo_made_small():
    photo = noise(64, 64)
    views = drawn(NONE, photo, count=2)
    expected = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    assert (views == expected).all()


def test_both_views_show_the_same_part_of_a_grid():
    """2 x 4 parts of one colour each, of which every epoch draws one."""
    colours = np.arange(10, 90, 10, dtype=np.uint8).reshape(2, 4)
    photo = np.repeat(np.kron(colours, np.ones((40, 40), dtype=np.uint8))[..., None], 3, axis=2)
    known = Photos(a=photo)
    dataset = pairs(NONE, photos=known, grid=(2, 4))
    shown = [dataset[0, epoch]["tiles"].unique().tolist() for epoch in range(100)]
    assert all(len(values) == 1 for values in shown)
    assert {values[0] for values in shown} == set(colours.ravel().tolist())
    assert known.asked == {(2 * SIDE, 4 * SIDE)}


def test_a_photo_is_decoded_as_large_as_its_smallest_crop_needs():
    known = Photos(a=noise())
    pairs(PairAugmentation(crop_scale=(0.25, 1)), photos=known)[0, 0]
    assert known.asked == {(2 * SIDE, 2 * SIDE)}
    assert PairAugmentation().decode_size(224) == 501


def test_files_are_photos_too(tmp_path):
    for name, seed in (("x.png", 5), ("y.png", 6)):
        Image.fromarray(noise(64, 64, seed)).save(tmp_path / name)
    files = tmp_path / "x.png", tmp_path / "y.png"
    dataset = pairs(NONE, photos=Photos(a=noise(64, 64)), files=files)
    assert len(dataset) == 3 and dataset[2, 0]["id"] == str(files[1])
    expected = cv2.resize(noise(64, 64, 6), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    assert (dataset[2, 0]["tiles"].permute(0, 2, 3, 1).numpy() == expected).all()
    named = PairDataset(
        TrainingPhotos(photos=PhotoPaths({"y": files[1]}), names=["y"], grid=(1, 1), seed=0),
        augmentation=NONE,
        tile_size=SIDE,
    )
    assert torch.equal(named[0, 0]["tiles"], dataset[2, 0]["tiles"])


def test_copies_of_labelled_photos_are_left_out(tmp_path):
    for name, content in (("a", b"1"), ("copy", b"2"), ("b", b"3")):
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in ("a", "copy", "b")]
    whole = hashlib.sha256(b"2").hexdigest()
    for content in (whole, whole[:32]):
        assert without_copies(files, [content, "0" * 64]) == [files[0], files[2]]


# How often, how much


def test_the_settings_are_the_published_ones():
    chosen = PairAugmentation()
    assert (chosen.crop_scale, chosen.flip_prob, chosen.greyscale_prob) == ((0.2, 1), 0.5, 0.2)
    assert (chosen.brightness, chosen.contrast, chosen.saturation, chosen.hue) == (0.8, 0.8, 0.8, 0.2)
    assert (chosen.jitter_prob, chosen.jitter_strength) == (0.8, 1)
    assert (chosen.blur_prob, chosen.blur_sigma) == (0.5, (0.1, 2.0))


def changed(**settings) -> PairAugmentation:
    return PairAugmentation(**{**vars(NONE), **settings})


def test_half_the_views_are_flipped():
    photo = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    photo[:, SIDE // 2 :] = 200
    views = drawn(changed(flip_prob=0.5), photo)
    assert_share(float((views[:, 0, 0, 0] == 200).mean()), 0.5, len(views))
    assert not (drawn(NONE, photo)[:, 0, 0, 0] == 200).any()


def test_a_fifth_of_the_views_have_no_colour():
    views = drawn(changed(greyscale_prob=0.2), noise()).astype(int)
    assert_share(float(np.ptp(views, axis=3).max(axis=(1, 2)).__eq__(0).mean()), 0.2, len(views))


def test_four_fifths_of_the_views_change_colour_within_the_strengths():
    photo = np.full((SIDE, SIDE, 3), (90, 120, 60), dtype=np.uint8)
    views = drawn(changed(jitter_prob=0.8, contrast=0.0, saturation=0.0, hue=0.0), photo)
    brightness = views[:, 0, 0, 1] / 120
    assert_share(float((views[:, 0, 0] != photo[0, 0]).any(axis=1).mean()), 0.8, len(views))
    assert 0.19 < brightness.min() < 0.3 and 1.7 < brightness.max() < 1.81
    weaker = drawn(changed(jitter_prob=1, jitter_strength=0.25, contrast=0.0, saturation=0.0, hue=0.0), photo)
    assert 0.79 < weaker[:, 0, 0, 1].min() / 120 < weaker[:, 0, 0, 1].max() / 120 < 1.21


@pytest.mark.parametrize("strength", ["brightness", "contrast", "saturation", "hue"])
def test_every_strength_counts(strength):
    none = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    still = drawn(changed(jitter_prob=1, **none), noise(), count=3)
    moved = drawn(changed(jitter_prob=1, **{**none, strength: 0.2}), noise(), count=3)
    assert np.abs(still.astype(int) - drawn(NONE, noise(), count=3)).max() <= 2  # to another colour space and back
    assert np.abs(moved.astype(int) - still).max() > 5


def test_half_the_views_are_blurred_as_far_as_the_sigma_says():
    edge = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    edge[:, SIDE // 2 :] = 255
    views = drawn(changed(blur_prob=0.5, blur_sigma=(2.0, 2.0)), edge)
    blurred = (views != edge).any(axis=(1, 2, 3))
    assert_share(float(blurred.mean()), 0.5, len(views))
    # A tenth of 32 px, odd, is a kernel of 3 px: it reaches one pixel to each side of the edge.
    soft = views[blurred][0, 5, :, 0]
    assert ((soft > 0) & (soft < 255)).sum() == 2
    hardly = drawn(changed(blur_prob=1, blur_sigma=(0.1, 0.1)), edge, count=2)
    assert (hardly == edge).all()


def test_crops_keep_the_share_of_the_area_that_is_set():
    """A ramp whose range in a view tells its width: of a quarter of the area, half of it, or as the ratio says."""
    ramp = np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    views = drawn(changed(crop_scale=(0.25, 0.25)), ramp, count=100).astype(int)
    shares = np.ptp(views, axis=(1, 2, 3)) / 255
    assert math.sqrt(0.25 * 3 / 4) - 0.05 < shares.min() < 0.5 < shares.max() < math.sqrt(0.25 * 4 / 3) + 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_scale": (0.0, 1.0)}, "crop_scale is"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale is"),
        ({"crop_scale": (0.5, 1.2)}, "crop_scale is"),
        ({"blur_sigma": (0.0, 2.0)}, "blur_sigma is"),
        ({"blur_sigma": (2.0, 1.0)}, "blur_sigma is"),
        ({"flip_prob": 1.5}, "flip_prob is 1.5; give a probability"),
        ({"jitter_prob": -0.1}, "jitter_prob is -0.1; give a probability"),
        ({"contrast": -1.0}, "contrast is -1.0; give 0 or more"),
        ({"hue": 0.4, "jitter_strength": 2.0}, "more than half the circle of hues"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=rf"model\.pairs\..*{message}" if "circle" in message else message):
        PairAugmentation(**settings)
