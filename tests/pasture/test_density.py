"""The density model in training and prediction: losses, what it starts from, the bank, its map, and what is refused."""

from pathlib import Path

import cv2
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from biomass_pl.data.splits import Split
from biomass_pl.data.tiles import HalvesGeometry, PlainTransform
from biomass_pl.errors import ConfigError
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.density import PatchDensity
from biomass_pl.pasture.density_head import joined_map
from biomass_pl.pasture.losses import FocalMSE
from biomass_pl.pasture.scores import weighted_r2
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TARGETS, TOTAL
from biomass_pl.training.callbacks.feature_bank import FeatureBankFill, check_bank, stored_predictions
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.optim import OptimConfig

VIT, CNN = "test_vit.r160_in1k", "test_resnet.r160_in1k"
TINY = {"backbone": VIT, "pretrained": False, "tile_size": 32}
STILL = OptimConfig(head_lr=0, head_lr_frozen=0, backbone_lr=0, weight_decay=0)
"""Rates of zero: a fit sets what is estimated and changes nothing."""


def fold_data(root: Path, **settings) -> PastureDataModule:
    data = PastureDataModule(root=root, **{"num_folds": 3, "tile_size": 32, "num_workers": 0, "seed": 1, **settings})
    data.use(Split(fold=0, folds=data.make_folds()))
    return data


def fit(task: PatchDensity, data: PastureDataModule, folder: Path, *callbacks: pl.Callback, epochs=1) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, data)
    return trainer


@pytest.fixture
def batch(rendered) -> dict:
    return next(iter(fold_data(rendered).val_dataloader()))


def built(**settings) -> PatchDensity:
    torch.manual_seed(0)
    task = PatchDensity(**{**TINY, **settings})
    task.configure_model()
    return task


@pytest.mark.parametrize("backbone", [VIT, CNN])
def test_training_changes_backbone_and_head_and_logs_the_score_of_the_fold(backbone, rendered, tmp_path):
    pl.seed_everything(0, verbose=False)
    data, task = fold_data(rendered), built(backbone=backbone, optim=OptimConfig(head_lr=1e-2, backbone_lr=1e-3))
    before = {name: value.clone() for name, value in task.named_parameters()}
    trained = fit(task, data, tmp_path, epochs=2)
    changed = {name.split(".")[1] for name, value in task.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"backbone", "head"}
    data.select("held_out")
    with torch.inference_mode():
        task.eval()
        batches = [(task.step(batch).outputs["prediction"], batch["target"]) for batch in data.predict_dataloader()]
    prediction, truth = (torch.cat(parts).double().numpy() for parts in zip(*batches, strict=True))
    assert float(trained.callback_metrics["val/weighted_r2"]) == pytest.approx(weighted_r2(truth, prediction), abs=1e-6)


@pytest.mark.parametrize("log_target", [False, True])
def test_the_first_predictions_lie_near_the_means_of_the_training_fold(log_target, rendered, tmp_path):
    data, task = fold_data(rendered), PatchDensity(**TINY, log_target=log_target, optim=STILL)
    fit(task, data, tmp_path)
    with torch.inference_mode():
        prediction = task.eval().step(next(iter(data.val_dataloader()))).outputs["prediction"].mean(dim=0)
    assert np.allclose(prediction, data.training_targets().mean(axis=0), rtol=0.5, atol=2)


def test_what_it_starts_from_does_not_depend_on_the_labels_of_held_out_photos(data, tmp_path):
    def start() -> list[torch.Tensor]:
        pl.seed_everything(0, verbose=False)
        task = PatchDensity(**TINY, interval_classes=3, optim=STILL)
        fit(task, fold_data(data, fold_csv=folds_csv), tmp_path)
        return [task.network.head.output.bias.detach(), task.interval_head.edges]

    folds, folds_csv = fold_data(data).make_folds(), data / "folds.csv"
    folds.reset_index().to_csv(folds_csv, index=False)
    before = start()
    assert (before[1].diff(dim=1) >= 0).all() and before[1].any()
    table = pd.read_csv(data / "train.csv", dtype=str)
    held_out = table["sample_id"].str.rpartition("__")[0].isin(folds.index[folds == 0])
    table.loc[held_out, "target"] = "100.0"
    table.to_csv(data / "train.csv", index=False)
    assert all(map(torch.equal, start(), before))
    table.loc[~held_out, "target"] = "50.0"
    table.to_csv(data / "train.csv", index=False)
    assert not any(map(torch.equal, start(), before))


def test_intervals_are_a_weighted_part_of_the_loss_and_off_by_default(batch):
    assert set(built().step(batch).losses) == {"regression"}
    task = built(interval_classes=4, interval_weight=0.5).eval()
    task.interval_head.start_at(batch["target"])
    losses = task.step(batch).losses
    assert set(losses) == {"regression", "intervals"}
    hidden = task.network.head.hidden(task.features(batch))
    logits = task.interval_head(hidden.flatten(1, 3).mean(dim=1))
    assert losses["intervals"].item() == pytest.approx(
        0.5 * task.interval_head.loss(logits, batch["target"]).item(), rel=1e-6
    )
    torch.stack(list(task.train().step(batch).losses.values())).sum().backward()
    heads = [*task.network.head.parameters(), *task.interval_head.parameters()]
    assert all(weight.grad is not None and weight.grad.any() for weight in heads)


def test_it_trains_with_intervals_another_loss_and_log_targets(rendered, tmp_path):
    task = PatchDensity(**TINY, interval_classes=4, loss=FocalMSE(), log_target=True)
    metrics = fit(task, fold_data(rendered), tmp_path).callback_metrics
    parts = {name.removeprefix("train/loss_") for name in metrics if name.startswith("train/loss_")}
    assert parts == {"regression", "constraint", "intervals"} and metrics["train/loss"].isfinite()
    assert metrics["train/loss_constraint"] == pytest.approx(0, abs=1e-8)


def test_predictions_carry_a_map_only_when_asked_for(batch):
    task = built().eval()
    with torch.inference_mode():
        without = task.predict_step(batch)
        task.make_maps((2, 4))
        predicted = task.predict_step(batch)
    assert set(without.arrays) == {"embedding"} and set(predicted.arrays) == {"embedding", "map"}
    assert predicted.arrays["embedding"].shape == (len(batch["id"]), 64)
    mapped = predicted.arrays["map"].double()  # 2 x 2 patches of 16 px in each of 2 x 4 tiles
    assert mapped.shape == (len(batch["id"]), 3, 4, 8)
    grams = (mapped.sum(dim=(2, 3)) * 0.21 / 32).T
    for target, found in zip((GREEN, DEAD, CLOVER), grams, strict=True):
        assert torch.allclose(predicted.columns[f"{TARGETS[target]}_pred"].double(), found, atol=1e-4)
    columns = {target: without.columns[f"{TARGETS[target]}_pred"] for target in (GREEN, DEAD, CLOVER, GDM, TOTAL)}
    assert torch.equal(columns[GREEN] + columns[CLOVER], columns[GDM])
    assert torch.equal(columns[GDM] + columns[DEAD], columns[TOTAL])


def test_patches_of_cut_tiles_are_joined_to_the_photo():
    """The mean colours of patches of 4 px are the photo at a quarter of its size, in its orientation."""
    photo = np.random.default_rng(0).integers(0, 256, (48, 144, 3), dtype=np.uint8)
    geometry = HalvesGeometry(grid=(2, 3), tile_size=24)
    views = PlainTransform(geometry=geometry)(photo, np.random.default_rng(0))
    patches = geometry.cut(views).float().unfold(3, 4, 4).unfold(4, 4, 4).mean(dim=(5, 6))
    density = patches.flatten(start_dim=3).movedim(2, -1)[None]
    assert density.shape == (1, 2, 6, 36, 3)
    found = joined_map(density, (2, 6))[0].movedim(0, -1).numpy()
    assert np.allclose(found, cv2.resize(photo.astype(np.float32), (36, 12), interpolation=cv2.INTER_AREA), atol=0.01)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_bank_keeps_patches_and_gives_what_pixels_give(num_workers, rendered, tmp_path):
    found = []
    for views in (0, 1):
        pl.seed_everything(0, verbose=False)
        data = fold_data(rendered, bank_views=views, bank_dir=tmp_path / "bank", num_workers=num_workers)
        task = PatchDensity(**TINY, optim=STILL)
        trainer = fit(task, data, tmp_path, BackboneFreeze(epochs="all"), FeatureBankFill())
        loss = trainer.callback_metrics["val/loss"].clone()
        assert (data.features is not None) == bool(views)
        data.select("held_out")
        if views:
            assert data.features.feature_set.shape == (2, 4, 4, 64)
            data.use_features(stored_predictions(task, data, data.bank, "32-true"))
            assert next(iter(data.predict_dataloader()))["features"].shape[1:] == (2, 4, 4, 64)
        task.make_maps(data.photo_grid())
        outputs = trainer.predict(task, data)
        found.append([torch.cat([output.arrays["map"] for output in outputs]), loss])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-4)


def test_a_bank_too_small_for_patches_is_refused(rendered, tmp_path):
    task, entry = built(), 4 * 2 * 4 * 4 * 64 + 4
    data = fold_data(rendered, bank_views=1, bank_dir=tmp_path, bank_limit_gb=1)
    entries = sum(map(len, data.wanted_views(training=True).values()))
    for spare, refused in ((0, False), (-1, True)):
        data = fold_data(rendered, bank_views=1, bank_dir=tmp_path, bank_limit_gb=(entries * entry + spare) / 1e9)
        if not refused:
            check_bank(task, data, data.bank)
            continue
        with pytest.raises(ConfigError, match=r"data\.bank_limit_gb"):
            check_bank(task, data, data.bank)


def test_a_checkpoint_loads_in_python(rendered, tmp_path):
    task = PatchDensity(**TINY, interval_classes=3, hidden_ratio=2.0)
    trainer = fit(task, fold_data(rendered), tmp_path)
    trainer.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    loaded = PatchDensity.load_from_checkpoint(tmp_path / "task.ckpt")
    assert loaded.network.head.output.in_features == 128 and loaded.interval_classes == 3
    assert torch.equal(loaded.interval_head.edges, task.interval_head.edges)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_ratio": 0}, r"model\.hidden_ratio is 0; give more than 0"),
        ({"interval_classes": 1}, r"model\.interval_classes is 1; give 2 or more"),
        ({"interval_classes": -2}, r"model\.interval_classes is -2"),
        ({"interval_weight": 0}, r"model\.interval_weight is 0"),
        ({"dropout": 1.0}, r"model\.dropout"),
        ({"compile": True}, r"Set model\.compile: false"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        PatchDensity(**TINY, **settings)


def test_tiles_that_may_overlap_are_refused(rendered):
    with pytest.raises(ConfigError, match=r"overlap with data\.views: whole"):
        PatchDensity(**TINY).check_data(fold_data(rendered, views="whole"))


def test_given_vectors_count_as_patches_of_equal_ground_and_have_no_map():
    task = built(given_width=6).eval()
    features = torch.randn(2, 1, 5, 6)
    grams = task.predict_grams(features)
    on_each = torch.stack([task.predict_grams(features[:, :, place : place + 1]) for place in range(5)])
    torch.testing.assert_close(grams, on_each.mean(dim=0))
    with pytest.raises(ConfigError, match=r"data\.features do not tell"):
        task.make_maps((2, 4))
