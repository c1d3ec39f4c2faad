"""The loader that every system's data uses, and what is refused before it."""

import logging
import math
import os
import tempfile
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import Dataset

from biomass_pl.data import base
from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.sampling import EpochSampler, shuffled
from biomass_pl.data.splits import Split
from biomass_pl.data.stored_features import StoredFeatures
from biomass_pl.errors import ConfigError


class Keys(Dataset):
    """Gives back what it is asked for, and how many threads OpenCV has there."""

    def __getitem__(self, key):
        index, epoch = key
        return {"index": index, "epoch": epoch, "threads": cv2.getNumThreads()}


class Photos(FoldDataModule):
    """The smallest data module there can be; it is trained on six items in another order every epoch."""

    def items(self):
        return pd.DataFrame({"image_id": ["a", "b"]})

    def make_folds(self):
        return pd.Series([0, 1], index=["a", "b"])

    def check(self):
        pass

    def training_loader(self):
        return self.loader(Keys(), 6, order=shuffled(6))

    def plain_loader(self, *, held_out):
        return self.loader(Keys(), 2)

    def select(self, source, *, files=(), views=("plain",)):
        pass

    def broken_items(self):
        return {}

    def leave_out(self, names):
        pass


def photos(*, batch_size=4, num_workers=0, prefetch_factor=2, seed=3):
    return Photos(
        root=Path("data"),
        batch_size=batch_size,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor,
        seed=seed,
    )


def test_what_is_held_out_is_told_by_use():
    module = photos()
    module.use(Split(fold=1, folds=module.make_folds()))
    assert module.split.fold == 1 and module.split.folds.to_dict() == {"a": 0, "b": 1}


def test_a_batch_larger_than_the_training_photos_of_the_fold_is_refused():
    folds = pd.Series([0, 0, 0, 1, 1], index=list("abcde"))
    for fold, training in ((0, 2), (1, 3)):
        module = photos(batch_size=training)
        module.use(Split(fold=fold, folds=folds))
        module.check_split()
        module = photos(batch_size=training + 1)
        module.use(Split(fold=fold, folds=folds))
        with pytest.raises(ConfigError) as caught:
            module.check_split()
        assert f"data.batch_size {training + 1} is more than the {training} training photos" in str(caught.value)
        assert f"of fold {fold}. Lower it to {training} at most" in str(caught.value)


def test_without_tables_there_are_no_features_beside_the_pictures():
    assert photos().table_features(None) is None and photos().table_features(["age"]) is None


def test_what_every_data_module_must_offer_cannot_be_left_out():
    with pytest.raises(TypeError, match="abstract"):
        FoldDataModule(root=Path("data"), batch_size=1, num_workers=0, prefetch_factor=1, seed=0)


def test_the_loader_makes_batches_of_the_size_asked_for_and_drops_no_photo():
    batches = list(photos().loader(Keys(), 10))
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_workers_hand_out_the_same_order_one_thread_each():
    loaders = [photos(num_workers=workers).loader(Keys(), 10, order=shuffled(10)) for workers in (0, 2)]
    for epoch in (0, 1):
        batches = []
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
            batches.append(list(loader))
        alone, shared = batches
        assert [batch["index"].tolist() for batch in alone] == [batch["index"].tolist() for batch in shared]
        assert all((batch["epoch"] == epoch).all() for batch in alone + shared)
        assert all((batch["threads"] == 1).all() for batch in shared)


@pytest.mark.parametrize(("setting", "least"), [("batch_size", 1), ("prefetch_factor", 1), ("num_workers", 0)])
def test_numbers_that_are_too_small_are_refused_by_name(setting, least):
    photos(**{setting: least})
    with pytest.raises(ConfigError, match=f"data.{setting} is {least - 1}; give {least} or more"):
        photos(**{setting: least - 1})


@pytest.mark.parametrize("prefetch_factor", [1, 3])
def test_each_worker_prepares_as_many_batches_ahead_as_asked(prefetch_factor):
    loader = photos(num_workers=2, prefetch_factor=prefetch_factor, batch_size=1).loader(Keys(), 20)
    assert loader.prefetch_factor == prefetch_factor
    iterator = iter(loader)
    assert iterator._tasks_outstanding == 2 * prefetch_factor
    assert [batch["index"].item() for batch in iterator] == list(range(20))


def test_without_workers_nothing_is_prepared_ahead():
    loader = photos(prefetch_factor=3).loader(Keys(), 6)
    assert loader.prefetch_factor is None and len(list(loader)) == 2


class Recorder(LightningModule):
    """Notes what it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        self.seen += zip(batch["epoch"].tolist(), batch["index"].tolist(), strict=True)
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(module, folder, *, epochs, resumed=None):
    """What a training saw, and its last checkpoint."""
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(recorder, datamodule=module, ckpt_path=resumed)
    trainer.save_checkpoint(folder / "last.ckpt")
    return recorder.seen, folder / "last.ckpt"


def module_from(first_epoch, num_workers):
    module = photos(num_workers=num_workers)
    module.use(Split(fold=0, folds=module.make_folds()), first_epoch=first_epoch)
    return module


WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@WORKERS
def test_the_first_pass_has_the_items_of_the_first_epoch_and_the_next_those_of_the_next(num_workers):
    loader = module_from(3, num_workers).train_dataloader()
    passes = []
    for epoch in (3, 4):
        if epoch > 3:
            loader.sampler.set_epoch(epoch)
        passes.append([item for b in loader for item in zip(b["index"].tolist(), b["epoch"].tolist(), strict=True)])
    sampler = EpochSampler(length=6, order=shuffled(6), seed=3)
    for epoch, found in zip((3, 4), passes, strict=True):
        sampler.set_epoch(epoch)
        assert found == list(sampler) == [(index, epoch) for index, _ in found]


@WORKERS
def test_a_training_that_goes_on_sees_what_the_undisturbed_one_saw(num_workers, tmp_path):
    whole, _ = trained(module_from(0, num_workers), tmp_path, epochs=4)
    assert [epoch for epoch, _ in whole] == [epoch for epoch in range(4) for _ in range(6)]
    sampler = EpochSampler(length=6, order=shuffled(6), seed=3)
    expected = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        expected += [(epoch, index) for index, _ in sampler]
    assert whole == expected
    first, checkpoint = trained(module_from(0, num_workers), tmp_path, epochs=2)
    second, _ = trained(module_from(2, num_workers), tmp_path, epochs=4, resumed=checkpoint)
    assert first + second == whole


def test_a_new_split_begins_from_pixels_and_from_the_first_epoch():
    module = module_from(3, 0)
    module.use_features(StoredFeatures(feature_set=None, keys={}, views=1, epochs=math.inf))
    module.use(Split(fold=1, folds=module.make_folds()))
    assert module.features is None and module.first_epoch == 0
    assert {epoch for _, epoch in module.train_dataloader().sampler} == {0}


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5}, raising=False)
    base._at_most_cores.cache_clear()
    yield
    base._at_most_cores.cache_clear()


def test_more_workers_than_cores_are_lowered_with_one_line(three_cores, caplog):
    with caplog.at_level(logging.INFO, logger="biomass_pl"):
        found = [photos(num_workers=wanted).num_workers for wanted in (4, 3, 0, 4)]
    assert found == [3, 3, 0, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "data.num_workers 4 is lowered to 3, the cores of this machine"
    ]


def test_items_are_named_by_the_first_column_and_have_no_content_of_their_own():
    assert photos().names().tolist() == ["a", "b"] and photos().contents() is None


def test_workers_that_could_not_hand_over_their_batches_are_refused(tmp_path, monkeypatch):
    """Their sockets' paths would be too long, and training would wait for ever."""
    folder = tmp_path / ("long" * 20)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    settings = {"root": tmp_path, "batch_size": 1, "prefetch_factor": 2, "seed": 0}
    with pytest.raises(ConfigError, match="TMPDIR"):
        Photos(num_workers=1, **settings)
    assert Photos(num_workers=0, **settings).num_workers == 0
