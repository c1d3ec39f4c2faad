"""Measured photos fold by fold: what a batch holds, groups, folds, what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from biomass_pl.data.splits import require_one_fold_per_content
from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.trait.data import RegressionDataModule
from tests.trait.conftest import COUNT, TABLE, measurements, write_photos

TARGETS = ["green", "dead", "total"]


def batches(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def ids(loader):
    return [name for batch in loader for name in batch["id"]]


@pytest.mark.parametrize(("views", "grid", "shape"), [("whole", (2, 2), (1, 4)), ("halves", (1, 3), (2, 3))])
def test_a_batch_holds_tiles_of_photos_of_any_shape_and_what_was_measured(measured, views, grid, shape):
    module = measurements(measured, views=views, grid=grid)
    assert module.view_shape() == shape and module.photo_grid() == (grid[0], shape[0] * grid[1])
    truth = TABLE.set_index("file")[TARGETS].astype(np.float32)
    for loader in (module.train_dataloader(), module.val_dataloader()):
        for batch in loader:
            assert list(batch) == ["id", "tiles", "target"]
            assert batch["tiles"].shape == (len(batch["id"]), *shape, 3, 16, 16) and batch["tiles"].dtype == torch.uint8
            np.testing.assert_array_equal(batch["target"].numpy(), truth.loc[batch["id"]].to_numpy())
            assert batch["target"].dtype == torch.float32


def test_workers_change_nothing(measured):
    loaders = [measurements(measured, num_workers=count).train_dataloader() for count in (0, 2)]
    for epoch in (0, 1):
        one, other = (batches(loader, epoch) for loader in loaders)
        assert [batch["id"] for batch in one] == [batch["id"] for batch in other]
        assert all(torch.equal(a["tiles"], b["tiles"]) for a, b in zip(one, other, strict=True))


def test_native_tiles_are_the_photo_s_own_pixels(measured):
    module = measurements(measured, grid=(1, 1), native_tiles=True)
    photos = module.photos()
    for batch in module.val_dataloader():
        for name, tiles in zip(batch["id"], batch["tiles"], strict=True):
            photo = photos.read(name)
            top, left = (round((length - 16) / 2) for length in photo.shape[:2])
            assert np.array_equal(tiles[0, 0].permute(1, 2, 0), photo[top : top + 16, left : left + 16])


def test_items_are_what_was_measured_with_groups_and_the_truth_names_units(measured):
    module = measurements(measured, units=["g", "g", "kg"])
    assert list(module.items()) == ["image_id", "group", *TARGETS]
    assert module.items()["group"].tolist() == TABLE["farm"].tolist()
    assert module.truth.columns == tuple(TARGETS) and module.truth.units == ("g", "g", "kg")


def test_a_group_is_held_out_together_and_every_photo_once(measured):
    folds = measurements(measured).split.folds
    assert set(folds) == {0, 1, 2, 3} and len(folds) == COUNT
    assert folds.groupby(TABLE["farm"].to_numpy()).nunique().eq(1).all()
    alone = measurements(measured, group_column=None)
    assert alone.split.folds.groupby(TABLE["farm"].to_numpy()).nunique().gt(1).any()
    assert "group" not in alone.items()


def test_without_groups_every_fold_has_small_and_large_values(measured):
    folds = measurements(measured, group_column=None, targets=["dead"], num_folds=3).split.folds
    quarters = pd.qcut(TABLE["dead"], 4, labels=False).to_numpy()
    counts = pd.crosstab(quarters, folds.to_numpy())
    assert counts.to_numpy().max() - counts.to_numpy().min() <= 2 and (counts > 0).all(axis=None)


def test_given_folds_are_kept_unless_they_part_a_group(measured, tmp_path):
    given = pd.DataFrame({"image_id": TABLE["file"], "fold": [int(farm) % 2 for farm in TABLE["farm"]]})
    given.to_csv(tmp_path / "folds.csv", index=False)
    assert measurements(measured, fold_csv=tmp_path / "folds.csv").split.folds.tolist() == given["fold"].tolist()
    given.loc[0, "fold"] = 1
    given.to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(FoldError, match=r"1 group\(s\) of the column farm into several folds.*\n.*00"):
        measurements(measured, fold_csv=tmp_path / "folds.csv")
    measurements(measured, fold_csv=tmp_path / "folds.csv", group_column=None)


def test_too_few_groups_for_the_folds_are_told(measured):
    with pytest.raises(FoldError, match="Grouping by farm finds 8 groups for 9 folds"):
        measurements(measured, num_folds=9)


def test_a_fold_without_two_different_values_of_any_target_is_refused(measured, tmp_path):
    given = pd.DataFrame({"image_id": TABLE["file"], "fold": -1})
    given.loc[[5], "fold"] = 0
    given.to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(FoldError, match=r"Fold 0 holds out 1 photo\(s\) without two different values"):
        measurements(measured, fold_csv=tmp_path / "folds.csv", group_column=None).check_split()
    measurements(measured).check_split()


def test_training_targets_are_those_of_the_training_photos_alone(measured):
    module = measurements(measured, 2)
    trained = TABLE[~module.split.held_out(TABLE["file"])]
    np.testing.assert_array_equal(module.training_targets(), trained[TARGETS].to_numpy())


def test_test_photos_come_in_their_order_and_files_under_their_paths(measured):
    module = measurements(measured)
    module.select("test", views=("plain", "left-right"))
    assert ids(module.predict_dataloader()) == [name for n in (3, 1, 2) for name in [f"photos/{n:02}.png"] * 2]
    paths = [measured / "photos" / "04.png"]
    module.select("files", files=paths)
    assert ids(module.predict_dataloader()) == [str(paths[0])] and module.broken_items() == {}
    assert list(next(iter(module.predict_dataloader()))) == ["id", "tiles"]


def test_missing_photos_are_told_together_and_missing_values_counted(measured, tmp_path, caplog):
    root = write_photos(tmp_path / "data")
    (root / "photos" / "03.png").unlink()
    (root / "photos" / "07.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 photo\(s\) cannot be used"):
        measurements(root).check()
    with caplog.at_level("INFO"):
        measurements(measured).prepare()
    counts = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert counts == ["4 of 24 photos have no green", "4 of 24 photos have no total"]


def test_a_copy_of_a_photo_under_another_name_is_known(tmp_path):
    root = write_photos(tmp_path / "data")
    (root / "photos" / "01.png").write_bytes((root / "photos" / "00.png").read_bytes())
    module = measurements(root, group_column=None)
    folds = pd.Series(np.arange(COUNT) % 2, index=module.names())
    with pytest.raises(FoldError, match="The same photo"):
        require_one_fold_per_content(folds, module.contents())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"units": ["g"]}, "data.units has 1 units for 3 targets"),
        ({"aug_prob": 2.0}, "data.aug_prob is 2.0"),
        ({"bank_views": -1}, "data.bank_views is -1"),
        ({"bank_limit_gb": 0.0}, "data.bank_limit_gb is 0.0"),
        ({"targets": ["a", "a", "b"]}, "names 'a' twice"),
        ({"views": "halves", "native_tiles": True}, "Set data.views to whole"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(setting, message):
    with pytest.raises(ConfigError, match=message):
        RegressionDataModule(**{"targets": TARGETS, **setting})
