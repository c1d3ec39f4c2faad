"""Photos decoded once: what is read back, by whom, and when the file goes."""

import gc
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from biomass_pl.data.cache import PhotoCache
from biomass_pl.data.photos import read_photo
from biomass_pl.data.splits import Split
from biomass_pl.errors import DataError
from biomass_pl.pasture.data import PastureDataModule


@pytest.fixture(autouse=True)
def temporary(monkeypatch) -> Iterator[Path]:
    """The folder for temporary files, empty, of the test's own, and with a name short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Photos of different shapes and kinds."""
    rng = np.random.default_rng(0)
    shapes = [(64, 128, 3), (30, 41, 3), (16, 16), (200, 90, 3), (2, 2, 3)]
    found = [tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}" for number in range(len(shapes))]
    for path, shape in zip(found, shapes, strict=True):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return found


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def pasture(root, **settings):
    small = {"tile_size": 16, "batch_size": 5, "num_workers": 0, "num_folds": 3, "aug_prob": 1.0}
    module = PastureDataModule(root=root, **{**small, **settings})
    module.use(Split(fold=0, folds=module.make_folds()))
    return module


def items_of(module, epoch=0):
    found = {}
    for loader in (module.train_dataloader(), module.val_dataloader()):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            found |= dict(zip(batch["id"], batch["tiles"], strict=True))
    return found


@pytest.mark.parametrize("at_least", [(0, 0), (20, 20), (100, 45)])
def test_a_cached_photo_is_the_decoded_one(paths, at_least):
    cache = PhotoCache(paths=paths, at_least=at_least)
    for path in reversed(paths):
        assert np.array_equal(cache.read(path), read_photo(path, at_least=at_least))


def test_the_file_is_as_large_as_its_photos_and_each_is_in_it_once(paths, temporary):
    cache = PhotoCache(paths=[*paths, *paths], at_least=(0, 0))
    assert [file.stat().st_size for file in files(temporary)] == [sum(cache.read(path).nbytes for path in paths)]


def test_a_cached_photo_cannot_be_written_to(paths):
    photo = PhotoCache(paths=paths, at_least=(0, 0)).read(paths[0])
    with pytest.raises(ValueError, match="read-only"):
        photo[0, 0] = 0


def test_the_file_goes_with_the_cache(paths, temporary):
    cache = PhotoCache(paths=paths, at_least=(0, 0))
    assert len(files(temporary)) == 1
    del cache
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_the_file_goes_with_the_process(paths, temporary):
    made = f"PhotoCache(paths=[Path({str(paths[0])!r})], at_least=(0, 0))"
    code = f"""
import tempfile
from pathlib import Path
from biomass_pl.data.cache import PhotoCache
tempfile.tempdir = {str(temporary)!r}
kept = {made}
print(sum(path.is_file() for path in Path(tempfile.tempdir).rglob("*")))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"
    assert list(temporary.iterdir()) == []


def drop(caches):
    caches.clear()
    gc.collect()


def test_a_forked_process_reads_the_file_and_never_removes_it(paths, temporary):
    caches = [PhotoCache(paths=paths, at_least=(0, 0))]

    def read_and_drop():
        assert np.array_equal(caches[0].read(paths[1]), read_photo(paths[1]))
        drop(caches)

    process = multiprocessing.get_context("fork").Process(target=read_and_drop)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert len(files(temporary)) == 1
    drop(caches)
    assert files(temporary) == []


def test_a_process_that_starts_from_nothing_reads_the_file_and_never_removes_it(paths, temporary):
    cache = PhotoCache(paths=paths, at_least=(0, 0))
    code = "import pickle, sys; cache, path = pickle.load(sys.stdin.buffer); print(cache.read(path).sum())"
    sent = pickle.dumps((cache, paths[1]))
    result = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert int(result.stdout) == read_photo(paths[1]).sum()
    assert len(files(temporary)) == 1


def test_a_pickled_cache_holds_no_pixels(paths):
    cache = PhotoCache(paths=paths, at_least=(0, 0))
    photo = cache.read(paths[3])
    sent = pickle.dumps(cache)
    assert len(sent) < 3000 < photo.nbytes
    copy = pickle.loads(sent)
    assert np.array_equal(copy.read(paths[3]), photo)
    del copy
    gc.collect()
    assert np.array_equal(pickle.loads(sent).read(paths[0]), read_photo(paths[0]))


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(paths, temporary, monkeypatch):
    usage = shutil.disk_usage(temporary)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=50_000))
    with pytest.raises(DataError) as caught:
        PhotoCache(paths=paths, at_least=(0, 0))
    message = str(caught.value)
    assert f"need 1 MB in {temporary}" in message and "data.cache_images: false" in message
    assert list(temporary.iterdir()) == []


def test_a_disk_that_fills_up_is_told_and_the_file_removed(paths, temporary):
    """The shell's limit on the size of files stands in for the disk."""
    code = f"""
import resource, signal, tempfile
from pathlib import Path
from biomass_pl.data.cache import PhotoCache
tempfile.tempdir = {str(temporary)!r}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
PhotoCache(paths=[Path({str(paths[0])!r})], at_least=(0, 0))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = result.stderr.splitlines()[-1]
    assert result.returncode == 1 and "DataError: The decoded photos cannot be written" in last
    assert "they need 1 MB" in last and "data.cache_images: false" in last
    assert list(temporary.iterdir()) == []


def test_a_photo_that_cannot_be_decoded_is_named_and_nothing_left(paths, temporary):
    paths[3].write_bytes(paths[3].read_bytes()[:1500])
    with pytest.raises(DataError, match=r"3.jpg cannot be used"):
        PhotoCache(paths=paths, at_least=(0, 0))
    gc.collect()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_items_with_the_cache_are_those_without_and_need_the_photo_files_no_more(data, num_workers):
    expected = [items_of(pasture(data, mixup_prob=0.5), epoch) for epoch in (0, 1)]
    module = pasture(data, num_workers=num_workers, cache_images=True, mixup_prob=0.5)
    module.train_dataloader()  # fills the cache for validation as well
    shutil.rmtree(data / "train")
    for epoch in (0, 1):
        found = items_of(module, epoch)
        assert found.keys() == expected[epoch].keys()
        assert all(torch.equal(found[image_id], tiles) for image_id, tiles in expected[epoch].items())


def test_validation_alone_fills_the_cache_too(data):
    module = pasture(data, cache_images=True)
    loader = module.val_dataloader()
    shutil.rmtree(data / "train")
    assert sum(len(batch["id"]) for batch in loader) == (module.split.folds == 0).sum()


def test_without_the_cache_every_epoch_reads_the_photo_files(data, temporary):
    module = pasture(data)
    assert len(items_of(module)) == 24 and files(temporary) == []
    shutil.rmtree(data / "train")
    with pytest.raises(DataError, match="does not exist"):
        items_of(module)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_file_is_shared_by_training_and_validation_and_goes_with_the_module(data, temporary, num_workers):
    module = pasture(data, num_workers=num_workers, cache_images=True)
    items_of(module)
    items_of(module)
    assert len(files(temporary)) == 1
    del module
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_module_that_only_predicts_fills_no_cache(data, temporary):
    module = pasture(data, cache_images=True)
    module.select("held_out")
    assert len(list(module.predict_dataloader())) > 0 and files(temporary) == []
