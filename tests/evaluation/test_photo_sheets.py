"""Sheets of thumbnails."""

import numpy as np
import pytest
from PIL import Image

from biomass_pl.evaluation.photo_sheets import photo_sheet, thumbnail

RED, BLUE = (255, 0, 0), (0, 0, 255)


def flat(colour: tuple[int, int, int], height: int = 40, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(picture.astype(int) - colour).max(axis=2) < 30).mean())


def test_every_photo_is_on_the_sheet_row_by_row(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    photo_sheet([(flat(RED), "a")] * 6 + [(flat(BLUE), "b")] * 6, path, title="twelve")
    sheet = np.asarray(Image.open(path).convert("RGB"))
    upper, lower = np.array_split(sheet, 2)
    assert share(upper, RED) > 0.3 and share(upper, BLUE) == 0
    assert share(lower, BLUE) > 0.3 and share(lower, RED) == 0


def test_captions_and_title_are_written_and_dollars_are_no_formula(tmp_path):
    found = []
    for caption, title in (("", ""), ("grams $1 $x^2", ""), ("", "what $is$ this")):
        photo_sheet([(flat((255, 255, 255)), caption)], tmp_path / "sheet.png", title=title)
        found.append(np.asarray(Image.open(tmp_path / "sheet.png").convert("L")))
    dark = [int((picture < 80).sum() - (found[0] < 80).sum()) for picture in found]
    assert dark[1] > 30 and dark[2] > 30


def test_tall_photos_have_higher_rows(tmp_path):
    heights = []
    for photo in (flat(RED, 40, 80), flat(RED, 160, 80)):
        photo_sheet([(photo, "a")], tmp_path / "sheet.png", title="")
        heights.append(Image.open(tmp_path / "sheet.png").height)
    assert heights[1] > 2 * heights[0]


@pytest.mark.parametrize(
    ("shape", "expected"), [((1000, 500), (256, 128)), ((100, 200), (100, 200)), ((2, 4000), (1, 256))]
)
def test_thumbnails_keep_their_shape_and_small_photos_stay(shape, expected):
    assert thumbnail(flat(RED, *shape)).shape == (*expected, 3)
