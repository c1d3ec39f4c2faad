"""Items and batches of leaf photos: what they hold, what they depend on, what stays registered."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from biomass_pl.data.augmentation import FLIPS
from biomass_pl.leaf.dataset import LeafDataset, unlabelled_photos
from biomass_pl.leaf.transforms import change, decode_size, plain_changes, training_changes
from tests.leaf.conftest import CLASSES, SIDE, ids, leaf_module, picture, save

SEVERITIES = ("light", "moderate", "aggressive")


@pytest.fixture(scope="module")
def spectral(leaf_root, tmp_path_factory):
    """Bands of every photo: its own three colours and the mean of them, twice as fine."""
    folder = tmp_path_factory.mktemp("bands")
    for path in leaf_root.rglob("*.png"):
        colours = np.asarray(Image.open(path)).repeat(2, axis=0).repeat(2, axis=1)
        bands = np.concatenate(
            [colours, colours.mean(axis=2, keepdims=True).astype(np.uint8), colours[..., :2]], axis=2
        )
        (folder / path.parent.name).mkdir(exist_ok=True)
        np.save(folder / path.parent.name / f"{path.stem}.npy", bands.transpose(2, 0, 1))
    return folder


def batches(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_equal_batches(one, other):
    assert len(one) == len(other) > 0
    for first, second in zip(one, other, strict=True):
        assert first["id"] == second["id"] and first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first if key != "id")


def test_a_labelled_batch_is_as_agreed(leaf_root, spectral):
    for settings, keys in (
        ({}, ["id", "tiles", "target"]),
        ({"spectral": spectral}, ["id", "tiles", "bands", "target"]),
    ):
        module = leaf_module(leaf_root, **settings)
        for loader in (
            module.training_loader(),
            module.plain_loader(held_out=True),
            module.plain_loader(held_out=False),
        ):
            for batch in loader:
                assert list(batch) == keys and all(type(name) is str for name in batch["id"])
                count = len(batch["id"])
                assert batch["tiles"].shape == (count, 3, SIDE, SIDE) and batch["tiles"].dtype == torch.uint8
                assert batch["target"].dtype == torch.int64
                assert [CLASSES[number] for number in batch["target"]] == [name.split("/")[0] for name in batch["id"]]
                if settings:
                    assert batch["bands"].shape == (count, 6, SIDE, SIDE) and batch["bands"].dtype == torch.float32


@pytest.mark.parametrize("settings", [{}, {"balance": "sampler"}, {"severity": "aggressive", "bands": True}], ids=str)
def test_workers_change_nothing_in_any_epoch(leaf_root, spectral, settings):
    settings = {**settings, **({"spectral": spectral} if settings.get("bands") else {})}
    settings.pop("bands", None)
    loaders = [leaf_module(leaf_root, num_workers=count, **settings).training_loader() for count in (0, 2)]
    for epoch in (0, 1):
        assert_equal_batches(*(batches(loader, epoch) for loader in loaders))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("settings", [{}, {"balance": "sampler"}], ids=str)
def test_a_training_that_goes_on_gets_the_items_of_its_epoch(leaf_root, settings, num_workers):
    """In its first pass too, which nobody tells the epoch of."""
    whole, module = (leaf_module(leaf_root, num_workers=num_workers, **settings) for _ in range(2))
    module.use(module.split, first_epoch=2)
    undisturbed, loader = whole.training_loader(), module.training_loader()
    assert_equal_batches(list(loader), batches(undisturbed, 2))
    assert_equal_batches(batches(loader, 3), batches(undisturbed, 3))


@pytest.mark.parametrize(("seed", "epoch"), [(7, 1), (8, 0)], ids=["epoch", "seed"])
def test_another_epoch_or_seed_changes_photos_and_order(leaf_root, seed, epoch):
    folds = leaf_module(leaf_root).split.folds
    one, other = (
        batches(leaf_module(leaf_root, folds=folds, seed=number).training_loader(), at)
        for number, at in ((7, 0), (seed, epoch))
    )
    assert sorted(ids(one)) == sorted(ids(other)) and ids(one) != ids(other)
    photos = [dict(zip(ids(found), torch.cat([b["tiles"] for b in found]), strict=True)) for found in (one, other)]
    assert not any(torch.equal(photos[0][name], photos[1][name]) for name in photos[0])


def test_items_depend_neither_on_the_others_nor_on_their_order(leaf_root):
    module = leaf_module(leaf_root)
    dataset = module.training_loader().dataset
    items = {item["id"]: item["tiles"] for item in (dataset[(index, 2)] for index in reversed(range(len(dataset))))}
    for batch in batches(leaf_module(leaf_root, batch_size=1).training_loader(), 2):
        assert torch.equal(batch["tiles"][0], items[batch["id"][0]])


def test_the_severity_reaches_the_photos(leaf_root):
    folds = leaf_module(leaf_root).split.folds
    found = {
        severity: torch.cat(
            [b["tiles"] for b in leaf_module(leaf_root, folds=folds, severity=severity).training_loader()]
        )
        for severity in SEVERITIES
    }
    assert not torch.equal(found["light"], found["moderate"]) and not torch.equal(
        found["moderate"], found["aggressive"]
    )
    dataset = leaf_module(leaf_root, severity="aggressive").training_loader().dataset
    assert dataset.at_least == decode_size(SIDE, "aggressive") != decode_size(SIDE, "light")


def test_photos_as_they_are_are_the_resized_files(leaf_root):
    module = leaf_module(leaf_root)
    for batch in module.plain_loader(held_out=True):
        for name, tiles in zip(batch["id"], batch["tiles"], strict=True):
            photo = np.asarray(Image.open(leaf_root / name))
            expected = change(plain_changes(SIDE), photo, np.random.default_rng(0))
            assert np.array_equal(tiles.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_bands_move_with_their_photo(tmp_path, severity):
    """A white cross on black, and the same as each band: they stay one on the other, whatever moves."""
    cross = np.zeros((64, 64), np.uint8)
    cross[28:36, 8:44] = cross[8:56, 20:28] = 255
    path = save(np.repeat(cross[..., None], 3, axis=2), tmp_path / "x.png")
    np.save(tmp_path / "x.npy", np.stack([cross] * 5))
    dataset = LeafDataset(
        photos=unlabelled_photos([path], root=tmp_path, spectral=tmp_path),
        changes=training_changes(64, severity),
        at_least=(64, 64),
        seed=0,
    )
    overlaps, shown = [], set()
    for epoch in range(20):
        item = dataset[(0, epoch)]
        photo, bands = item["tiles"].float().mean(dim=0) > 100, item["bands"] > 0.5
        assert all(torch.equal(bands[0], band) for band in bands)
        overlaps.append(float((photo & bands[0]).sum() / (photo | bands[0]).sum()))
        shown.add(bands.numpy().tobytes())
    # Changes of colour and cutout, which are the photo's alone, hide the cross in some.
    assert len(shown) == 20 and np.quantile(overlaps, 0.7) > 0.9, overlaps


def test_bands_as_they_are_keep_their_values(leaf_root, spectral):
    module = leaf_module(leaf_root, spectral=spectral, image_size=48)
    (batch, *_) = module.plain_loader(held_out=True)
    pixels = batch["tiles"].float() / 255
    assert torch.allclose(batch["bands"][:, :3], pixels, atol=2 / 255)
    assert torch.allclose(batch["bands"][:, 4:], pixels[:, :2], atol=2 / 255)


@pytest.mark.parametrize("with_bands", [False, True])
def test_views_are_flips_of_photo_and_bands_under_the_same_name(leaf_root, spectral, with_bands):
    module = leaf_module(leaf_root, spectral=spectral if with_bands else None)
    module.select("held_out", views=FLIPS)
    dataset = module.predict_dataloader().dataset
    assert len(dataset) == 3 * int((module.split.folds == 0).sum())
    plain, left_right, top_bottom = (dataset[(index, 0)] for index in range(3))
    assert plain["id"] == left_right["id"] == top_bottom["id"] != dataset[(3, 0)]["id"]
    for key in ("tiles", "bands")[: 1 + with_bands]:
        assert torch.equal(left_right[key], plain[key].flip(-1)) and torch.equal(top_bottom[key], plain[key].flip(-2))
        assert not torch.equal(left_right[key], plain[key])


def test_datasets_can_be_sent_to_workers_that_start_from_nothing(leaf_root, spectral):
    module = leaf_module(leaf_root, spectral=spectral)
    module.select("held_out", views=FLIPS)
    for loader in (module.training_loader(), module.predict_dataloader()):
        before = loader.dataset[(0, 1)]
        after = pickle.loads(pickle.dumps(loader.dataset))[(0, 1)]
        assert torch.equal(before["tiles"], after["tiles"]) and torch.equal(before["bands"], after["bands"])


def test_unlabelled_photos_have_no_target_and_find_bands_by_path_or_name(leaf_root, spectral, tmp_path):
    inside = leaf_root / CLASSES[0] / "Curl_0.png"
    outside = save(picture(0), tmp_path / "elsewhere" / "Curl_0.png")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "Curl_0.npy").write_bytes((spectral / CLASSES[0] / "Curl_0.npy").read_bytes())
    for file, folder in ((inside, spectral), (outside, tmp_path / "flat"), (inside, None)):
        photos = unlabelled_photos([file], root=leaf_root, spectral=folder)
        dataset = LeafDataset(photos=photos, changes=plain_changes(SIDE), at_least=(SIDE, SIDE), seed=0)
        item = dataset[(0, 0)]
        assert list(item) == (["id", "tiles", "bands"] if folder else ["id", "tiles"]) and item["id"] == str(file)


def test_rows_of_a_dataset_are_arrays_that_workers_share(leaf_root):
    module = leaf_module(leaf_root)
    photos = module.training_loader().dataset.photos
    for column in (photos.names, photos.paths, photos.targets):
        assert isinstance(column, np.ndarray) and column.dtype != object and len(column) == len(photos)
    chosen = photos.where(photos.targets == 1)
    assert set(chosen.targets) == {1} and 0 < len(chosen) < len(photos) and chosen.bands is None
