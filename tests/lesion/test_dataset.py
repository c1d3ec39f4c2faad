"""Items and batches of lesion photos: what they hold, what they depend on, what is predicted."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch

from biomass_pl.data.augmentation import FLIPS
from biomass_pl.lesion.photos import open_photos
from biomass_pl.lesion.transforms import change, decode_size, plain_changes
from tests.lesion.conftest import MALIGNANT, SIDE, TABLE, ids, jpeg, lesion_module, write_lesions


def batches(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def tiles_by_id(loader, epoch=0):
    return {
        name: tiles for batch in batches(loader, epoch) for name, tiles in zip(batch["id"], batch["tiles"], strict=True)
    }


def assert_equal_batches(one, other):
    assert len(one) == len(other) > 0
    for first, second in zip(one, other, strict=True):
        assert first["id"] == second["id"] and first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first if key != "id")


def assert_same_photos(one, other):
    assert one.keys() == other.keys() and one
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_labelled_batch_is_as_agreed(lesion_root, lesion_folds):
    targets = TABLE.set_index("isic_id")["target"]
    module = lesion_module(lesion_root, folds=lesion_folds)
    for loader in (module.train_dataloader(), module.val_dataloader()):
        for batch in loader:
            assert list(batch) == ["id", "tiles", "target"] and all(type(name) is str for name in batch["id"])
            assert batch["tiles"].shape == (len(batch["id"]), 3, SIDE, SIDE) and batch["tiles"].dtype == torch.uint8
            assert batch["target"].dtype == torch.float32 and batch["target"].tolist() == targets[batch["id"]].tolist()


@pytest.mark.parametrize("settings", [{}, {"positive_ratio": 0.25}, {"neg_pos_ratio": 2.0}])
def test_workers_change_nothing_in_any_epoch(lesion_root, lesion_folds, settings):
    modules = [lesion_module(lesion_root, folds=lesion_folds, num_workers=count, **settings) for count in (0, 2)]
    modules[1].check()  # opens the file in this process first
    loaders = [module.train_dataloader() for module in modules]
    for epoch in (0, 1):
        assert_equal_batches(*(batches(loader, epoch) for loader in loaders))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("settings", [{}, {"positive_ratio": 0.25}, {"neg_pos_ratio": 2.0}], ids=str)
def test_a_training_that_goes_on_gets_the_items_of_its_epoch(lesion_root, lesion_folds, settings, num_workers):
    """In its first pass too, which nobody tells the epoch of."""
    whole, module = (
        lesion_module(lesion_root, folds=lesion_folds, num_workers=num_workers, **settings) for _ in range(2)
    )
    module.use(module.split, first_epoch=2)
    undisturbed, loader = whole.train_dataloader(), module.train_dataloader()
    assert_equal_batches(list(loader), batches(undisturbed, 2))
    assert_equal_batches(batches(loader, 3), batches(undisturbed, 3))


def test_items_depend_neither_on_the_others_nor_on_their_order(lesion_root, lesion_folds):
    first = tiles_by_id(lesion_module(lesion_root, folds=lesion_folds).train_dataloader(), 2)
    dataset = lesion_module(lesion_root, folds=lesion_folds, batch_size=1).train_dataloader().dataset
    backward = {item["id"]: item["tiles"] for item in (dataset[(n, 2)] for n in reversed(range(len(dataset))))}
    assert_same_photos(first, backward)
    sampled = tiles_by_id(lesion_module(lesion_root, sample_size=30, batch_size=5).train_dataloader(), 2)
    assert_same_photos(sampled, {name: first[name] for name in sampled})


@pytest.mark.parametrize(("seed", "epoch"), [(7, 1), (8, 0)], ids=["epoch", "seed"])
def test_another_epoch_or_seed_changes_photos_and_order(lesion_root, lesion_folds, seed, epoch):
    one, other = (
        batches(
            lesion_module(lesion_root, folds=lesion_folds, seed=number, augmentation="heavy").train_dataloader(), at
        )
        for number, at in ((7, 0), (seed, epoch))
    )
    assert sorted(ids(one)) == sorted(ids(other)) and ids(one) != ids(other)
    photos = [dict(zip(ids(found), torch.cat([b["tiles"] for b in found]), strict=True)) for found in (one, other)]
    assert not any(torch.equal(photos[0][name], photos[1][name]) for name in photos[0])


def test_the_same_picture_is_changed_in_another_way_for_every_lesion(lesion_folds, tmp_path):
    root = write_lesions(tmp_path / "data", contents=dict.fromkeys(TABLE["isic_id"], jpeg(0)))
    tiles = tiles_by_id(lesion_module(root, folds=lesion_folds, augmentation="heavy").train_dataloader())
    assert len({photo.numpy().tobytes() for photo in tiles.values()}) == len(tiles) > 30


def test_a_folder_of_jpeg_files_gives_what_the_packed_file_gives(lesion_root, lesion_folds, tmp_path):
    folder = tmp_path / "data" / "train-image" / "image"
    folder.mkdir(parents=True)
    TABLE.to_csv(tmp_path / "data" / "train-metadata.csv", index=False)
    for seed, name in enumerate(TABLE["isic_id"]):
        (folder / f"{name}.jpg").write_bytes(jpeg(seed))
    one, other = lesion_module(lesion_root, folds=lesion_folds), lesion_module(tmp_path / "data", folds=lesion_folds)
    other.check()
    assert_equal_batches(batches(one.train_dataloader(), 1), batches(other.train_dataloader(), 1))
    assert_equal_batches(batches(one.val_dataloader()), batches(other.val_dataloader()))


def test_datasets_can_be_sent_to_workers_that_start_from_nothing(lesion_root, lesion_folds):
    module = lesion_module(lesion_root, folds=lesion_folds)
    module.select("held_out", views=FLIPS)
    for loader in (module.train_dataloader(), module.predict_dataloader()):
        before = loader.dataset[(0, 1)]
        sent = pickle.loads(pickle.dumps(loader.dataset))
        assert torch.equal(sent[(0, 1)]["tiles"], before["tiles"])


@pytest.mark.parametrize("augmentation", ["light", "medium", "heavy"])
def test_validation_photos_are_the_plain_ones_in_every_epoch(lesion_root, lesion_folds, augmentation):
    loader = lesion_module(lesion_root, folds=lesion_folds, augmentation=augmentation).val_dataloader()
    store, rng = open_photos(lesion_root, "train"), np.random.default_rng(0)
    for epoch in (0, 3):
        for name, tiles in tiles_by_id(loader, epoch).items():
            photo = store.read(name, at_least=decode_size(SIDE, augmentation))
            plain = change(plain_changes(SIDE), photo, rng)
            assert np.array_equal(tiles.numpy().transpose(1, 2, 0), plain)


def test_the_level_of_augmentation_is_that_of_the_training_photos(lesion_root, lesion_folds):
    plain = tiles_by_id(lesion_module(lesion_root, 0, lesion_folds).val_dataloader())
    for level, kept in (("light", True), ("medium", False), ("heavy", False)):
        changed = tiles_by_id(lesion_module(lesion_root, 1, lesion_folds, augmentation=level).train_dataloader())
        same = [torch.equal(changed[name].flatten().sort()[0], plain[name].flatten().sort()[0]) for name in plain]
        assert all(same) if kept else not any(same)


def test_predicting_the_held_out_photos_gives_the_validation_batches(lesion_root, lesion_folds):
    module = lesion_module(lesion_root, 2, lesion_folds)
    module.select("held_out")
    assert_equal_batches(batches(module.predict_dataloader()), batches(module.val_dataloader()))
    assert module.broken_items() == {}


@pytest.mark.parametrize("source", ["held_out", "test"])
def test_with_flips_each_photo_comes_three_times(lesion_root, lesion_folds, source):
    module = lesion_module(lesion_root, folds=lesion_folds)
    module.select(source)
    plain = tiles_by_id(module.predict_dataloader())
    module.select(source, views=FLIPS)
    found = batches(module.predict_dataloader())
    tiles = torch.cat([batch["tiles"] for batch in found])
    assert ids(found) == [name for name in plain for _ in range(3)]
    for position, photo in enumerate(plain.values()):
        expected = (photo, photo.flip(2), photo.flip(1))
        assert all(torch.equal(*pair) for pair in zip(tiles[3 * position : 3 * position + 3], expected, strict=True))
    if source == "held_out":
        targets = TABLE.set_index("isic_id")["target"]
        assert torch.cat([batch["target"] for batch in found]).tolist() == targets[ids(found)].tolist()


def test_the_test_table_is_predicted_in_its_order_and_without_labels(lesion_root, lesion_folds):
    module = lesion_module(lesion_root, folds=lesion_folds)
    module.select("held_out", views=FLIPS)
    module.select("test")
    assert module.broken_items() == {}
    found = batches(module.predict_dataloader())
    assert ids(found) == ["d", "b", "c", "a"] and all(set(batch) == {"id", "tiles"} for batch in found)


def test_any_photos_are_predicted_under_their_paths(lesion_folds, tmp_path):
    paths = [tmp_path / f"{name}.jpg" for name in "cab"]
    for seed, path in enumerate(paths):
        path.write_bytes(jpeg(seed))
    module = lesion_module(tmp_path / "no such folder", folds=lesion_folds)
    module.select("files", files=paths)
    assert module.broken_items() == {}
    found = batches(module.predict_dataloader())
    assert ids(found) == [str(path) for path in paths] and all(set(batch) == {"id", "tiles"} for batch in found)
    paths[1].write_bytes(b"no picture")
    paths[2].unlink()
    broken = module.broken_items()
    assert list(broken) == [str(paths[2]), str(paths[1])] and broken[str(paths[2])] == "there is no such photo"
    assert "it is not a picture" in broken[str(paths[1])]
    module.leave_out(broken)
    assert ids(batches(module.predict_dataloader())) == [str(paths[0])] and module.broken_items() == {}


def test_balanced_batches_reach_the_training(lesion_root, lesion_folds):
    loader = lesion_module(lesion_root, folds=lesion_folds, batch_size=4, positive_ratio=0.5).train_dataloader()
    trained = MALIGNANT & set(lesion_folds.index[lesion_folds != 0])
    orders = []
    for epoch in (0, 1):
        found = batches(loader, epoch)
        assert len(found) == len(loader) == len(trained) // 2
        assert all(batch["target"].sum() == 2 and len(batch["id"]) == 4 for batch in found)
        assert Counter(name for name in ids(found) if name in MALIGNANT).most_common(1)[0][1] == 1
        assert set(ids(found)) <= set(lesion_folds.index[lesion_folds != 0])
        orders.append(ids(found))
    assert orders[0] != orders[1]


def test_resampled_negatives_reach_the_training(lesion_root, lesion_folds):
    loader = lesion_module(lesion_root, folds=lesion_folds, neg_pos_ratio=1.5).train_dataloader()
    trained = MALIGNANT & set(lesion_folds.index[lesion_folds != 0])
    benign = []
    for epoch in (0, 1):
        names = ids(batches(loader, epoch))
        assert len(names) == len(set(names)) == len(trained) + round(1.5 * len(trained)) and trained <= set(names)
        benign.append(set(names) - MALIGNANT)
    assert benign[0] != benign[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_left_out_is_not_predicted_and_labels_stay_with_the_others(lesion_root, lesion_folds, num_workers):
    module = lesion_module(lesion_root, folds=lesion_folds, num_workers=num_workers)
    module.select("held_out", views=FLIPS)
    names = list(dict.fromkeys(ids(batches(module.predict_dataloader()))))
    gone = set(names[1:4])
    module.leave_out(gone)
    found = batches(module.predict_dataloader())
    assert ids(found) == [name for name in names if name not in gone for _ in range(3)]
    targets = TABLE.set_index("isic_id")["target"]
    assert torch.cat([batch["target"] for batch in found]).tolist() == targets[ids(found)].tolist()
    module.select("test")
    module.leave_out({"b"})
    assert ids(batches(module.predict_dataloader())) == ["d", "c", "a"]
