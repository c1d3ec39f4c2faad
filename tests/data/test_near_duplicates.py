"""Near-identical photos: which changes leave a photo the same picture, which photos are not, and how groups form."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from biomass_pl.data import near_duplicates as module
from biomass_pl.data.near_duplicates import connected_groups, near_duplicates
from biomass_pl.data.photos import PhotoPaths
from biomass_pl.errors import DataError

COUNT = 12


def closest_originals(copies, originals):
    paths = {str(path): path for path in originals}
    return module.closest_originals(copies, PhotoPaths(paths), list(paths))


def picture(seed, height=150, width=200):
    """Smooth blobs of many sizes, as photos have them."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(cells, cells, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for cells in (4, 8, 16, 32)
    ]
    mixed = sum(layers)
    return np.clip(128 + 30 * mixed, 0, 255).astype(np.uint8)


def darker(photo):
    return (photo * 0.6).astype(np.uint8)


def cropped(photo):
    height, width = photo.shape[:2]
    return photo[: round(height * 0.95), width - round(width * 0.95) :]


def halved(photo):
    return cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def noisy(photo):
    return np.clip(photo + np.random.default_rng(9).normal(0, 12, photo.shape), 0, 255).astype(np.uint8)


def greyed(photo):
    return np.repeat(photo.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)


def save(photo, path, **options):
    Image.fromarray(np.ascontiguousarray(photo)).save(path, **options)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return [save(picture(seed), folder / f"{seed}.png") for seed in range(COUNT)]


def test_different_photos_are_not_alike(photos):
    assert near_duplicates(photos).shape == (0, 2)
    assert near_duplicates([]).shape == near_duplicates(photos[:1]).shape == (0, 2)


@pytest.mark.parametrize(
    "change", [darker, cropped, halved, noisy, greyed, np.array], ids=lambda change: change.__name__
)
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flipped", [False, True])
def test_changed_copies_are_found_in_all_flips_and_turns(photos, tmp_path, change, turns, flipped):
    copies = []
    for seed in (3, 7, 1):
        turned = np.rot90(change(picture(seed)), turns)
        copies.append(save(turned[:, ::-1] if flipped else turned, tmp_path / f"{seed}.jpg", quality=30))
    assert closest_originals(copies, photos).tolist() == [3, 7, 1]
    assert near_duplicates([*photos, *copies]).tolist() == [[1, COUNT + 2], [3, COUNT], [7, COUNT + 1]]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_exif_orientation_changes_nothing(photos, tmp_path, orientation):
    stored = Image.fromarray(picture(5))
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "copy.jpg", exif=exif)
    assert closest_originals([tmp_path / "copy.jpg"], photos).tolist() == [5]


def test_the_most_similar_original_is_the_closest(photos, tmp_path):
    blend = (0.85 * picture(2) + 0.15 * picture(4)).astype(np.uint8)
    nearly = save(blend, tmp_path / "nearly.png")
    copy = save(darker(picture(2)), tmp_path / "copy.png")
    assert near_duplicates([photos[2], nearly]).tolist() == [[0, 1]]
    for originals, closest in (([nearly, photos[2]], 1), ([photos[2], nearly], 0), ([nearly, photos[4]], 0)):
        assert closest_originals([copy], originals).tolist() == [closest]


def test_unknown_copies_have_no_original(photos, tmp_path):
    stranger = save(picture(99), tmp_path / "stranger.png")
    assert closest_originals([stranger, photos[0]], photos[:2]).tolist() == [-1, 0]
    assert closest_originals([], photos).shape == (0,)
    assert closest_originals([stranger], []).tolist() == [-1]


def test_the_same_shape_with_other_details_is_another_photo(tmp_path):
    """As two leaves of one plant: the same outline at the same place, but other veins and spots."""
    shape = cv2.GaussianBlur(
        cv2.ellipse(np.full((150, 200), 60, np.uint8), (100, 75), (70, 45), 20, 0, 360, 150, -1), (0, 0), 3
    )
    paths = []
    for seed in range(4):
        spots = picture(seed)[..., :1].astype(float) - 128
        paths.append(
            save(
                np.repeat(np.clip(shape[..., None] + 0.5 * spots, 0, 255), 3, axis=-1).astype(np.uint8),
                tmp_path / f"{seed}.png",
            )
        )
    assert near_duplicates(paths).shape == (0, 2)


def test_photos_with_nothing_on_them_are_like_none(photos, tmp_path):
    even = [save(np.full((40, 40, 3), level, np.uint8), tmp_path / f"{level}.png") for level in (0, 90, 91)]
    framed = np.full((64, 64, 3), 200, np.uint8)
    framed[:1] = framed[-1:] = 0
    even.append(save(framed, tmp_path / "framed.png"))
    assert near_duplicates([*even, *photos]).shape == (0, 2)


def test_all_broken_photos_are_named_at_once(photos, tmp_path):
    broken = [tmp_path / "empty.jpg", tmp_path / "text.jpg"]
    broken[0].touch()
    broken[1].write_text("no picture")
    with pytest.raises(DataError) as caught:
        near_duplicates([*photos, *broken])
    assert "2 photo(s) cannot be used" in str(caught.value)
    assert "empty.jpg: the file is empty" in str(caught.value) and "text.jpg: it is not a picture" in str(caught.value)


def test_what_is_connected_through_others_is_one_group():
    assert connected_groups(7, [(4, 1), (5, 6), (1, 6)]).tolist() == [0, 1, 2, 3, 1, 1, 1]
    assert connected_groups(3, []).tolist() == [0, 1, 2] and connected_groups(0, []).tolist() == []


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_groups_are_the_finest_that_keep_pairs_together(graph):
    count, pairs = graph
    sets = [{index} for index in range(count)]
    for first, second in pairs:
        merged = sets[first] | sets[second]
        for index in merged:
            sets[index] = merged
    groups = connected_groups(count, pairs)
    assert [{index for index in range(count) if groups[index] == groups[one]} for one in range(count)] == sets
    firsts = [list(groups).index(number) for number in range(groups.max() + 1)]
    assert firsts == sorted(firsts)
