"""The loader that every system's data uses, and what is refused before it."""

import tempfile
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import Dataset

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.sampling import EpochSampler, shuffled
from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError


class Keys(Dataset):
    """Gives back what it is asked for, and how many threads OpenCV has there."""

    def __getitem__(self, key):
        index, epoch = key
        return {"index": index, "epoch": epoch, "threads": cv2.getNumThreads()}


class Photos(FoldDataModule):
    """The smallest data module there can be."""

    def items(self):
        return pd.DataFrame({"image_id": ["a", "b"]})

    def make_folds(self):
        return pd.Series([0, 1], index=["a", "b"])

    def check(self):
        pass

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


def order_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return [index for index, _ in sampler]


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


def test_the_trainer_tells_the_sampler_every_epoch(tmp_path):
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, train_dataloaders=photos().loader(Keys(), 6, order=shuffled(6)))
    sampler = EpochSampler(length=6, order=shuffled(6), seed=3)
    assert recorder.seen == [(epoch, index) for epoch in range(3) for index in order_of(sampler, epoch)]


def test_workers_that_could_not_hand_over_their_batches_are_refused(tmp_path, monkeypatch):
    """Their sockets' paths would be too long, and training would wait for ever."""
    folder = tmp_path / ("long" * 20)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    settings = {"root": tmp_path, "batch_size": 1, "prefetch_factor": 2, "seed": 0}
    with pytest.raises(ConfigError, match="TMPDIR"):
        Photos(num_workers=1, **settings)
    assert Photos(num_workers=0, **settings).num_workers == 0
