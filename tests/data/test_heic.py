"""Photos of HEIC: read where the library is installed, named where it is not."""

import sys
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image, UnidentifiedImageError

from biomass_pl.data.heic import open_picture
from biomass_pl.data.photos import decode_photo, find_photos, read_photo
from biomass_pl.errors import DataError


@pytest.fixture
def heic(tmp_path):
    """A green photo of 64 x 32 pixels."""
    picture = pillow_heif.from_pillow(Image.new("RGB", (64, 32), (0, 200, 0)))
    picture.save(tmp_path / "photo.HEIC", quality=90)
    return tmp_path / "photo.HEIC"


@pytest.fixture
def without_library(monkeypatch):
    """As where pillow-heif was never installed, nor registered."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.init()
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])


@pytest.mark.parametrize("name", ["photo.HEIC", "photo.jpg"])
def test_a_heic_photo_is_read_whatever_it_is_called(heic, name):
    path = heic.rename(heic.with_name(name))
    pixels = read_photo(path)
    assert pixels.shape == (32, 64, 3)
    assert np.abs(pixels.reshape(-1, 3).mean(axis=0) - (0, 200, 0)).max() < 5
    assert np.array_equal(decode_photo(path.read_bytes(), "photo"), pixels)
    assert find_photos([path.parent]) == [path]


def test_without_the_library_the_message_has_the_word_and_the_command(heic, without_library):
    with pytest.raises(DataError, match=r"it is a HEIC photo.*pip install 'biomass-pl\[heic\]'"):
        read_photo(heic)


def test_a_heic_photo_that_is_cut_off_is_named(heic):
    heic.write_bytes(heic.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"photo.HEIC cannot be used"):
        read_photo(heic)


def test_what_is_no_picture_stays_none(tmp_path):
    with pytest.raises(UnidentifiedImageError):
        open_picture(BytesIO(b"\0\0\0\x18ftypqt  and so on"))
