"""Which photos are shown, and what is odd about their shapes."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.data.base import Truth
from biomass_pl.data.photos import PhotoPaths
from biomass_pl.harness import check_photos
from biomass_pl.harness.check_photos import draw_thumbnails, photo_shapes, warn_of_unusual_shapes


@pytest.fixture
def sheets(monkeypatch) -> list[list[str]]:
    """Captions of every sheet that is drawn."""
    found = []

    def keep(photos, path, *, title):
        found.append([caption for _, caption in photos])

    monkeypatch.setattr(check_photos, "photo_sheet", keep)
    return found


def photos_of(folder: Path, count: int) -> PhotoPaths:
    for number in range(count):
        Image.new("RGB", (8, 4)).save(folder / f"{number}.png")
    return PhotoPaths({str(number): folder / f"{number}.png" for number in range(count)})


def shown(folder: Path, sheets: list[list[str]], truth: Truth, **columns) -> list[list[str]]:
    """Lines of the captions of the photos that are shown."""
    items = pd.DataFrame({"image_id": [str(number) for number in range(len(next(iter(columns.values()))))], **columns})
    photos = photos_of(folder, len(items))
    data = SimpleNamespace(id_columns=("image_id",), item_noun="photo", truth=truth, photos=lambda: photos)
    assert draw_thumbnails(data, items, folder / "sheet.png") == len(sheets[-1])
    return [caption.splitlines() for caption in sheets[-1]]


def test_numbers_are_shown_from_the_least_to_the_greatest_evenly(tmp_path, sheets):
    values = np.random.default_rng(0).permutation(70).astype(float)
    captions = shown(tmp_path, sheets, Truth(kind="values", columns=("g",)), g=values)
    drawn = [float(line.split()[1]) for _, line in captions]
    assert drawn == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, 48, 51, 54, 57, 60, 63, 66, 69]
    assert all(values[int(name)] == value for (name, _), value in zip(captions, drawn, strict=True))


def test_several_numbers_count_alike_and_a_missing_one_not_at_all(tmp_path, sheets):
    columns = {"a": [30.0, np.nan, 10.0], "b": [0.1, 0.3, 0.2]}
    captions = shown(tmp_path, sheets, Truth(kind="values", columns=("a", "b")), **columns)
    assert captions == [["2", "a 10", "b 0.2"], ["0", "a 30", "b 0.1"], ["1", "a -", "b 0.3"]]


def test_a_rare_class_is_shown_beside_a_frequent_one(tmp_path, sheets):
    classes = ["common"] * 40 + ["rare"] * 3
    captions = shown(tmp_path, sheets, Truth(kind="classes", columns=("label",)), label=classes)
    assert [line for _, line in captions] == ["label common"] * 21 + ["label rare"] * 3


def test_a_photo_that_cannot_be_decoded_is_left_out(tmp_path, sheets):
    photos = photos_of(tmp_path, 3)
    photos.paths["1"].write_text("no picture")
    items = pd.DataFrame({"image_id": ["0", "1", "2"], "g": [1.0, 2.0, 3.0]})
    truth = Truth(kind="values", columns=("g",))
    data = SimpleNamespace(id_columns=("image_id",), item_noun="photo", truth=truth, photos=lambda: photos)
    assert draw_thumbnails(data, items, tmp_path / "sheet.png") == 2
    assert sheets == [["0\ng 1", "2\ng 3"]]


def test_shapes_are_those_of_upright_photos_that_can_be_opened(tmp_path):
    photos = photos_of(tmp_path, 3)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "0.png", exif=turned)
    photos.paths["1"].write_text("no picture")
    assert photo_shapes(photos, ["0", "1", "2"]) == {"0": (8, 4), "2": (4, 8)}


@pytest.mark.parametrize(
    ("widths", "unusual"),
    [
        ([200, 200, 200, 219], []),
        ([200, 200, 200, 221], ["3"]),
        ([200, 200, 200, 181], ["3"]),
        ([100, 200, 200, 200], ["0"]),
        ([100, 150, 200, 250], []),
    ],
    ids=["within a tenth", "wider", "narrower", "half", "all different"],
)
def test_photos_unlike_most_are_warned_of(widths, unusual, caplog):
    shapes = {str(number): (100, width) for number, width in enumerate(widths)}
    with caplog.at_level(logging.WARNING, logger="biomass_pl"):
        warn_of_unusual_shapes(shapes)
    expected = [
        f"{len(unusual)} of 4 photo(s) are of another shape than most, which are 2.00 times as wide as high: "
        f"{', '.join(unusual)}"
    ]
    assert [record.getMessage() for record in caplog.records] == (expected if unusual else [])
