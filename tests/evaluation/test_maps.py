"""Files of maps: their numbers, names, sizes on the ground and colours."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from biomass_pl.evaluation.maps import MapLayers, _covered, file_stems, write_map

LAYERS = MapLayers(colours={"red": (255, 0, 0), "blue": (0, 0, 255)}, unit="g/m2", ground_mm=(700.0, 300.0))
PHOTO = np.full((100, 200, 3), 80, dtype=np.uint8)


def test_a_map_is_numbers_what_they_mean_and_a_picture(tmp_path):
    values = np.arange(2 * 3 * 7, dtype=np.float64).reshape(2, 3, 7)
    write_map(values, PHOTO, LAYERS, name="north/a $1$.jpg", path=tmp_path / "new" / "a.b")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.b.json", "a.b.npy", "a.b.png"]
    numbers = np.load(tmp_path / "new" / "a.b.npy", allow_pickle=False)
    assert numbers.dtype == np.float32 and np.array_equal(numbers, values)
    assert json.loads((tmp_path / "new" / "a.b.json").read_text()) == {
        "photo": "north/a $1$.jpg",
        "names": ["red", "blue"],
        "unit": "g/m2",
        "mm_per_pixel": {"across": 100.0, "down": 100.0},
    }
    with Image.open(tmp_path / "new" / "a.b.png") as picture:
        assert picture.width > 800


def test_an_upright_photo_shows_the_ground_upright(tmp_path):
    write_map(np.zeros((2, 7, 3)), PHOTO.swapaxes(0, 1), LAYERS, name="a", path=tmp_path / "a")
    about = json.loads((tmp_path / "a.json").read_text())
    assert about["mm_per_pixel"] == {"across": 100.0, "down": 100.0}


def test_what_was_there_is_replaced_and_no_other_file_is_left(tmp_path):
    for value in (1.0, 2.0):
        write_map(np.full((2, 1, 1), value), PHOTO, LAYERS, name="a", path=tmp_path / "a")
    assert np.load(tmp_path / "a.npy").tolist() == [[[2.0]], [[2.0]]]
    assert len(list(tmp_path.iterdir())) == 3


def test_colours_are_mixed_by_their_shares_over_a_grey_photo():
    shares = np.zeros((2, 1, 4))
    shares[:, 0] = [[0, 1, 0, 0.5], [0, 0, 1, 0.5]]
    photo = np.full((2, 8, 3), 100, dtype=np.uint8)
    covered = _covered(shares, photo, LAYERS)
    assert covered.shape == (2, 8, 3)
    expected = [[100, 100, 100], [216, 25, 25], [25, 25, 216], [121, 25, 121]]
    for column, colour in enumerate(expected):
        block = covered[:, 2 * column : 2 * column + 2].reshape(-1, 3)
        assert np.abs(block.astype(int) - colour).max() <= 1, column


def test_a_map_of_nothing_leaves_the_photo(tmp_path):
    write_map(np.zeros((2, 2, 2)), PHOTO, LAYERS, name="bare", path=tmp_path / "bare")
    assert (tmp_path / "bare.png").is_file()
    assert (_covered(np.zeros((2, 2, 2)), PHOTO, LAYERS) == 80).all()


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["ID123", "ID124"], ["ID123", "ID124"]),
        (["north/a.jpg", "south/b.JPG"], ["a", "b"]),
        (["../../etc/passwd", "C:\\photos\\x.png"], ["passwd", "x"]),
        (["käfer 1.jpg", ".hidden.jpg", ".."], ["k_fer_1", "hidden", "photo"]),
    ],
)
def test_a_photo_gives_its_files_a_plain_name(names, stems):
    assert file_stems(names) == stems


def test_photos_of_one_name_are_told_apart_whatever_their_order():
    names = ["north/a.jpg", "south/a.jpg", "south/A.png", "south/b.jpg"]
    found = dict(zip(names, file_stems(names), strict=True))
    assert found["south/b.jpg"] == "b" and len({stem.lower() for stem in found.values()}) == 4
    assert all(stem.lower().startswith("a-") for name, stem in found.items() if name != "south/b.jpg")
    again = dict(zip(names[::-1], file_stems(names[::-1]), strict=True))
    assert again == found


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.text(max_size=200), unique=True, max_size=5))
def test_no_name_leads_out_of_the_folder(names):
    stems = file_stems(names)
    assert len({stem.lower() for stem in stems}) == len(names)
    for stem in stems:
        assert stem and not stem.startswith((".", "-")) and len(stem) < 100
        assert all(letter.isascii() and (letter.isalnum() or letter in "_.-") for letter in stem)
