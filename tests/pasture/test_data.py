"""Pasture photos fold by fold: what an item depends on, what a batch holds, what is refused."""

import logging
import pickle
from collections import Counter

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from biomass_pl.data.augmentation import FLIPS
from biomass_pl.data.photos import read_photo, split_views
from biomass_pl.data.splits import NEVER_HELD_OUT, Split, require_one_fold_per_content
from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.pasture.classes import class_codes
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS

FOLDS = 4
PROBABILITIES = ("aug_prob", "stereo_swap_prob", "mixup_prob", "cutmix_prob")
ALPHAS = ("mixup_alpha", "cutmix_alpha")


def pasture(root, fold=0, folds=None, **settings):
    """A data module of small tiles with one fold held out."""
    small = {"grid": (2, 2), "tile_size": 16, "batch_size": 5, "num_workers": 0, "num_folds": FOLDS}
    module = PastureDataModule(root=root, **{**small, **settings})
    module.use(Split(fold=fold, folds=module.make_folds() if folds is None else folds))
    return module


def batches(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def tiles_by_id(loader, epoch=0):
    return {
        image_id: tiles
        for batch in batches(loader, epoch)
        for image_id, tiles in zip(batch["id"], batch["tiles"], strict=True)
    }


def assert_equal_batches(one, other):
    assert len(one) == len(other) > 0
    for first, second in zip(one, other, strict=True):
        assert first["id"] == second["id"] and first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first if key != "id")


def ids(loader):
    return [image_id for batch in loader for image_id in batch["id"]]


@pytest.fixture(scope="module")
def folds(rendered):
    return pasture(rendered).split.folds


def test_workers_change_nothing_in_any_epoch(rendered, folds):
    loaders = [pasture(rendered, folds=folds, num_workers=count).train_dataloader() for count in (0, 2)]
    for epoch in (0, 1):
        assert_equal_batches(*(batches(loader, epoch) for loader in loaders))


def test_items_do_not_depend_on_the_order_in_which_they_are_asked_for(rendered, folds):
    dataset = pasture(rendered, folds=folds).train_dataloader().dataset
    forward = [dataset[(index, 2)]["tiles"] for index in range(len(dataset))]
    backward = [dataset[(index, 2)]["tiles"] for index in reversed(range(len(dataset)))]
    assert all(torch.equal(one, other) for one, other in zip(forward, reversed(backward), strict=True))


def test_items_do_not_depend_on_which_other_photos_are_trained_on(rendered, folds):
    one, other = (tiles_by_id(pasture(rendered, fold, folds).train_dataloader(), 1) for fold in (0, 1))
    shared = one.keys() & other.keys()
    assert len(shared) == (~folds.isin([0, 1])).sum() > 0
    assert all(torch.equal(one[image_id], other[image_id]) for image_id in shared)


def test_items_do_not_depend_on_the_batch_size(rendered, folds):
    one, other = (tiles_by_id(pasture(rendered, folds=folds, batch_size=size).train_dataloader()) for size in (3, 24))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[image_id], other[image_id]) for image_id in one)


@pytest.mark.parametrize(("seed", "epoch"), [(7, 1), (8, 0)], ids=["epoch", "seed"])
def test_another_epoch_or_seed_changes_the_training_photos(rendered, folds, seed, epoch):
    first = tiles_by_id(pasture(rendered, folds=folds, seed=7, aug_prob=1.0).train_dataloader(), 0)
    other = tiles_by_id(pasture(rendered, folds=folds, seed=seed, aug_prob=1.0).train_dataloader(), epoch)
    assert first.keys() == other.keys()
    assert not any(torch.equal(first[image_id], other[image_id]) for image_id in first)


def test_photos_of_one_epoch_are_changed_each_in_its_own_way(data, folds):
    """The same picture under every name: what still differs was drawn for the name."""
    table = read_labels(data)
    content = (data / table["image_path"][0]).read_bytes()
    for path in table["image_path"]:
        (data / path).write_bytes(content)
    tiles = tiles_by_id(pasture(data, folds=folds, aug_prob=1.0).train_dataloader())
    assert len({photo.numpy().tobytes() for photo in tiles.values()}) == len(tiles) > 10


def test_training_order_changes_with_the_epoch_and_validation_order_never(rendered, folds):
    module = pasture(rendered, folds=folds)
    train, val = module.train_dataloader(), module.val_dataloader()
    train_orders, val_orders = ([ids(batches(loader, epoch)) for epoch in (0, 1)] for loader in (train, val))
    assert sorted(train_orders[0]) == sorted(train_orders[1]) and train_orders[0] != train_orders[1]
    assert val_orders[0] == val_orders[1] == sorted(val_orders[0])


def test_validation_photos_are_the_plain_ones_in_every_epoch(rendered, folds):
    module = pasture(rendered, folds=folds, aug_prob=1.0, stereo_swap_prob=1.0)
    table = read_labels(rendered).set_index("image_id")
    for epoch in (0, 3):
        for image_id, tiles in tiles_by_id(module.val_dataloader(), epoch).items():
            photo = read_photo(rendered / table.loc[image_id, "image_path"], at_least=module.geometry.decode_size)
            views = module.plain_transform(photo, np.random.default_rng(0))
            assert torch.equal(tiles, module.plain_transform.geometry.cut(views))


def test_each_fold_trains_on_the_photos_it_does_not_hold_out_and_all_are_held_out_once(rendered, folds):
    everything = set(read_labels(rendered)["image_id"])
    held_out = Counter()
    for fold in range(FOLDS):
        module = pasture(rendered, fold, folds)
        train, val = ids(module.train_dataloader()), ids(module.val_dataloader())
        assert len(train) + len(val) == len(everything)
        assert set(train) | set(val) == everything and not set(train) & set(val)
        assert set(val) == set(folds.index[folds == fold])
        held_out.update(val)
    assert held_out == Counter(everything)


def test_the_order_of_the_fold_table_changes_nothing(rendered, folds):
    one, other = pasture(rendered, 1, folds), pasture(rendered, 1, folds.sample(frac=1, random_state=0))
    assert_equal_batches(batches(one.val_dataloader()), batches(other.val_dataloader()))
    assert np.array_equal(one.training_targets(), other.training_targets())


def test_training_targets_are_those_of_the_training_photos_alone(rendered, folds):
    table = read_labels(rendered).set_index("image_id")
    for fold in range(FOLDS):
        targets = pasture(rendered, fold, folds).training_targets()
        trained = table.loc[sorted(folds.index[folds != fold]), list(TARGETS)]
        assert targets.dtype == np.float32 and np.array_equal(targets, trained.to_numpy(np.float32))


@pytest.mark.parametrize(("grid", "tiles"), [((2, 2), 4), ((1, 3), 3)])
def test_a_labelled_batch_is_as_agreed(rendered, folds, grid, tiles):
    module = pasture(rendered, folds=folds, grid=grid)
    table = read_labels(rendered)
    codes = {name: pd.Series(column, table["image_id"]) for name, column in class_codes(table).items()}
    grams = table.set_index("image_id")[list(TARGETS)]
    for loader in (module.train_dataloader(), module.val_dataloader()):
        for batch in loader:
            count = len(batch["id"])
            assert list(batch) == ["id", "tiles", "target", "state", "month", "species"]
            assert isinstance(batch["id"], list) and all(isinstance(image_id, str) for image_id in batch["id"])
            assert batch["tiles"].shape == (count, 2, tiles, 3, 16, 16) and batch["tiles"].dtype == torch.uint8
            assert batch["target"].dtype == torch.float32
            assert torch.equal(batch["target"], torch.tensor(grams.loc[batch["id"]].to_numpy(np.float32)))
            for name, column in codes.items():
                assert batch[name].dtype == torch.int64 and batch[name].tolist() == column[batch["id"]].tolist()


def test_nothing_of_64_bit_floats_is_in_any_batch(rendered, folds):
    module = pasture(rendered, folds=folds)
    loaders = [module.train_dataloader(), module.val_dataloader()]
    for source in ("held_out", "test"):
        module.select(source, views=FLIPS)
        loaders.append(module.predict_dataloader())
    for batch in (batch for loader in loaders for batch in loader):
        for value in batch.values():
            assert isinstance(value, list) or (isinstance(value, torch.Tensor) and value.dtype != torch.float64)
        assert all(isinstance(image_id, str) for image_id in batch["id"])


def test_photos_without_metadata_have_class_minus_one(data):
    path = data / "train.csv"
    pd.read_csv(path, dtype=str)[["sample_id", "image_path", "target_name", "target"]].to_csv(path, index=False)
    module = pasture(data, cv_strategy="random")
    for batch in module.train_dataloader():
        for name in ("state", "month", "species"):
            assert batch[name].tolist() == [-1] * len(batch["id"]) and batch[name].dtype == torch.int64


def test_predicting_the_held_out_photos_gives_the_validation_batches(rendered, folds):
    module = pasture(rendered, 2, folds)
    module.select("held_out")
    assert_equal_batches(batches(module.predict_dataloader()), batches(module.val_dataloader()))


@pytest.mark.parametrize("source", ["held_out", "test"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_with_flips_each_photo_comes_three_times_cut_from_its_flipped_views(rendered, folds, source, num_workers):
    module = pasture(rendered, folds=folds, num_workers=num_workers)
    module.select(source, views=FLIPS)
    items = [item for batch in module.predict_dataloader() for item in zip(batch["id"], batch["tiles"], strict=True)]
    module.select(source)
    photos = module.predict_dataloader().dataset.photos
    assert [image_id for image_id, _ in items] == [photo.image_id for photo in photos for _ in range(3)]
    assert len(items) == 3 * len(photos) > 0
    geometry = module.plain_transform.geometry
    for position, photo in enumerate(photos):
        views = module.plain_transform(
            read_photo(photo.path, at_least=module.geometry.decode_size), np.random.default_rng(0)
        )
        for flipped, (_, tiles) in zip(
            (views, views[:, :, ::-1], views[:, ::-1]), items[3 * position : 3 * position + 3], strict=True
        ):
            assert torch.equal(tiles, geometry.cut(flipped.copy()))


def test_labels_stay_with_the_flips(rendered, folds):
    module = pasture(rendered, folds=folds)
    module.select("held_out", views=FLIPS)
    targets = torch.cat([batch["target"] for batch in module.predict_dataloader()])
    plain = torch.cat([batch["target"] for batch in module.val_dataloader()])
    assert torch.equal(targets, plain.repeat_interleave(3, dim=0))


def test_the_test_table_is_predicted_in_its_order_and_without_labels(rendered, folds):
    module = pasture(rendered, folds=folds)
    module.select("test")
    found = batches(module.predict_dataloader())
    rows = pd.read_csv(rendered / "test.csv")
    assert ids(found) == list(dict.fromkeys(rows["sample_id"].str.rpartition("__")[0]))
    assert all(set(batch) == {"id", "tiles"} for batch in found)
    assert module.broken_items() == {}


def test_any_photos_are_predicted_under_their_paths(rendered, folds, tmp_path):
    paths = sorted((rendered / "train").iterdir())[3:0:-1]
    module = pasture(tmp_path / "no such folder", folds=folds)
    module.select("files", files=paths)
    assert module.broken_items() == {}
    found = batches(module.predict_dataloader())
    assert ids(found) == [str(path) for path in paths]
    assert all(set(batch) == {"id", "tiles"} for batch in found)


def test_choosing_again_takes_the_place_of_the_first_choice(rendered, folds):
    module = pasture(rendered, folds=folds)
    module.select("held_out", views=FLIPS)
    module.select("test")
    assert len(ids(module.predict_dataloader())) == 4


def test_selected_photos_that_cannot_be_read_are_told_together_and_can_be_left_out(data, folds):
    photos = sorted((data / "test").iterdir())
    photos[0].unlink()
    photos[2].write_bytes(b"")
    module = pasture(data, folds=folds)
    module.select("test")
    assert module.broken_items() == {photos[0].stem: "the file does not exist", photos[2].stem: "the file is empty"}
    module.leave_out(module.broken_items())
    assert ids(module.predict_dataloader()) == [photos[1].stem, photos[3].stem] and module.broken_items() == {}


def test_a_missing_test_table_is_told_when_it_is_chosen(data, folds):
    (data / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test.csv does not exist"):
        pasture(data, folds=folds).select("test")


def test_the_check_lists_all_unreadable_photos_at_once(data):
    photos = sorted((data / "train").iterdir())
    photos[0].unlink()
    photos[5].write_text("no picture")
    photos[9].write_bytes(photos[9].read_bytes()[:200])
    with pytest.raises(DataError) as caught:
        pasture(data).check()
    message = str(caught.value)
    assert "3 photo(s) cannot be used" in message
    assert all(str(photos[n]) in message for n in (0, 5, 9)) and str(photos[1]) not in message


def test_a_photo_that_is_lost_during_training_is_an_error_and_no_black_picture(data):
    loader = pasture(data).val_dataloader()
    for path in (data / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="the file does not exist"):
        list(loader)


def test_a_new_run_warns_of_odd_labels_once_and_the_check_accepts_good_photos(data, caplog):
    path = data / "train.csv"
    rows = pd.read_csv(path, dtype=str)
    rows.loc[rows["State"] == "Tas", "State"] = "Atlantis"
    rows.to_csv(path, index=False)
    module = pasture(data)
    with caplog.at_level(logging.WARNING):
        module.prepare()
        module.check()
    assert [record.message.split(" (")[-1] for record in caplog.records] == [
        "Atlantis); it is class -1 and teaches nothing"
    ]


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        *((name, value, "a probability") for name in PROBABILITIES for value in (-0.1, 1.1, float("nan"))),
        *((name, value, "above 0") for name in ALPHAS for value in (0.0, -1.0, float("nan"), float("inf"))),
        ("grid", (0, 2), "give 1 or more"),
        ("grid", (2, -1), "give 1 or more"),
        ("tile_size", 0, "give 1 or more"),
        ("view_size", 0, "give 1 or more"),
        ("view_size", 517, "Give 516 or 518"),
        ("batch_size", 0, "give 1 or more"),
        ("num_workers", -1, "give 0 or more"),
        ("prefetch_factor", 0, "give 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(setting, value, advice):
    with pytest.raises(ConfigError) as caught:
        PastureDataModule(**{setting: value})
    assert f"data.{setting} is " in str(caught.value) and advice in str(caught.value)


@pytest.mark.parametrize("edge", [{"aug_prob": 0.0}, {"aug_prob": 1.0, "stereo_swap_prob": 1.0}, {"grid": (1, 1)}])
def test_settings_at_the_edge_of_what_can_be_are_accepted(rendered, folds, edge):
    assert len(ids(pasture(rendered, folds=folds, **edge).train_dataloader())) == (folds != 0).sum()


def test_more_folds_than_dates_are_refused(rendered):
    with pytest.raises(FoldError, match=r"Lower data.num_folds"):
        pasture(rendered, num_folds=25)


def test_the_strategy_and_the_seed_decide_the_folds(rendered, folds):
    assert not pasture(rendered, seed=43).split.folds.equals(folds)
    dates = read_labels(rendered).set_index("image_id")["Sampling_Date"]
    assert folds.groupby(dates).nunique().eq(1).all()
    assert not pasture(rendered, cv_strategy="random").split.folds.groupby(dates).nunique().eq(1).all()


def test_a_fold_file_takes_the_place_of_the_strategy(rendered, tmp_path):
    given = pd.Series({image_id: n % 3 for n, image_id in enumerate(read_labels(rendered)["image_id"])}, name="fold")
    given.rename_axis("sample_id_prefix").reset_index().to_csv(tmp_path / "given.csv", index=False)
    assert pasture(rendered, fold_csv=tmp_path / "given.csv").split.folds.to_dict() == given.to_dict()


def test_a_fold_file_and_a_strategy_exclude_each_other_whichever_it_is(tmp_path):
    for strategy in ("random", "group_date"):
        with pytest.raises(ConfigError) as caught:
            PastureDataModule(fold_csv=tmp_path / "given.csv", cv_strategy=strategy)
        message = str(caught.value)
        assert "data.fold_csv and data.cv_strategy" in message
        assert "give one of them" in message.lower() and "--data.cv_strategy null" in message


def test_without_strategy_or_fold_file_photos_of_a_day_stay_together(rendered):
    assert pasture(rendered).split.folds.equals(pasture(rendered, cv_strategy="group_date").split.folds)


@pytest.mark.parametrize(("grid", "view_size"), [((2, 2), 16), ((2, 4), 24)])
def test_the_view_size_shrinks_the_views_and_enlarges_their_tiles(rendered, folds, grid, view_size):
    module = pasture(rendered, folds=folds, grid=grid, view_size=view_size, aug_prob=0.0)
    height, width = view_size // grid[0], view_size // grid[1]
    paths = read_labels(rendered).set_index("image_id")["image_path"]
    items = tiles_by_id(module.val_dataloader()) | tiles_by_id(module.train_dataloader())
    assert len(items) == len(paths)
    for image_id, tiles in items.items():
        left = split_views(read_photo(rendered / paths[image_id], at_least=module.geometry.decode_size))[0]
        shrunk = cv2.resize(left, (view_size, view_size), interpolation=cv2.INTER_AREA)
        last = shrunk[-height:, -width:]
        enlarged = cv2.resize(last, (16, 16), interpolation=cv2.INTER_LINEAR)
        assert tiles.shape == (2, grid[0] * grid[1], 3, 16, 16)
        assert np.array_equal(tiles[0, -1].permute(1, 2, 0), enlarged)
    native = tiles_by_id(pasture(rendered, folds=folds, grid=grid).val_dataloader())
    assert not any(torch.equal(items[image_id], tiles) for image_id, tiles in native.items())


@pytest.mark.parametrize(("tile_size", "decoded"), [(14, (32, 64, 3)), (16, (64, 128, 3))])
def test_training_and_validation_see_a_photo_at_one_scale(rendered, folds, tile_size, decoded):
    """Views of 28 pixels leave room for a crop of the photo at half its scale, views of 32 do not."""
    held_out, trained = (pasture(rendered, fold, folds, tile_size=tile_size, aug_prob=0.0) for fold in (0, 1))
    plain, training = tiles_by_id(held_out.val_dataloader()), tiles_by_id(trained.train_dataloader())
    assert plain.keys() < training.keys()
    assert all(torch.equal(tiles, training[image_id]) for image_id, tiles in plain.items())
    photo = held_out.val_dataloader().dataset.photos[0]
    assert read_photo(photo.path, at_least=held_out.geometry.decode_size).shape == decoded


def test_a_missing_folder_is_rendered_only_when_asked_for(tmp_path):
    root = tmp_path / "data"
    with pytest.raises(DataError, match="does not exist"):
        PastureDataModule(root=root).items()
    assert not root.exists()
    module = PastureDataModule(root=root, render_sample=10)
    module.prepare()
    assert len(module.items()) == 10 and root.is_dir()
    module.check()


def test_a_folder_that_is_there_is_never_rendered_over(data, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    module = PastureDataModule(root=data, render_sample=10)
    module.prepare()
    assert len(module.items()) == 24
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    (tmp_path / "empty").mkdir()
    module = PastureDataModule(root=tmp_path / "empty", render_sample=10)
    with pytest.raises(DataError, match=r"train.csv does not exist"):
        module.prepare()
    assert list((tmp_path / "empty").iterdir()) == []


def test_datasets_can_be_sent_to_workers_that_start_from_nothing(rendered, folds):
    """macOS starts its workers that way: everything a dataset holds is pickled."""
    module = pasture(rendered, folds=folds)
    module.select("held_out", views=FLIPS)
    for loader in (module.train_dataloader(), module.predict_dataloader()):
        sent = pickle.loads(pickle.dumps(loader.dataset))
        for index in (0, 1, len(loader.dataset) - 1):
            assert torch.equal(sent[(index, 1)]["tiles"], loader.dataset[(index, 1)]["tiles"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_training_that_goes_on_gets_the_items_of_its_epoch(rendered, folds, num_workers):
    """In its first pass too, which nobody tells the epoch of."""
    whole = pasture(rendered, folds=folds, num_workers=num_workers, batch_size=7).train_dataloader()
    module = pasture(rendered, folds=folds, num_workers=num_workers, batch_size=7)
    module.use(module.split, first_epoch=2)
    loader = module.train_dataloader()
    assert_equal_batches(list(loader), batches(whole, 2))
    assert_equal_batches(batches(loader, 3), batches(whole, 3))


def test_photos_that_are_never_held_out_are_always_trained_on(rendered, tmp_path):
    names = read_labels(rendered)["image_id"]
    given = pd.Series([NEVER_HELD_OUT, 0, 1] * (len(names) // 3), index=names)
    given.rename("fold").reset_index().to_csv(tmp_path / "given.csv", index=False)
    for fold in (0, 1):
        module = pasture(rendered, fold, fold_csv=tmp_path / "given.csv")
        module.check_split()
        assert set(ids(module.train_dataloader())) == set(given.index[given != fold])
        assert set(ids(module.val_dataloader())) == set(given.index[given == fold])
        assert len(module.training_targets()) == module.split.training_count == (given != fold).sum()


def test_a_fold_whose_held_out_grams_are_all_equal_is_refused(data):
    """Bare soil: nothing to explain, and so no score to choose a checkpoint by."""
    module = pasture(data)
    bare = module.split.folds.index[module.split.folds == 0]
    rows = pd.read_csv(data / "train.csv", dtype=str)
    rows.loc[rows["sample_id"].str.rpartition("__")[0].isin(bare), "target"] = "0.0"
    rows.to_csv(data / "train.csv", index=False)
    with pytest.raises(FoldError) as caught:
        pasture(data, 0, module.split.folds).check_split()
    assert f"Fold 0 holds out {len(bare)} photo(s) whose grams are all equal" in str(caught.value)
    pasture(data, 1, module.split.folds).check_split()


def test_a_copy_of_a_photo_is_known_by_its_content_under_any_name(data, folds):
    module = pasture(data, folds=folds)
    before = module.contents()
    assert list(before) == module.names().tolist() and len(set(before.values())) == len(before)
    require_one_fold_per_content(folds, before)
    paths = read_labels(data).set_index("image_id")["image_path"]
    first, other = folds.index[folds == 0][0], folds.index[folds == 1][0]
    (data / paths[other]).write_bytes((data / paths[first]).read_bytes())
    after = module.contents()
    assert after[first] == after[other] == before[first]
    with pytest.raises(FoldError, match=rf"{min(first, other)} \(fold .\) and {max(first, other)} \(fold .\)"):
        require_one_fold_per_content(folds, after)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_left_out_is_not_predicted_in_any_view(rendered, folds, num_workers):
    module = pasture(rendered, folds=folds, num_workers=num_workers)
    module.select("held_out", views=FLIPS)
    everything = list(dict.fromkeys(ids(module.predict_dataloader())))
    module.leave_out({everything[1]})
    kept = [everything[0], *everything[2:]]
    assert ids(module.predict_dataloader()) == [name for name in kept for _ in range(3)]
    assert set(module.wanted_views(training=False)) == set()  # the bank keeps no flips
    module.select("held_out")
    assert len(module.wanted_views(training=False)) == len(everything)


def test_a_whole_photo_is_one_view_of_its_own_shape(rendered, folds):
    module = pasture(rendered, folds=folds, views="whole", grid=(1, 2))
    assert module.view_shape() == (1, 2) and module.photo_grid() == (1, 2)
    paths = read_labels(rendered).set_index("image_id")["image_path"]
    for image_id, tiles in tiles_by_id(module.val_dataloader()).items():
        photo = read_photo(rendered / paths[image_id], at_least=module.geometry.decode_size)
        shrunk = cv2.resize(photo, (32, 16), interpolation=cv2.INTER_AREA)
        assert tiles.shape == (1, 2, 3, 16, 16)
        assert np.array_equal(tiles[0, 1].permute(1, 2, 0), shrunk[:, 16:])


@pytest.mark.parametrize("settings", [{"mixup_prob": 0.5}, {"cutmix_prob": 0.5}])
def test_whole_photos_are_not_mixed(settings):
    with pytest.raises(ConfigError, match=r"or data\.views to halves"):
        PastureDataModule(views="whole", **settings)
