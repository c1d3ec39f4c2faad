"""Shapes of photos: as they are seen, and which are unlike the known ones."""

import logging

import pytest
from PIL import Image

from biomass_pl.data.photo_shapes import aspect_ratio, aspect_ratios, warn_of_shapes


def photo(tmp_path, name, width, height, *, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(tmp_path / name, exif=exif)
    return tmp_path / name


def test_the_shape_is_that_of_the_upright_photo(tmp_path):
    assert aspect_ratio(photo(tmp_path, "a.jpg", 40, 20)) == 2
    assert aspect_ratio(photo(tmp_path, "b.jpg", 40, 20, orientation=6)) == 0.5


def test_only_photos_beyond_a_tenth_of_the_known_shapes_are_warned_of_with_their_count(tmp_path, caplog):
    known = aspect_ratios([photo(tmp_path, "a.jpg", 200, 100), photo(tmp_path, "b.jpg", 220, 100)])
    assert known == (2.0, 2.2)
    alike = [photo(tmp_path, f"{width}.jpg", width, 100) for width in (182, 200, 242)]
    with caplog.at_level(logging.WARNING):
        warn_of_shapes(alike, known)
        warn_of_shapes([photo(tmp_path, "c.jpg", 75, 100)], None)
    assert caplog.records == []
    unlike = [photo(tmp_path, f"{width}.jpg", width, 100) for width in (181, 243, 75, 100)]
    warn_of_shapes([*alike, *unlike], known)
    (record,) = caplog.records
    assert record.message.startswith(
        "4 of 7 photo(s) are of another shape than the training photos, which are 2.00 to 2.20 times as wide as high: "
    )
    assert str(unlike[2]) in record.message and str(unlike[3]) not in record.message


@pytest.mark.parametrize("width", [200, 201])
def test_shapes_that_are_one_are_told_once(tmp_path, caplog, width):
    warn_of_shapes([photo(tmp_path, "a.jpg", 10, 10)], (2.0, width / 100))
    assert ("which are 2.00 times" in caplog.text) == (width == 200)
