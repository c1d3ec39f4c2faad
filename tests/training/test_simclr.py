"""SimCLR on lesions and on tiles of pastures: what it learns from, logs, keeps, predicts and refuses."""

import logging
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from PIL import Image
from torch import nn

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.pairs import PairAugmentation
from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError, DataError, FoldError, RunError, TrainingError
from biomass_pl.evaluation.probe import fit_class_probe
from biomass_pl.evaluation.probe_report import ClassProbeReport, ValueProbeReport
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.training.callbacks.averaging import ExponentialAveraging
from biomass_pl.training.contrastive import nt_xent
from biomass_pl.training.linear_probe import ProbeState
from biomass_pl.training.optim import OptimConfig, TrainingLength
from biomass_pl.training.simclr import SimCLR

TINY = {"backbone": "test_vit.r160_in1k", "pretrained": False, "tile_size": 32}
FEATURES = 64
FAST = OptimConfig(head_lr=1e-3, backbone_lr=1e-3, warmup_epochs=0)


def lesion_data(root: Path, **settings) -> LesionDataModule:
    chosen = {"num_folds": 3, "image_size": 32, "batch_size": 16, "num_workers": 0, "seed": 1, **settings}
    return of_fold_0(LesionDataModule(root=root, **chosen))


def pasture_data(root: Path, **settings) -> PastureDataModule:
    chosen = {"num_folds": 3, "tile_size": 32, "batch_size": 8, "num_workers": 0, "seed": 1, **settings}
    return of_fold_0(PastureDataModule(root=root, **chosen))


def of_fold_0(data: FoldDataModule) -> FoldDataModule:
    data.use(Split(fold=0, folds=data.make_folds()))
    return data


def make_task(data: FoldDataModule, **settings) -> SimCLR:
    """A task as it is before its trainer starts."""
    pl.seed_everything(0, verbose=False)
    task = SimCLR(**{**TINY, "optim": FAST, **settings})
    task.truth = data.truth
    return task


class Epochs(pl.Callback):
    """What was logged in each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.rows.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fit(
    task: SimCLR, data: FoldDataModule, folder: Path, *, max_epochs: int = 1, callbacks: Sequence = (), **settings
) -> list[dict[str, float]]:
    epochs = Epochs()
    pl.Trainer(
        max_epochs=max_epochs,
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[epochs, *callbacks],
        accelerator="cpu",
        **{"num_sanity_val_steps": 0, **settings},
    ).fit(task, data)
    return epochs.rows


class Standing(WeightAveraging):
    """An average of the weights that stays at those before training."""

    def should_update(self, step_idx=None, epoch_idx=None):
        return False


def weights(task: SimCLR) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in task.network.parameters()])


# What it learns


def test_a_step_compares_the_projections_of_both_views(lesions):
    data = lesion_data(lesions)
    task = make_task(data)
    task.set_up_for(data)
    task.configure_model()
    batch = next(iter(data.train_dataloader()))
    assert batch["tiles"].shape == (16, 2, 3, 32, 32) and batch["tiles"].dtype == torch.uint8
    output = task.step(batch)
    first, second = (task.network.projection(task.network.backbone(batch["tiles"][:, view])) for view in range(2))
    assert first.shape == (16, 128)
    expected = nt_xent(first, second, 0.07)
    assert output.losses["contrastive"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert output.measures["alignment"].shape == (16,) and output.measures["uniformity"].item() < 0


def test_the_projection_head_is_the_published_one(lesions):
    data = lesion_data(lesions)
    task = make_task(data)
    task.configure_model()
    layers = list(task.network.projection)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear]
    assert sum(value.numel() for value in task.network.projection.parameters()) == FEATURES * 65 + 128 * 65
    assert task.temperature == 0.07 and task.probe_every == 10 and task.pairs == PairAugmentation()


def test_the_rates_are_the_published_ones():
    chosen = SimCLR(**TINY).optim
    assert (chosen.head_lr, chosen.backbone_lr, chosen.weight_decay, chosen.warmup_epochs) == (3e-4, 3e-4, 1e-4, 10)


def test_everything_but_the_probe_learns(lesions, tmp_path):
    data = lesion_data(lesions)
    task = make_task(data)
    task.configure_model()
    groups = {
        group.name: group.parameters for group in task.parameter_groups(TrainingLength(epochs=1, steps_per_epoch=1))
    }
    assert {name: len(parameters) > 0 for name, parameters in groups.items()} == {"backbone": True, "head": True}
    before = {name: value.clone() for name, value in task.named_parameters()}
    task = make_task(data)
    fit(task, data, tmp_path)
    changed = {name.split(".")[1] for name, value in task.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"backbone", "projection"}


@pytest.mark.parametrize("chunk", [1, 5])
def test_chunks_give_the_gradient_of_the_whole_batch(chunk, lesions):
    data = lesion_data(lesions)
    gradients = []
    for size in (0, chunk):
        task = make_task(data, chunk=size)
        task.set_up_for(data)
        task.configure_model()
        sizes: list[int] = []
        task.backbone.network.register_forward_hook(lambda _, tiles, __, sizes=sizes: sizes.append(len(tiles[0])))
        task.step(next(iter(data.train_dataloader()))).losses["contrastive"].backward()
        assert max(sizes) == (size or 32)
        gradients.append(torch.cat([value.grad.flatten() for value in task.network.parameters()]))
    assert torch.allclose(*gradients, atol=1e-5) and gradients[0].abs().max() > 1e-3


def test_chunks_that_change_the_statistics_of_batches_are_refused(lesions):
    task = make_task(lesion_data(lesions), backbone="test_resnet.r160_in1k", chunk=4)
    with pytest.raises(ConfigError, match=r"model\.chunk 4 would cut the batches .*Set model\.chunk: 0"):
        task.configure_model()
    make_task(lesion_data(lesions), backbone="test_resnet.r160_in1k").configure_model()


# What it logs and chooses by


def test_lesions_are_probed_by_accuracy(lesions, tmp_path):
    data = lesion_data(lesions)
    task = make_task(data)
    (row,) = fit(task, data, tmp_path)
    assert task.objective.name == "val/probe_accuracy" and isinstance(task.report, ClassProbeReport)
    assert {"train/loss", "train/lr", "train/alignment", "train/uniformity"} < set(row)
    assert 0 < row["train/loss"] < 2 * math.log(31) and row["train/uniformity"] < 0 < row["train/alignment"] < 4
    # The score once more, photo by photo: a linear model of the training photos as they are, asked for the others.
    task.eval()
    with torch.inference_mode():
        parts = []
        for held_out in (False, True):
            batches = list(data.plain_loader(held_out=held_out))
            vectors = torch.cat([task.backbone(batch["tiles"]) for batch in batches]).double().numpy()
            parts.append((vectors, torch.cat([batch["target"] for batch in batches]).long().numpy()))
    (trained, known), (asked, truth) = parts
    assert len(known) == data.split.training_count and len(known) + len(truth) == 120
    expected = (fit_class_probe(trained, known, 2).outputs(asked).argmax(axis=1) == truth).mean()
    assert row["val/probe_accuracy"] == pytest.approx(expected)


def test_averaged_weights_are_probed_on_both_sides(rendered, tmp_path):
    """An average that keeps nothing of itself is the weights; one that stands still keeps the untrained score."""
    data = pasture_data(rendered)
    learned = fit(make_task(data), data, tmp_path, max_epochs=2)
    follows, stands = (
        fit(make_task(data), data, tmp_path, max_epochs=2, callbacks=[averaging])
        for averaging in (ExponentialAveraging(decay=0.0), Standing())
    )
    assert [row["val/probe_r2"] for row in follows] == [row["val/probe_r2"] for row in learned]
    untrained = learned[0]["val/probe_untrained"]
    assert learned[-1]["val/probe_r2"] != untrained
    assert [row["val/probe_r2"] for row in stands] == [untrained] * 2


def test_tiles_of_pastures_are_probed_by_r2(rendered, tmp_path):
    data = pasture_data(rendered)
    task = make_task(data)
    (row,) = fit(task, data, tmp_path)
    assert task.objective.name == "val/probe_r2" and isinstance(task.report, ValueProbeReport)
    assert math.isfinite(row["val/probe_r2"]) and math.isfinite(row["val/probe_untrained"])
    data.select("held_out")
    with torch.inference_mode():
        outputs = [task.eval().predict_step(batch).columns for batch in data.predict_dataloader()]
    assert list(outputs[0]) == [f"probe_{target}" for target in TARGETS]
    items = data.items()[data.split.held_out(data.names())]
    scores = []
    for target in TARGETS:
        predicted = torch.cat([columns[f"probe_{target}"] for columns in outputs]).numpy()
        truth = items[target].to_numpy()
        if np.ptp(truth) > 0:
            scores.append(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    assert row["val/probe_r2"] == pytest.approx(np.mean(scores), rel=1e-5)


def test_the_untrained_score_is_that_before_the_first_step(lesions, tmp_path):
    data = lesion_data(lesions)
    still = OptimConfig(head_lr=0, backbone_lr=0, head_lr_frozen=0, weight_decay=0, warmup_epochs=0)
    rows = fit(make_task(data, optim=still), data, tmp_path)
    assert rows[0]["val/probe_untrained"] == rows[0]["val/probe_accuracy"]
    moved = fit(make_task(data), data, tmp_path, max_epochs=2)
    assert [row["val/probe_untrained"] for row in moved] == [rows[0]["val/probe_untrained"]] * 2


class NotedProbes(ProbeState):
    """Notes the epochs, counted from 1, in which a probe was fitted; 0 is the one before training."""

    def __init__(self, task: SimCLR) -> None:
        super().__init__()
        self.task = task
        self.noted: list[int] = []

    def fitted_score(self, *arguments):
        self.noted.append(0 if self.task.trainer.training else self.task.current_epoch + 1)
        return super().fitted_score(*arguments)


@pytest.mark.parametrize(
    ("every", "settings", "expected"),
    [
        (3, {"max_epochs": 7}, [0, 1, 3, 6, 7]),
        (1, {"max_epochs": 2}, [0, 1, 2]),
        (10, {"max_epochs": 3}, [0, 1, 3]),
        (3, {"max_epochs": 6, "check_val_every_n_epoch": 2}, [0, 2, 4, 6]),
        (10, {"max_epochs": 2, "num_sanity_val_steps": 1}, [0, 1, 2]),
    ],
    ids=str,
)
def test_probes_come_first_and_last_and_every_so_many_epochs(every, settings, expected, lesions, tmp_path):
    data = lesion_data(lesions, sample_size=30, batch_size=8)
    task = make_task(data, probe_every=every)
    task.probe = NotedProbes(task)
    fit(task, data, tmp_path, **settings)
    assert task.probe.noted == expected


def test_between_probes_the_score_stands_still(lesions, tmp_path):
    data = lesion_data(lesions, sample_size=40, batch_size=8)
    rows = fit(make_task(data, probe_every=3), data, tmp_path, max_epochs=4)
    scores = [row["val/probe_accuracy"] for row in rows]
    often = fit(make_task(data, probe_every=1), data, tmp_path, max_epochs=4)
    assert scores[1] == scores[0]
    assert [scores[epoch] for epoch in (0, 2, 3)] == [often[epoch]["val/probe_accuracy"] for epoch in (0, 2, 3)]


def test_how_often_it_is_probed_does_not_change_what_it_learns(lesions, tmp_path):
    data = lesion_data(lesions, sample_size=30, batch_size=8)
    found = []
    for every in (1, 10):
        task = make_task(data, probe_every=every)
        fit(task, data, tmp_path, max_epochs=3)
        found.append(weights(task))
    assert torch.equal(*found)


def test_a_diverged_network_is_told_as_such(lesions, tmp_path):
    data = lesion_data(lesions, sample_size=30, batch_size=8)
    wild = OptimConfig(head_lr=1e30, backbone_lr=1e30, warmup_epochs=0)
    with pytest.raises(TrainingError, match="The training loss became"):
        fit(make_task(data, optim=wild), data, tmp_path)


# What it sees


def to_noise(paths: Iterable[Path]) -> None:
    rng = np.random.default_rng(0)
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)).save(path)


def test_held_out_photos_do_not_change_the_weights(data, tmp_path):
    """All that may change is the score of the probe."""
    module = pasture_data(data)
    task = make_task(module)
    clean = fit(task, module, tmp_path, max_epochs=2)
    held_out = module.split.held_out(module.names())
    paths = [module.photos().paths[name] for name in module.names()]
    to_noise(path for path, hidden in zip(paths, held_out, strict=True) if hidden)
    again = make_task(module)
    rows = fit(again, pasture_data(data), tmp_path, max_epochs=2)
    assert torch.equal(weights(task), weights(again))
    assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in clean]
    assert rows[-1]["val/probe_r2"] != clean[-1]["val/probe_r2"]
    # A training photo does change them.
    to_noise([paths[int(np.argmin(held_out))]])
    other = make_task(module)
    fit(other, pasture_data(data), tmp_path, max_epochs=2)
    assert not torch.equal(weights(task), weights(other))


def test_unlabelled_photos_are_learned_from_but_for_copies_of_labelled_ones(rendered, tmp_path, caplog):
    data = pasture_data(rendered)
    folder = tmp_path / "more"
    folder.mkdir()
    paths = list(data.photos().paths.values())
    for number in (0, 5, 11):
        shutil.copy(paths[number], folder / f"copy_{number}.jpg")
    with Image.open(paths[7]) as photo:
        photo.rotate(180).save(folder / "turned.jpg", quality=50)
    to_noise([folder / "new_1.png", folder / "new_2.png"])
    task = make_task(data, unlabelled=[folder])
    with caplog.at_level(logging.INFO, logger="biomass_pl"):
        fit(task, data, tmp_path)
    assert "Learning from 2 unlabelled photos as well; 4 copies of labelled photos" in caplog.text
    ids = [name for batch in data.train_dataloader() for name in batch["id"]]
    trained = data.names()[~data.split.held_out(data.names())]
    assert sorted(ids) == sorted([*trained, str(folder / "new_1.png"), str(folder / "new_2.png")])


def test_unlabelled_photos_change_what_is_learned(rendered, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    to_noise([folder / "new.png"])
    data = pasture_data(rendered)
    found = []
    for unlabelled in ([], [folder]):
        task = make_task(data, unlabelled=unlabelled)
        fit(task, data, tmp_path)
        found.append(weights(task))
    assert not torch.equal(*found)


# What it keeps and predicts


def test_a_checkpoint_predicts_classes_with_their_names(lesions, tmp_path):
    data = lesion_data(lesions)
    task = make_task(data)
    fit(task, data, tmp_path)
    checkpoint: dict[str, Any] = {}
    task.on_save_checkpoint(checkpoint)
    loaded = make_task(data)
    loaded.on_load_checkpoint(checkpoint)
    loaded.configure_model()
    loaded.load_state_dict(task.state_dict())
    data.select("held_out")
    batch = next(iter(data.predict_dataloader()))
    with torch.inference_mode():
        expected, found = (one.eval().predict_step(batch) for one in (task, loaded))
    assert list(found.columns) == ["prob_0", "prob_1"] and found.arrays["embedding"].shape == (16, FEATURES)
    assert all(torch.equal(found.columns[name], expected.columns[name]) for name in expected.columns)
    assert torch.allclose(found.columns["prob_0"] + found.columns["prob_1"], torch.ones(16, dtype=torch.float64))


def test_a_checkpoint_of_another_task_is_refused(lesions):
    with pytest.raises(RunError, match="holds no linear probe"):
        make_task(lesion_data(lesions)).on_load_checkpoint({"state_dict": {}})


def test_half_precision_trains_and_probes(lesions, tmp_path):
    data = lesion_data(lesions)
    (row,) = fit(make_task(data), data, tmp_path, precision="bf16-mixed")
    assert all(map(math.isfinite, row.values()))


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; give more than 0"),
        ({"projection_dim": 0}, "projection_dim is 0; give 1 or more"),
        ({"chunk": -1}, "chunk is -1; give 0 or more"),
        ({"probe_every": 0}, "probe_every is 0; give 1 or more"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=rf"model\.{message}"):
        SimCLR(**TINY, **settings)


def refused(data: FoldDataModule, message: str, error: type[Exception] = ConfigError, **settings) -> None:
    task = make_task(data, **settings)

    def checked() -> None:
        task.set_up_for(data)
        task.check_data(data)

    with pytest.raises(error, match=message):
        checked()


def test_data_that_leave_nothing_to_contrast_or_to_probe_are_refused(lesions, rendered, tmp_path):
    refused(lesion_data(lesions, batch_size=1), "batch_size 1 leaves a photo nothing to be told from")
    refused(pasture_data(rendered, bank_views=2, bank_dir=tmp_path), r"Set data\.bank_views: 0")
    data = lesion_data(lesions)
    malignant = (data.items()["target"] == 1).to_numpy()
    folds = pd.Series(np.where(malignant, 0, 1), index=data.names())
    data.use(Split(fold=0, folds=folds))
    refused(data, "Fold 0 trains on photos of one class only", FoldError)
    with pytest.raises(ConfigError, match="these data tell nothing of it"):
        SimCLR(**TINY).truth = None


def test_unlabelled_photos_that_cannot_be_used_are_refused(rendered, tmp_path):
    data = pasture_data(rendered)
    refused(data, "does not exist. Name photos or folders", DataError, unlabelled=[tmp_path / "gone"])
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    refused(data, "1 photo.s. cannot be used", DataError, unlabelled=[tmp_path])
    data.contents = lambda: None
    refused(data, "nothing tells whether a photo is a copy", unlabelled=[tmp_path])
