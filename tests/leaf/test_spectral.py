"""Further bands of photos: found by name, read whatever their layout, refused if they do not fit."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from biomass_pl.errors import DataError
from biomass_pl.leaf.spectral import (
    band_files,
    band_statistics,
    broken_bands,
    find_bands,
    photo_size,
    read_bands,
    require_bands,
    resized_bands,
)
from tests.leaf.conftest import save

SIZE = (20, 30)


def bands_like(count=5, size=SIZE, seed=0):
    return np.random.default_rng(seed).random((*size, count), dtype=np.float32)


def npy(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def photo(path, size=SIZE):
    return save(np.zeros((*size, 3), np.uint8), path)


def refused(path, size=SIZE):
    with pytest.raises(DataError) as caught:
        read_bands(path, size)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("first", [True, False])
def test_arrays_are_read_with_the_bands_first_or_last(tmp_path, count, first):
    bands = bands_like(count)
    stored = bands.transpose(2, 0, 1) if first else bands
    read = read_bands(npy(tmp_path / "x.npy", stored), SIZE)
    assert read.dtype == np.float32 and np.array_equal(read, bands)
    if count == 1:
        assert np.array_equal(read_bands(npy(tmp_path / "y.npy", stored.squeeze()), SIZE), bands)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize(
    "layout",
    [{"planarconfig": "contig"}, {"planarconfig": "separate"}, {}, {"planarconfig": "contig", "compression": "zlib"}],
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiffs_are_read_with_samples_planes_or_pages(tmp_path, count, layout, kind):
    bands = (bands_like(count) * (200 if kind is not np.float32 else 1)).astype(kind)
    pages = bands.transpose(2, 0, 1)
    interleaved = layout.get("planarconfig") == "contig"
    tifffile.imwrite(tmp_path / "x.tif", bands if interleaved else pages, photometric="minisblack", **layout)
    largest = 1 if kind is np.float32 else np.iinfo(kind).max
    assert np.array_equal(read_bands(tmp_path / "x.tif", SIZE), bands / np.float32(largest))


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("u1", 255, 1),
        ("u1", 51, 0.2),
        ("u2", 65535, 1),
        ("i2", -32767, -1),
        ("f8", 7.5, 7.5),
        ("f2", -0.5, -0.5),
        ("u4", 2**32 - 1, 1),
    ],
)
def test_whole_numbers_are_shares_of_the_largest_of_their_kind(tmp_path, kind, value, read):
    found = read_bands(npy(tmp_path / "x.npy", np.full((2, *SIZE), value, dtype=kind)), SIZE)
    assert found.dtype == np.float32 and np.allclose(found, read, atol=1e-7)


@pytest.mark.parametrize("shape", [(4, 40, 60), (10, 15, 4), (4, 7, 10), (13, 20, 2)])
def test_another_resolution_of_the_same_proportions_is_read(tmp_path, shape):
    read = read_bands(npy(tmp_path / "x.npy", np.ones(shape, np.float32)), SIZE)
    assert read.shape == (*(shape[1:] if shape[0] == 4 else shape[:2]), min(shape))


@pytest.mark.parametrize("shape", [(4, 30, 20), (4, 20, 20), (2, 4, 20, 30), (20,), (4, 40, 63), (30, 20)])
def test_another_shape_is_refused_with_both_shapes(tmp_path, shape):
    message = refused(npy(tmp_path / "x.npy", np.ones(shape, np.float32)))
    assert f"of shape {' x '.join(map(str, shape))} do not fit their photo of 20 x 30 pixels" in message


def test_of_two_axes_that_fit_the_shorter_counts_bands(tmp_path):
    assert read_bands(npy(tmp_path / "x.npy", np.ones((3, 4, 5), np.float32)), (4, 5)).shape == (4, 5, 3)
    assert read_bands(npy(tmp_path / "x.npy", np.ones((8, 8, 2), np.float32)), (8, 8)).shape == (8, 8, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    bands = bands_like().astype(np.float64)
    bands[3, 4, 1] = value
    assert "hold values that are no numbers" in refused(npy(tmp_path / "x.npy", bands))


def test_files_that_hold_no_numbers_or_objects_are_refused_and_not_executed(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return Path.touch, (ran,)

    np.save(tmp_path / "object.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    assert "cannot be read" in refused(tmp_path / "object.npy") and not ran.exists()
    assert "of the kind 'bool'" in refused(npy(tmp_path / "bool.npy", np.ones(SIZE, bool)))
    assert "of the kind 'complex64'" in refused(npy(tmp_path / "complex.npy", np.ones(SIZE, np.complex64)))
    for name in ("empty.npy", "empty.tif", "none.npy", "none.tif"):
        if name.startswith("empty"):
            (tmp_path / name).touch()
        assert "cannot be read" in refused(tmp_path / name)
    (tmp_path / "text.tif").write_text("no bands")
    assert "cannot be read" in refused(tmp_path / "text.tif")
    whole = npy(tmp_path / "whole.npy", bands_like()).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-50])
    assert "cannot be read" in refused(tmp_path / "cut.npy")


def test_bands_have_the_path_of_the_photo_or_its_name_alone(tmp_path):
    assert find_bands(tmp_path, "a/1.jpg") is None
    flat = npy(tmp_path / "1.npy", [0])
    assert find_bands(tmp_path, "a/1.jpg") == flat and find_bands(tmp_path, "a/2.jpg") is None
    nested = tmp_path / "a" / "1.tif"
    nested.parent.mkdir()
    nested.touch()
    assert find_bands(tmp_path, "a/1.jpg") == nested and find_bands(tmp_path, "b/1.jpg") == flat
    dotted = npy(tmp_path / "a" / "x.y.npy", [0])
    assert find_bands(tmp_path, "a/x.y.png") == dotted and find_bands(tmp_path, "a/x.jpg") is None


def test_missing_bands_are_listed_in_one_message(tmp_path):
    npy(tmp_path / "a" / "1.npy", [0])
    with pytest.raises(DataError) as caught:
        band_files(tmp_path, ["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    assert "2 of 3 photos have no bands in" in str(caught.value)
    assert str(caught.value).splitlines()[1:] == ["  a/2.jpg", "  b/1.jpg"]
    with pytest.raises(DataError, match=r"does not exist. Correct data.spectral"):
        band_files(tmp_path / "none", ["a/1.jpg"])


def test_photos_of_one_name_may_not_share_bands(tmp_path):
    npy(tmp_path / "1.npy", [0])
    npy(tmp_path / "2.npy", [0])
    assert list(band_files(tmp_path, ["a/1.jpg", "a/2.jpg"])) == ["a/1.jpg", "a/2.jpg"]
    with pytest.raises(DataError) as caught:
        band_files(tmp_path, ["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    assert str(caught.value).splitlines()[1:] == ["  1.npy: a/1.jpg and b/1.jpg"]


def test_all_bands_that_cannot_be_used_are_told_and_another_number_than_usual(tmp_path):
    arrays = {
        "a": bands_like(3),
        "b": bands_like(2),
        "c": bands_like(3),
        "d": bands_like(3, (30, 20)),
        "e": bands_like(3),
    }
    files = {
        name: (photo(tmp_path / f"{name}.png"), npy(tmp_path / f"{name}.npy", array)) for name, array in arrays.items()
    }
    broken = broken_bands(files)
    assert sorted(broken) == ["b", "d"]
    assert broken["b"] == f"Bands {tmp_path / 'b.npy'} are 2, most others 3."
    assert "do not fit their photo" in broken["d"]
    with pytest.raises(DataError) as caught:
        require_bands(files)
    assert str(caught.value).startswith("Bands of 2 photo(s) cannot be used:\n  ")
    require_bands({name: files[name] for name in "ace"})
    require_bands({})


def test_statistics_are_those_of_all_pixels_each_photo_counting_the_same(tmp_path):
    large, small = bands_like(2, (40, 60), seed=1) * 3 + 1, bands_like(2, (20, 30), seed=2)
    files = [
        (photo(tmp_path / f"{name}.png", array.shape[:2]), npy(tmp_path / f"{name}.npy", array))
        for name, array in {"large": large, "small": small}.items()
    ]
    mean, deviation = band_statistics(files)
    pixels = np.concatenate([large.reshape(-1, 2), *4 * [small.reshape(-1, 2)]]).astype(np.float64)
    assert mean.dtype == deviation.dtype == np.float32 and mean.shape == deviation.shape == (2,)
    assert np.allclose(mean, pixels.mean(axis=0), rtol=1e-6)
    assert np.allclose(deviation, pixels.std(axis=0), rtol=1e-6)


def test_a_band_that_is_the_same_everywhere_is_refused(tmp_path):
    bands = bands_like(3)
    bands[..., 1] = 0.3
    files = [(photo(tmp_path / "x.png"), npy(tmp_path / "x.npy", bands))]
    with pytest.raises(DataError, match=r"Band 1 \(from 0\) is the same in all training photos"):
        band_statistics(files)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_of_a_photo_is_that_of_the_upright_one(tmp_path, orientation):
    stored = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.jpg", exif=exif)
    assert photo_size(tmp_path / "x.jpg") == ((30, 20) if orientation > 4 else (20, 30))


def test_the_size_of_no_photo_is_refused(tmp_path):
    (tmp_path / "x.jpg").write_text("no photo")
    with pytest.raises(DataError, match=r"x.jpg cannot be used"):
        photo_size(tmp_path / "x.jpg")


@given(st.integers(1, 9), st.sampled_from([(10, 15), (20, 30), (40, 60), (31, 47)]))
def test_resized_bands_keep_every_band_apart(count, size):
    levels = np.arange(1, count + 1, dtype=np.float32)
    resized = resized_bands(np.broadcast_to(levels, (*SIZE, count)).copy(), size)
    assert resized.shape == (*size, count) and resized.dtype == np.float32
    assert np.allclose(resized, levels, rtol=1e-6)


def test_bands_are_averaged_where_they_shrink(tmp_path):
    bands = np.zeros((4, 4, 1), np.float32)
    bands[::2, ::2] = 4
    assert np.array_equal(resized_bands(bands, (2, 2)), np.ones((2, 2, 1)))
