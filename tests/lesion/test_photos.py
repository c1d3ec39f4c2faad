"""Photos of lesions in an HDF5 file or a folder: the same pictures, and what is told of those that are not there."""

import pickle
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from biomass_pl.data.hdf5_file import Hdf5File
from biomass_pl.errors import DataError
from biomass_pl.lesion.photos import (
    FolderPhotos,
    Hdf5Photos,
    PhotoFiles,
    broken_in,
    check_store,
    contents_of,
    open_photos,
)

NAMES = ["ISIC_1", "ISIC_2", "ISIC_3"]
SIZES = {"ISIC_1": (16, 16), "ISIC_2": (40, 40), "ISIC_3": (33, 47)}


def hdf5_photos(path: Path) -> Hdf5Photos:
    return Hdf5Photos(Hdf5File(path))


def jpeg(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


JPEGS = {name: jpeg(*size, seed) for seed, (name, size) in enumerate(SIZES.items())}


def pack(path, contents, kind=np.void):
    with h5py.File(path, "w") as file:
        for name, content in contents.items():
            file[name] = kind(content)
    return path


def unpack(folder, contents):
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


def refused(store, name):
    with pytest.raises(DataError) as caught:
        store.read(name)
    return str(caught.value)


def problems(store, names):
    with pytest.raises(DataError) as caught:
        check_store(store, names)
    return str(caught.value)


@pytest.fixture(params=["hdf5", "folder"])
def stored(request, tmp_path):
    """Puts JPEG bytes under names and opens them."""

    def store(contents):
        if request.param == "hdf5":
            return hdf5_photos(pack(tmp_path / "train-image.hdf5", contents))
        return FolderPhotos(unpack(tmp_path / "train-image", contents))

    return store


@pytest.mark.parametrize("kind", [np.void, np.bytes_])
@pytest.mark.parametrize("at_least", [(0, 0), (20, 20)])
def test_every_way_to_store_a_photo_gives_the_same_picture(tmp_path, kind, at_least):
    packed = hdf5_photos(pack(tmp_path / "packed.hdf5", JPEGS, kind))
    folder = unpack(tmp_path / "folder", JPEGS)
    for name in NAMES:
        pictures = [
            packed.read(name, at_least=at_least),
            FolderPhotos(folder).read(name, at_least=at_least),
            PhotoFiles().read(str(folder / f"{name}.jpg"), at_least=at_least),
        ]
        assert all(picture.dtype == np.uint8 and np.array_equal(picture, pictures[0]) for picture in pictures)
        full = SIZES[name]
        assert pictures[0].shape == ((20, 20, 3) if (at_least, full) == ((20, 20), (40, 40)) else (*full, 3))


def test_every_way_to_store_a_photo_tells_its_shape_without_decoding(tmp_path):
    cut = {name: content[: len(content) - 100] for name, content in JPEGS.items()}
    packed, folder = hdf5_photos(pack(tmp_path / "packed.hdf5", cut)), unpack(tmp_path / "folder", cut)
    for name, size in SIZES.items():
        assert packed.shape(name) == FolderPhotos(folder).shape(name) == size
        assert PhotoFiles().shape(str(folder / f"{name}.jpg")) == size


def test_what_is_no_picture_has_no_shape(stored):
    with pytest.raises(DataError, match=r"ISIC_1.* cannot be used: it is not a picture"):
        stored({"ISIC_1": b"no picture"}).shape("ISIC_1")


def test_a_store_can_be_sent_to_another_process_after_it_was_read_from(stored):
    store = stored(JPEGS)
    before = store.read("ISIC_2")
    sent = pickle.loads(pickle.dumps(store))
    assert np.array_equal(sent.read("ISIC_2"), before)
    assert np.array_equal(store.read("ISIC_2"), before)


class Pictures(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.store.read("ISIC_1")


def test_every_worker_opens_the_file_on_its_own(tmp_path):
    """A file put in place of the opened one is seen by who opens it anew, and only by them."""
    path = pack(tmp_path / "train-image.hdf5", JPEGS)
    store = hdf5_photos(path)
    old = store.read("ISIC_1")
    pack(tmp_path / "new.hdf5", {"ISIC_1": jpeg(16, 16, seed=9)}).replace(path)
    new = hdf5_photos(path).read("ISIC_1")
    assert not np.array_equal(old, new)
    for picture in DataLoader(Pictures(store), batch_size=None, num_workers=2):
        assert np.array_equal(picture, new)
    assert np.array_equal(store.read("ISIC_1"), old)


def test_names_without_a_photo_are_found(stored):
    assert stored(JPEGS).missing(["ISIC_9", "ISIC_2", "ISIC_8"]) == ["ISIC_9", "ISIC_8"]


def test_paths_that_are_not_there_are_found(tmp_path):
    unpack(tmp_path / "folder", JPEGS)
    paths = [str(tmp_path / "folder" / f"{name}.jpg") for name in ("ISIC_1", "ISIC_9")]
    assert PhotoFiles().missing(paths) == paths[1:]


def test_a_photo_that_is_not_there_is_an_error_with_its_name(stored, tmp_path):
    message = refused(stored(JPEGS), "ISIC_9")
    assert "ISIC_9" in message and str(tmp_path / "train-image") in message


BROKEN = {
    "text": (b"no picture", "it is not a picture"),
    "half": (JPEGS["ISIC_2"][: len(JPEGS["ISIC_2"]) // 2], "truncated"),
    "nearly whole": (JPEGS["ISIC_2"][:-40], "truncated"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=list(BROKEN))
def test_bytes_that_are_no_whole_picture_are_an_error_with_name_and_reason(stored, tmp_path, content, reason):
    message = refused(stored({"ISIC_1": content}), "ISIC_1")
    assert "ISIC_1" in message and str(tmp_path / "train-image") in message and reason in message


def test_a_group_is_no_photo(tmp_path):
    with h5py.File(tmp_path / "train-image.hdf5", "w") as file:
        file.create_group("ISIC_1")
    message = refused(hdf5_photos(tmp_path / "train-image.hdf5"), "ISIC_1")
    assert "train-image.hdf5 has no photo ISIC_1 that can be read" in message


@pytest.mark.parametrize("kept", [0, 100, 3000])
def test_a_file_that_is_no_whole_hdf5_file_is_an_error_with_its_path(tmp_path, kept):
    path = pack(tmp_path / "train-image.hdf5", JPEGS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"train-image.hdf5 is no HDF5 file that can be read"):
        check_store(hdf5_photos(path), NAMES)


def test_photos_are_found_packed_before_a_folder_in_a_folder_before_the_folder_itself(tmp_path):
    for split in ("train", "test"):
        plain = unpack(tmp_path / f"{split}-image", JPEGS)
        assert open_photos(tmp_path, split) == FolderPhotos(plain)
        nested = unpack(plain / "image", JPEGS)
        assert open_photos(tmp_path, split) == FolderPhotos(nested)
        packed = pack(tmp_path / f"{split}-image.hdf5", JPEGS)
        store = open_photos(tmp_path, split)
        assert isinstance(store, Hdf5Photos) and store.file.path == packed


def test_a_folder_without_photos_is_named_with_what_there_should_be(tmp_path):
    unpack(tmp_path / "train-image", JPEGS)
    with pytest.raises(DataError) as caught:
        open_photos(tmp_path, "test")
    assert f"{tmp_path} has neither test-image.hdf5 nor a folder test-image of JPEG files" in str(caught.value)


def test_good_photos_pass_the_check_and_only_those_asked_for_are_looked_at(stored):
    store = stored(JPEGS | {"ISIC_4": b"no picture"})
    check_store(store, NAMES)
    check_store(store, [])


def test_all_missing_photos_are_listed_at_once(stored):
    message = problems(stored(JPEGS), ["ISIC_8", *NAMES, "ISIC_9"])
    assert "2 of 5 photos are missing" in message
    assert message.splitlines()[1:] == ["  ISIC_8", "  ISIC_9"]


def test_all_broken_photos_are_listed_at_once_in_their_order(stored):
    broken = {name: content for name, (content, _) in BROKEN.items()}
    message = problems(stored(JPEGS | broken), [*list(broken)[::-1], *NAMES])
    lines = message.splitlines()
    assert lines[0] == "3 photo(s) cannot be used:" and len(lines) == 4
    for line, (name, (_, reason)) in zip(lines[1:], reversed(BROKEN.items()), strict=True):
        assert f"{name}" in line and reason in line


def test_many_photos_are_checked_and_long_lists_cut(tmp_path):
    contents = {f"ISIC_{n}": b"no picture" if n % 10 == 0 else JPEGS["ISIC_1"] for n in range(300)}
    message = problems(hdf5_photos(pack(tmp_path / "train-image.hdf5", contents)), list(contents))
    assert "30 photo(s) cannot be used" in message and message.splitlines()[-1] == "  ... and 20 more"


def test_what_is_broken_is_told_by_name_and_in_order(stored):
    store = stored(JPEGS | {name: content for name, (content, _) in BROKEN.items()})
    found = broken_in(store, ["nearly whole", *NAMES, "text"])
    assert list(found) == ["nearly whole", "text"]
    assert all(reason in found[name] for name, (_, reason) in BROKEN.items() if name in found)
    assert broken_in(store, NAMES) == {}


def test_the_content_of_a_photo_is_its_bytes_wherever_they_lie(stored, tmp_path):
    contents = contents_of(stored({**JPEGS, "copy": JPEGS["ISIC_2"]}), [*NAMES, "copy"])
    assert list(contents) == [*NAMES, "copy"] and contents["copy"] == contents["ISIC_2"]
    assert len(set(contents.values())) == 3
    folder = unpack(tmp_path / "elsewhere", JPEGS)
    files = contents_of(PhotoFiles(), [str(folder / f"{name}.jpg") for name in NAMES])
    assert list(files.values()) == [contents[name] for name in NAMES]


def test_the_content_of_what_is_not_there_is_an_error_with_its_name(stored):
    with pytest.raises(DataError, match="ISIC_9"):
        contents_of(stored(JPEGS), ["ISIC_9"])
