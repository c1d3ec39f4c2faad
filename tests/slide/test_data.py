"""Specimens one split at a time: what is learned from, held out and tested on, in which batches, and what is refused."""

import hashlib
import json
import os
from pathlib import Path

import h5py
import jsonargparse
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from biomass_pl.cli import main
from biomass_pl.data.splits import NEVER_HELD_OUT, Split
from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.slide.bags import BagAugmentation
from biomass_pl.slide.data import SlideDataModule

HDF5 = {
    "hdf5_filename": Path("specimens.hdf5"),
    "hdf5_feature_attribute": "patch_features_comp_0",
    "hdf5_text_attribute": "report",
}
DIRECTORIES = {"root_dir": Path("features"), "text_data_file": Path("reports.json")}
SPLITS = {f"{part}_split": Path(f"splits/{part}.txt") for part in ("train", "val", "test")}


@pytest.fixture
def module(specimen_folders):
    """Makes a data module of the rendered specimens that was told a split."""

    def made(fold=0, *, folds=None, first_epoch=0, layout="hdf5", **settings):
        where = HDF5 if layout == "hdf5" else DIRECTORIES
        settings = {"batch_size": 4, "num_workers": 0, **where, **settings}
        data = SlideDataModule(root=specimen_folders / layout, **settings)
        data.use(Split(fold=fold, folds=data.make_folds() if folds is None else folds), first_epoch=first_epoch)
        return data

    return made


@pytest.fixture(scope="module")
def named(specimen_folders) -> dict[str, list[str]]:
    """The ids in the split files."""
    folder = specimen_folders / "hdf5" / "splits"
    return {part: (folder / f"{part}.txt").read_text().strip().split(",") for part in ("train", "val", "test")}


def ids(loader):
    return [name for batch in loader for name in batch["id"]]


def content(batches):
    return [
        (batch["id"], batch["report"], batch["features"].numpy().tobytes(), batch["valid"].tolist())
        for batch in batches
    ]


def test_both_layouts_give_the_same_items_folds_and_batches(module):
    one, other = module(), module(layout="directories")
    assert list(one.items()) == ["specimen_id", "patient_id", "report", "vectors"]
    key = {"by": "specimen_id", "ignore_index": True}
    pd.testing.assert_frame_equal(one.items().sort_values(**key), other.items().sort_values(**key))
    assert one.split.folds.to_dict() == other.split.folds.to_dict()
    assert one.input_dim == other.input_dim == 384
    assert of_each_specimen(one.val_dataloader()) == of_each_specimen(other.val_dataloader())


def of_each_specimen(loader):
    return {
        name: (batch["report"][row], batch["features"][row][batch["valid"][row]].tolist())
        for batch in loader
        for row, name in enumerate(batch["id"])
    }


@pytest.mark.parametrize("seed", [42, 1])
def test_without_files_folds_of_about_one_size_hold_out_whole_patients(module, seed):
    data = module(seed=seed)
    items = data.items().set_index("specimen_id")
    folds = data.split.folds
    assert folds.index.tolist() == items.index.tolist() and folds.index.name == "specimen_id" and len(folds) == 60
    assert folds.groupby(items["patient_id"]).nunique().eq(1).all()
    assert folds.value_counts().between(11, 13).all() and set(folds) == set(range(5))
    assert not module(seed=seed + 1).split.folds.equals(folds) and module(seed=seed).split.folds.equals(folds)
    assert data.test_items() is None


def test_split_files_say_what_is_learned_from_held_out_and_tested_on(module, named):
    data = module(**SPLITS)
    assert data.names().tolist() == named["train"] + named["val"]
    assert data.split.folds.to_dict() == dict.fromkeys(named["train"], NEVER_HELD_OUT) | dict.fromkeys(named["val"], 0)
    assert data.split.folds.index.name == "specimen_id" and data.split.folds.name == "fold"
    assert data.training_count == len(named["train"])
    assert set(ids(data.train_dataloader())) <= set(named["train"])
    assert sorted(ids(data.val_dataloader())) == sorted(named["val"])
    assert data.test_items()["specimen_id"].tolist() == named["test"]
    assert list(data.test_items()) == list(data.items()) and data.test_items().index.tolist() == list(
        range(len(named["test"]))
    )
    for source in ("held_out", "test"):
        data.select(source)
        assert sorted(ids(data.predict_dataloader())) == sorted(named["val" if source == "held_out" else source])
    assert data.broken_items() == {}
    data.leave_out(named["test"][1:])
    assert ids(data.predict_dataloader()) == named["test"][:1]


def test_without_a_file_of_those_to_validate_on_the_training_specimens_are_dealt_into_folds(module, named):
    data = module(num_folds=3, train_split=SPLITS["train_split"], test_split=SPLITS["test_split"])
    assert sorted(data.split.folds.index) == sorted(named["train"]) and set(data.split.folds) == {0, 1, 2}
    everything = module(num_folds=3, test_split=SPLITS["test_split"])
    assert sorted(everything.names()) == sorted(named["train"] + named["val"])


def test_a_split_may_have_several_files_beside_the_data_or_elsewhere(module, named, tmp_path):
    (tmp_path / "mine.txt").write_text("\n".join(named["test"]))
    data = module(train_split=[SPLITS["train_split"], tmp_path / "mine.txt"], val_split=[SPLITS["val_split"]])
    assert data.names().tolist() == named["train"] + named["test"] + named["val"]


def test_given_folds_take_the_place_of_dealt_ones_and_keep_patients_together(module, tmp_path):
    dealt = module().split.folds
    path = tmp_path / "folds.csv"
    dealt.replace({4: NEVER_HELD_OUT}).reset_index().to_csv(path, index=False)
    data = module(3, fold_csv=path)
    assert data.split.folds.to_dict() == dealt.replace({4: NEVER_HELD_OUT}).to_dict()
    assert set(ids(data.val_dataloader())) == set(dealt.index[dealt == 3])
    patients = data.items().set_index("specimen_id")["patient_id"]
    shared = patients.index[patients == patients.value_counts().index[0]]
    moved = dealt.copy()
    moved[shared[0]] = (moved[shared[0]] + 1) % 5
    moved.reset_index().to_csv(path, index=False)
    with pytest.raises(
        FoldError, match=rf"data\.fold_csv puts specimens of 1 patient\(s\).*\n  {patients[shared[0]]}: "
    ):
        module(fold_csv=path)
    assert module(fold_csv=path, allow_shared_patients=True).split.folds.to_dict() == moved.to_dict()


@pytest.mark.parametrize("splits", [{}, SPLITS])
def test_so_many_samples_are_learned_from_and_all_are_validated_on(module, splits):
    data, whole = module(num_samples=9, **splits), module(**splits)
    trained = [name for name in whole.names() if whole.split.folds[name] != 0]
    assert data.training_count == 9 and len(trained) > 9
    assert set(ids(data.plain_loader(held_out=False))) == set(trained[:9])
    assert set(ids(data.train_dataloader())) <= set(trained[:9]) and len(ids(data.train_dataloader())) == 8
    assert ids(data.val_dataloader()) == ids(whole.val_dataloader())
    assert data.training_reports() == whole.training_reports()[:9]
    assert module(num_samples=1000, **splits).training_count == len(trained)


def test_training_reports_are_those_of_the_fold(module):
    data = module(2)
    items = data.items()
    trained = items[(data.split.folds != 2).to_numpy()]
    assert data.training_reports() == trained["report"].tolist() and len(trained) < len(items)


def test_training_batches_are_whole_of_similar_sizes_and_others_in_every_epoch(module):
    data = module(batch_size=5)
    loader = data.train_dataloader()
    assert len(loader) == 48 // 5
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        epochs.append(list(loader))
    assert all(len(batch["id"]) == 5 for batches in epochs for batch in batches)
    assert len({tuple(batch["id"]) for batches in epochs for batch in batches}) == 27
    sizes = data.items().set_index("specimen_id")["vectors"]
    spans = [np.ptp(sizes[batch["id"]]) for batches in epochs for batch in batches]
    rng = np.random.default_rng(0)
    assert np.mean(spans) < 0.7 * np.mean([np.ptp(rng.choice(sizes, 5, replace=False)) for _ in range(500)])


def test_evaluation_begins_with_the_largest_and_has_all_as_they_are(module):
    data = module(aug_cfg={"noise": 1.0, "drop_patches": 0.5}, batch_size=5)
    sizes = data.items().set_index("specimen_id")["vectors"]
    for loader, names in (
        (data.val_dataloader(), sizes.index[(data.split.folds == 0).to_numpy()]),
        (data.plain_loader(held_out=False), sizes.index[(data.split.folds != 0).to_numpy()]),
        (data.loader_of(sizes.index[3:9].tolist()), sizes.index[3:9]),
    ):
        batches = list(loader)
        seen = [name for batch in batches for name in batch["id"]]
        assert sorted(seen) == sorted(names) and (np.diff(sizes[seen]) <= 0).all()
        assert [int(n) for batch in batches for n in batch["valid"].sum(dim=1)] == sizes[seen].tolist()
        assert content(batches) == content(loader)


def test_bags_are_cut_and_changed_as_asked_in_training_alone(module):
    data = module(image_features_cutoff=12, aug_cfg=["subsample=0.5"])
    assert all(batch["features"].shape[1:] == (6, 384) for batch in data.train_dataloader())
    assert all(batch["features"].shape[1:] == (12, 384) for batch in data.val_dataloader())
    assert content(data.val_dataloader()) == content(module(image_features_cutoff=12).val_dataloader())
    # Bags of one size are not sorted by what they were before.
    assert ids(data.val_dataloader()) == data.split.folds.index[data.split.folds == 0].tolist()


class Recorder(LightningModule):
    """Writes down what each training step is given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        digest = hashlib.sha256(batch["features"].numpy().tobytes()).hexdigest()
        self.seen.append((self.current_epoch, batch["id"], batch["report"], digest))
        return self.weight.sum() * batch["features"].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_a_resumed_training_with_workers_sees_the_batches_of_an_undisturbed_one(module, tmp_path):
    changes = {"aug_cfg": {"noise": 0.1, "drop_patches": 0.2}, "image_features_cutoff": 25}

    def trained(epochs, *, first_epoch=0, workers, checkpoint=None):
        task = Recorder()
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
        )
        trainer.fit(task, module(first_epoch=first_epoch, num_workers=workers, **changes), ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return task.seen

    whole = trained(4, workers=0)
    assert len(whole) == 48 and trained(2, workers=2) == whole[:24]
    assert trained(4, first_epoch=2, workers=2, checkpoint=tmp_path / "last.ckpt") == whole[24:]
    assert len({digest for *_, digest in whole}) == 48


def test_workers_read_and_the_main_process_opens_the_file_again(module):
    data = module(num_workers=2)
    first = content(data.val_dataloader())
    assert first == content(module().val_dataloader())
    data.select("held_out")
    assert data.broken_items() == {} and content(data.predict_dataloader()) == first


def test_processes_share_out_training_and_validation_but_not_prediction(module, monkeypatch):
    alone = module()
    training, validation = ids(alone.train_dataloader()), ids(alone.val_dataloader())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        data = module()
        data.select("held_out")
        assert ids(data.predict_dataloader()) == validation
        shares.append((ids(data.train_dataloader()), ids(data.val_dataloader())))
    batches = np.array(training).reshape(-1, 4)
    assert [np.array(share[0]).reshape(-1, 4).tolist() for share in shares] == [
        batches[rank::2].tolist() for rank in range(2)
    ]
    assert [share[1] for share in shares] == [validation[rank::2] for rank in range(2)]


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"image_features_cutoff": 0}, ConfigError, r"data\.image_features_cutoff is 0"),
        ({"num_samples": 0}, ConfigError, r"data\.num_samples is 0"),
        ({"batch_size": 0}, ConfigError, r"data\.batch_size is 0"),
        ({"aug_cfg": {"flip": 1}}, ConfigError, r"data\.aug_cfg does not know 'flip'"),
        ({"val_split": Path("v"), "fold_csv": Path("f")}, ConfigError, r"data\.val_split and data\.fold_csv both"),
        (
            {"num_folds": 100},
            FoldError,
            r"Grouping by patient_id finds \d+ groups for 100 folds.*or give data\.val_split",
        ),
        ({"val_split": Path("absent.txt")}, DataError, r"absent\.txt does not exist. Correct data\.val_split"),
        ({"hdf5_filename": Path("absent.hdf5")}, DataError, r"hdf5/absent\.hdf5 does not exist"),
        ({"hdf5_feature_attribute": "uni"}, ConfigError, r"has patch_features_comp_0, report. Correct data\.hdf5_feat"),
        ({"hdf5_text_attribute": "text"}, ConfigError, r"Correct data\.hdf5_text_attribute"),
        ({"fold_csv": Path("absent.csv")}, FoldError, r"absent\.csv does not exist"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, kind, message, module):
    with pytest.raises(kind, match=message):
        module(**settings)


def test_a_patient_in_two_splits_is_refused_unless_allowed(module, named, tmp_path):
    patients = module().items().set_index("specimen_id")["patient_id"]
    moved = next(name for name in named["train"] if (patients[named["train"]] == patients[name]).sum() > 1)
    for part in ("train", "val"):
        chosen = [name for name in named["train"] if name != moved] if part == "train" else [*named["val"], moved]
        (tmp_path / f"{part}.txt").write_text(",".join(chosen))
    splits = {f"{part}_split": tmp_path / f"{part}.txt" for part in ("train", "val")}
    with pytest.raises(FoldError, match=rf"1 patient\(s\) are in several splits.*\n  {patients[moved]}: "):
        module(**splits)
    assert module(**splits, allow_shared_patients=True).split.folds[moved] == 0


def test_batches_larger_than_the_training_specimens_are_refused(module):
    with pytest.raises(ConfigError, match=r"data\.batch_size 49 is more than the 48 training specimens of fold 0"):
        module(batch_size=49).check_split()
    with pytest.raises(ConfigError, match=r"batch_size 4 is more than the 3 training specimens"):
        module(num_samples=3).check_split()
    module(batch_size=48).check_split()


def test_what_there_is_not_cannot_be_predicted(module):
    with pytest.raises(ConfigError, match=r"--data\.test_split FILE"):
        module().select("test")
    with pytest.raises(ConfigError, match=r"no file of its own.*data\.test_split"):
        module().select("files", files=[Path("a.pth")])


@pytest.fixture
def spoiled(tmp_path):
    """Writes one HDF5 file of six patients with a specimen each, and a file of their reports."""

    def written(reports=None, **bags):
        with h5py.File(tmp_path / "s.hdf5", "w") as file:
            for number, name in enumerate("abcdef"):
                vectors = np.full((3 + number, 2), number, np.float16)
                file[f"patients/P{number}/{name}/uni/features"] = bags.get(name, vectors)
        texts = {f"P{number}": {name: f"Report {name}."} for number, name in enumerate("abcdef")}
        (tmp_path / "r.json").write_text(json.dumps(reports or texts))
        (tmp_path / "test.txt").write_text("f")
        return SlideDataModule(
            root=tmp_path,
            hdf5_filename=Path("s.hdf5"),
            hdf5_feature_attribute="uni",
            text_data_file=Path("r.json"),
            test_split=Path("test.txt"),
            batch_size=2,
            num_workers=0,
        )

    return written


@pytest.mark.parametrize("name", ["b", "f"])
def test_the_check_finds_what_cannot_be_used_in_training_and_test_specimens(spoiled, name):
    spoiled().check()
    with pytest.raises(DataError, match=rf"1 specimen\(s\) have empty bags.*\n  {name}$"):
        spoiled(**{name: np.zeros((0, 2), np.float16)}).check()
    with pytest.raises(DataError, match=rf"1 specimen\(s\) have vectors of another width.*\n  {name}: 3$"):
        spoiled(**{name: np.zeros((1, 3), np.float16)}).check()
    with pytest.raises(DataError, match=r"5 specimen\(s\) have no report"):
        spoiled(reports={"P0": {"a": "A."}}).check()


def test_the_check_reads_no_vectors_and_training_tells_of_values_that_are_no_number(spoiled):
    data = spoiled(c=np.array([[np.nan, 1]], np.float16))
    data.check()
    data.use(Split(fold=0, folds=pd.Series(0, index=pd.Index(data.names()))))
    data.select("held_out")
    assert data.broken_items().keys() == {"c"}
    with pytest.raises(DataError, match=r"features of c in .*s\.hdf5 hold values that are no finite number"):
        list(data.val_dataloader())


def test_items_tell_bags_of_another_size_and_other_reports(spoiled):
    before = spoiled().items()
    after = spoiled(b=np.zeros((9, 2), np.float16)).items()
    assert before["vectors"].tolist() == [3, 4, 5, 6, 7] and after["vectors"].tolist() == [3, 9, 5, 6, 7]
    texts = {f"P{number}": {name: name.upper()} for number, name in enumerate("abcdef")}
    assert spoiled(reports=texts).items()["report"].tolist() == list("ABCDE")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--train_split", "one.txt"], ["one.txt"]),
        (["--train_split", "[one.txt, two.txt]"], ["one.txt", "two.txt"]),
        (["--train_split+", "one.txt", "--train_split+", "two.txt"], ["one.txt", "two.txt"]),
    ],
)
def test_splits_are_given_as_one_file_or_several(arguments, expected):
    data = built(arguments)
    assert data.split_files.train == tuple(Path("data", name) for name in expected) and data.split_files.val == ()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--aug_cfg", "noise=0.1"],
        ["--aug_cfg", "[noise=0.1]"],
        ["--aug_cfg", "{noise: 0.1}"],
        ["--aug_cfg.noise", "0.1"],
    ],
)
def test_augmentation_is_given_as_words_or_values(arguments):
    assert built(arguments).augmentation == BagAugmentation(noise=0.1)


def built(arguments):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SlideDataModule)
    return SlideDataModule(**parser.parse_args([*arguments, "--num_workers", "0"]).as_dict())


def test_the_published_defaults():
    data = SlideDataModule()
    assert (data.batch_size, data.num_workers, data.image_features_cutoff) == (64, min(4, os.cpu_count()), 100_000)
    assert data.num_samples is None and data.augmentation == BagAugmentation() and data.files.component == 0


@pytest.mark.parametrize("layout", ["hdf5", "directories"])
def test_the_sample_command_renders_what_can_be_learned_from(layout, workdir, capsys):
    command = ["sample", "--kind", "slide", "--out", "new", "--specimens", "60", "--most_vectors", "30"]
    assert main([*command, "--layout", layout]) == 0
    told = f"60 specimens, 20 vectors in the smallest bag, 30 vectors in the largest bag, layout {layout}: new"
    assert told in capsys.readouterr().out
    data = SlideDataModule(root=Path("new"), num_workers=0, **(HDF5 if layout == "hdf5" else DIRECTORIES), **SPLITS)
    data.check()
    assert len(data.items()) + len(data.test_items()) == 60
