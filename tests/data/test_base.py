"""The order of items, and the loader that every system's data uses."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import Dataset

from biomass_pl.data.base import Draw, EpochSampler, FoldDataModule, shuffled
from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError


class Keys(Dataset):
    """Gives back what it is asked for, and how many threads OpenCV has there."""

    def __getitem__(self, key):
        index, epoch = key
        return {"index": index, "epoch": epoch, "threads": cv2.getNumThreads()}


class Photos(FoldDataModule):
    """The smallest data module there can be."""

    def labels(self):
        return pd.DataFrame({"image_id": ["a", "b"]})

    def make_folds(self):
        return pd.Series([0, 1], index=["a", "b"])

    def check(self):
        pass

    def select(self, split, *, images=(), flips=False):
        pass

    def check_selected(self):
        pass


def photos(*, batch_size=4, num_workers=0, prefetch_factor=2, seed=3):
    return Photos(
        root=Path("data"),
        batch_size=batch_size,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor,
        seed=seed,
    )


def order_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def shares(sampler, processes, epoch=0):
    """The indices that each of several processes gets."""
    found = []
    for rank in range(processes):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.distributed, "is_initialized", lambda: True)
            patched.setattr(torch.distributed, "get_world_size", lambda: processes)
            patched.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            found.append([index for index, _ in order_of(sampler, epoch)])
            assert len(sampler) == len(found[-1])
    return found


@settings(max_examples=25, deadline=None)
@given(length=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 500), shuffle=st.booleans())
def test_every_epoch_hands_out_each_index_once_with_its_epoch(length, seed, epoch, shuffle):
    sampler = EpochSampler(length=length, draw=shuffled(length) if shuffle else None, seed=seed)
    order = order_of(sampler, epoch)
    assert sorted(order) == [(index, epoch) for index in range(length)]
    assert len(sampler) == length
    assert list(sampler) == order


def test_without_a_draw_the_order_is_that_of_the_photos_in_every_epoch():
    sampler = EpochSampler(length=5, draw=None, seed=0)
    assert order_of(sampler, 0) == [(index, 0) for index in range(5)]
    assert order_of(sampler, 7) == [(index, 7) for index in range(5)]


def test_the_shuffled_order_depends_on_seed_and_epoch_alone():
    first = {epoch: order_of(EpochSampler(length=30, draw=shuffled(30), seed=1), epoch) for epoch in range(4)}
    used = EpochSampler(length=30, draw=shuffled(30), seed=1)
    assert {epoch: order_of(used, epoch) for epoch in (3, 1, 0, 2)} == first
    indices = [[index for index, _ in order] for order in first.values()]
    assert len({tuple(order) for order in [*indices, list(range(30))]}) == 5
    other = order_of(EpochSampler(length=30, draw=shuffled(30), seed=2), 0)
    assert other != first[0]


def test_a_draw_may_leave_items_out_and_take_some_twice():
    sampler = EpochSampler(length=9, draw=Draw(items=lambda rng: np.array([7, 2, 7])), seed=0)
    assert order_of(sampler, 4) == [(7, 4), (2, 4), (7, 4)] and len(sampler) == 3


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 40), processes=st.integers(1, 5))
def test_validation_photos_are_shared_out_without_a_double(length, processes):
    found = shares(EpochSampler(length=length, draw=None, seed=0), processes)
    assert sorted(index for share in found for index in share) == list(range(length))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@settings(max_examples=60, deadline=None)
@given(turns=st.integers(1, 8), together=st.integers(1, 6), processes=st.integers(1, 5), epoch=st.integers(0, 9))
def test_processes_take_turns_by_whole_runs_in_the_order_of_one(turns, together, processes, epoch):
    length = turns * together
    draw = Draw(items=lambda rng: rng.permutation(length), together=together)
    sampler = EpochSampler(length=length, draw=draw, seed=5)
    order = [index for index, _ in order_of(sampler, epoch)]
    found = [np.reshape(share, (-1, together)).tolist() for share in shares(sampler, processes, epoch)]
    dealt = [run for turn in zip(*found, strict=True) for run in turn]
    runs = np.reshape(order, (-1, together)).tolist()
    rounds = -(-turns // processes)
    assert dealt == (runs * processes)[: rounds * processes]  # the first ones again fill up the last turn


def test_only_what_fills_the_last_turn_is_given_twice():
    found = shares(EpochSampler(length=7, draw=Draw(items=lambda rng: np.arange(7)), seed=0), 3)
    assert found == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]
    by_two = Draw(items=lambda rng: np.arange(6), together=2)
    assert shares(EpochSampler(length=6, draw=by_two, seed=0), 2) == [[0, 1, 4, 5], [2, 3, 0, 1]]


@pytest.mark.parametrize("draw", [None, shuffled(6)])
def test_what_is_not_shared_every_process_has_as_a_whole(draw):
    sampler = EpochSampler(length=6, draw=draw, seed=0, shared=False)
    alone = [index for index, _ in order_of(sampler)]
    assert shares(sampler, 2) == [alone, alone] and sorted(alone) == list(range(6))


def test_the_fold_to_hold_out_is_told_by_use_fold():
    module = photos()
    module.use(Split(fold=1, folds=module.make_folds()))
    assert module.fold == 1 and module.folds.to_dict() == {"a": 0, "b": 1}


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
    loaders = [photos(num_workers=workers).loader(Keys(), 10, draw=shuffled(10)) for workers in (0, 2)]
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
    trainer.fit(recorder, train_dataloaders=photos().loader(Keys(), 6, draw=shuffled(6)))
    sampler = EpochSampler(length=6, draw=shuffled(6), seed=3)
    assert recorder.seen == [(epoch, index) for epoch in range(3) for index, _ in order_of(sampler, epoch)]


def test_workers_that_could_not_hand_over_their_batches_are_refused(tmp_path, monkeypatch):
    """Their sockets' paths would be too long, and training would wait for ever."""
    folder = tmp_path / ("long" * 20)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    settings = {"root": tmp_path, "batch_size": 1, "prefetch_factor": 2, "seed": 0}
    with pytest.raises(ConfigError, match="TMPDIR"):
        Photos(num_workers=1, **settings)
    assert Photos(num_workers=0, **settings).num_workers == 0
