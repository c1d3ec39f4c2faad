"""Photos of every kind: converted where they can be read, named where they cannot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from biomass_pl.data.photos import check_photos, decode_photo, decoded_bytes, find_photos, read_photo, split_views
from biomass_pl.errors import DataError

ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 160, 30), (30, 30, 200), (230, 230, 230)


def corners(height=32, width=64):
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return pixels


def corner_colours(photo):
    """The colours a quarter of the way in from each corner: top left, top right, bottom left, bottom right."""
    rows, columns = photo.shape[0] // 4, photo.shape[1] // 4
    return np.array([photo[rows, columns], photo[rows, -columns], photo[-rows, columns], photo[-rows, -columns]])


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def refused(path):
    with pytest.raises(DataError) as caught:
        read_photo(path)
    message = str(caught.value)
    assert str(path) in message and "Replace or remove it" in message
    return message


def test_a_photo_is_rgb_with_rows_first(tmp_path):
    pixels = noise(7, 11)
    photo = read_photo(save(tmp_path / "a.png", pixels))
    assert photo.dtype == np.uint8 and np.array_equal(photo, pixels)


def test_a_grey_photo_has_three_equal_channels(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    photo = read_photo(save(tmp_path / "grey.png", pixels))
    assert np.array_equal(photo, np.stack([pixels] * 3, axis=2))


def test_a_cmyk_photo_shows_its_colours(tmp_path):
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    photo = read_photo(tmp_path / "cmyk.jpg")
    assert photo.shape == (32, 64, 3)
    assert np.abs(corner_colours(photo) - np.array([RED, GREEN, BLUE, WHITE])).max() < 12


def test_a_16_bit_photo_is_scaled_and_not_clipped(tmp_path):
    pixels = np.array([[0, 255, 256, 257], [32768, 40000, 65280, 65535]], np.uint16)
    photo = read_photo(save(tmp_path / "deep.png", pixels))
    assert photo.shape == (2, 4, 3)
    for channel in range(3):
        assert photo[..., channel].tolist() == [[0, 0, 1, 1], [128, 156, 255, 255]]


def test_a_16_bit_big_endian_tiff_is_scaled_too(tmp_path):
    pixels = Image.new("I;16B", (4, 2))
    pixels.frombytes(np.full((2, 4), 0x8000, ">u2").tobytes(), "raw", "I;16B")
    pixels.save(tmp_path / "deep.tif")
    assert (read_photo(tmp_path / "deep.tif") == 128).all()


def test_transparency_is_dropped_and_the_colour_below_it_stays(tmp_path):
    pixels = np.dstack([corners(), np.full((32, 64), 100, np.uint8)])
    assert np.array_equal(read_photo(save(tmp_path / "a.png", pixels)), corners())


def test_a_palette_photo_shows_its_colours(tmp_path):
    Image.fromarray(corners()).quantize(4).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
    assert np.abs(read_photo(tmp_path / "a.png").astype(int) - corners()).max() < 8


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright, 1)),
        (7, lambda upright: upright[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
@pytest.mark.parametrize("at_least", [(0, 0), (32, 64), (16, 32)], ids=["full", "as large", "half"])
def test_a_turned_photo_comes_out_upright_at_every_scale(tmp_path, orientation, turned, at_least):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(turned(corners()))
    photo = read_photo(save(tmp_path / "a.jpg", stored, quality=95, exif=exif), at_least=at_least)
    assert photo.shape == ((16, 32, 3) if at_least == (16, 32) else (32, 64, 3))
    assert np.abs(corner_colours(photo) - np.array([RED, GREEN, BLUE, WHITE])).max() < 12


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    wanted=st.tuples(st.integers(0, 80), st.integers(0, 80)),
    orientation=st.integers(1, 8),
)
def test_a_reduced_photo_is_never_smaller_than_asked_where_it_can_be(
    tmp_path_factory, height, width, wanted, orientation
):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path_factory.mktemp("scale") / "a.jpg", noise(height, width), exif=exif)
    full, reduced = read_photo(path), read_photo(path, at_least=wanted)
    for side in (0, 1):
        assert min(wanted[side], full.shape[side]) <= reduced.shape[side] <= full.shape[side]
    if wanted[0] > full.shape[0] or wanted[1] > full.shape[1] or 0 in wanted:
        assert np.array_equal(full, reduced)


def test_a_large_photo_is_decoded_at_the_smallest_scale_that_suffices(tmp_path):
    path = save(tmp_path / "a.jpg", noise(160, 320))
    shapes = [
        read_photo(path, at_least=wanted).shape[:2] for wanted in [(81, 160), (80, 160), (40, 41), (20, 40), (1, 1)]
    ]
    assert shapes == [(160, 320), (80, 160), (40, 80), (20, 40), (20, 40)]


def test_a_picture_without_scales_of_its_own_keeps_its_size(tmp_path):
    assert read_photo(save(tmp_path / "a.png", noise(32, 64)), at_least=(4, 8)).shape == (32, 64, 3)


@pytest.mark.parametrize("at_least", [(0, 0), (16, 32), (5, 5)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_bytes_are_decoded_as_their_file_is(tmp_path, suffix, at_least):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / f"a.{suffix}", corners(), exif=exif)
    photo = decode_photo(path.read_bytes(), "a", at_least=at_least)
    assert np.array_equal(photo, read_photo(path, at_least=at_least)) and photo.shape[0] == 2 * photo.shape[1]


@pytest.mark.parametrize(
    ("kept", "reason"), [(0, "it is empty"), (3, "it is not a picture"), (700, "truncated"), (-20, "truncated")]
)
@pytest.mark.parametrize("at_least", [(0, 0), (1, 1)], ids=["full", "smallest"])
def test_bytes_that_are_no_whole_picture_are_named(tmp_path, kept, reason, at_least):
    content = save(tmp_path / "a.jpg", noise(16, 32)).read_bytes()
    assert len(content) > 800
    with pytest.raises(DataError) as caught:
        decode_photo(content[:kept], "lesion 7 in a.hdf5", at_least=at_least)
    message = str(caught.value)
    assert message.startswith("Photo lesion 7 in a.hdf5 cannot be used: ") and message.endswith(". Replace it.")
    assert reason in message


def test_a_missing_photo_is_named(tmp_path):
    assert "the file does not exist" in refused(tmp_path / "none.jpg")


def test_an_empty_photo_is_named(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert "the file is empty" in refused(tmp_path / "a.jpg")


def test_a_folder_is_no_photo(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    assert "it is a folder" in refused(tmp_path / "a.jpg")


def test_a_text_file_is_no_picture_whatever_its_name(tmp_path):
    (tmp_path / "a.jpg").write_text("not a picture")
    assert "it is not a picture" in refused(tmp_path / "a.jpg")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("name", "options"), [("a.jpg", {}), ("b.jpg", {"progressive": True}), ("c.png", {})])
def test_a_truncated_photo_is_found_by_reading_and_by_checking(tmp_path, name, options, kept):
    path = save(tmp_path / name, noise(64, 128), **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert "truncated" in refused(path)
    with pytest.raises(DataError, match="truncated"):
        check_photos([path])


def test_a_png_with_broken_pixels_is_refused(tmp_path):
    path = save(tmp_path / "a.png", noise(64, 128))
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 20
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    refused(path)


def test_a_png_with_a_broken_second_part_is_refused(tmp_path):
    path = save(tmp_path / "a.png", noise(256, 512))
    content = bytearray(path.read_bytes())
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second : second + 4] = bytes(4)
    path.write_bytes(content)
    assert "broken PNG file" in refused(path)


def test_a_png_with_a_broken_header_is_refused(tmp_path):
    path = save(tmp_path / "a.png", noise(8, 8))
    content = bytearray(path.read_bytes())
    content[content.index(b"IHDR") + 6] ^= 0xFF
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1)])
def test_a_photo_of_one_pixel_has_no_two_halves(tmp_path, shape):
    path = save(tmp_path / "a.png", noise(*shape))
    assert f"it is only {shape[1]} x {shape[0]} pixels" in refused(path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_scale_are_refused(tmp_path, mode):
    Image.new(mode, (8, 8)).save(tmp_path / "a.tif")
    assert f"its pixels are of the kind '{mode}', not 8 or 16 bits" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damage_anywhere_is_a_data_error_or_a_photo_and_nothing_else(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(16, 24))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(min(len(whole), 300), size=3)] = rng.integers(256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            photo = read_photo(path, at_least=(4, 4))
        except DataError:
            refusals += 1
        else:
            assert photo.dtype == np.uint8 and photo.size == decoded_bytes(path, at_least=(4, 4)) > 0
    assert refusals > 0 and (refusals < 60) == (suffix != "png")  # whose checksums find everything


def test_checking_names_all_unreadable_photos_at_once_and_no_other(tmp_path):
    good = [save(tmp_path / f"good{n}.jpg", noise(16, 32)) for n in range(3)]
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "empty.jpg").touch()
    bad = [tmp_path / "text.jpg", tmp_path / "none.jpg", tmp_path / "empty.jpg"]
    with pytest.raises(DataError) as caught:
        check_photos([good[0], bad[0], good[1], bad[1], bad[2], good[2]])
    assert str(caught.value).splitlines() == [
        "3 photo(s) cannot be used; replace them or remove their rows:",
        f"  {bad[0]}: it is not a picture",
        f"  {bad[1]}: the file does not exist",
        f"  {bad[2]}: the file is empty",
    ]


def test_a_very_long_list_of_unreadable_photos_is_cut_and_counted(tmp_path):
    with pytest.raises(DataError) as caught:
        check_photos(tmp_path / f"{n}.jpg" for n in range(53))
    assert "53 photo(s)" in str(caught.value) and "... and 3 more" in str(caught.value)


@pytest.mark.parametrize("size", [(2, 2), (8, 8), (16, 8), (9, 200)])
def test_checking_accepts_every_photo_that_reading_accepts(tmp_path, size):
    path = save(tmp_path / "a.jpg", noise(*size))
    assert read_photo(path).shape[:2] == size
    check_photos([path])


def test_folders_are_searched_through_by_name_and_files_kept_where_named(tmp_path):
    folder = tmp_path / "paddock"
    (folder / "deeper").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name in ("b.JPG", "a.png", "e.tiff", "notes.txt", "deeper/d.jpg", ".hidden.jpg", ".cache/f.jpg"):
        (folder / name).touch()
    single = tmp_path / "photo.raw"
    single.touch()
    found = [folder / "a.png", folder / "b.JPG", folder / "deeper" / "d.jpg", folder / "e.tiff"]
    assert find_photos([folder]) == found
    assert find_photos([single, folder]) == [single, *found]


def test_a_photo_named_twice_is_found_once(tmp_path):
    (tmp_path / "b.jpg").touch()
    (tmp_path / "a.jpg").touch()
    assert find_photos([tmp_path / "b.jpg", tmp_path]) == [tmp_path / "b.jpg", tmp_path / "a.jpg"]


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist. Name photos or folders of photos"):
        find_photos([tmp_path / "none"])


def test_a_folder_without_photos_is_named_with_the_kinds_searched_for(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError) as caught:
        find_photos([tmp_path])
    assert f"Folder {tmp_path} holds no photo" in str(caught.value) and ".jpg" in str(caught.value)


@pytest.mark.parametrize(
    ("width", "left", "right"), [(6, [0, 1, 2], [3, 4, 5]), (7, [0, 1, 2], [4, 5, 6]), (2, [0], [1])]
)
def test_views_are_equal_halves_and_an_odd_middle_column_is_left_out(width, left, right):
    photo = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (4, width, 3))
    views = split_views(photo)
    assert [view[0, :, 0].tolist() for view in views] == [left, right]
    assert all(view.shape == (4, len(left), 3) for view in views)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    wanted=st.tuples(st.integers(0, 80), st.integers(0, 80)),
    orientation=st.integers(1, 8),
    suffix=st.sampled_from(["jpg", "png", "tif", "webp"]),
)
def test_the_decoded_size_is_known_before_decoding(tmp_path_factory, height, width, wanted, orientation, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path_factory.mktemp("size") / f"a.{suffix}", noise(height, width), exif=exif)
    assert decoded_bytes(path, at_least=wanted) == read_photo(path, at_least=wanted).nbytes


def test_the_size_of_a_grey_photo_is_that_of_its_three_channels(tmp_path):
    assert decoded_bytes(save(tmp_path / "grey.png", np.zeros((6, 8), np.uint8))) == 6 * 8 * 3


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_the_size_of_what_is_no_picture_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.jpg cannot be used"):
        decoded_bytes(path)
