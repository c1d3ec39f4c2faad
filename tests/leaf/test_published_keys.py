"""Every key that the published training of HViT names: its key here, its default, and what it changes.

The table below is the data. Keys of the page that have no key here follow it, each with what is done instead: found in
the data, served by Lightning, or refused by name.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml

from biomass_pl.cli import main
from biomass_pl.errors import ConfigError
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.predict import PredictOptions
from biomass_pl.runs import find_run
from biomass_pl.training.hvit import HierarchicalViT
from tests.leaf.conftest import CLASSES, picture, save, write_classes
from tests.leaf.published_effects import (
    CONFIGS,
    HVIT,
    NETWORK,
    ONE_EPOCH,
    SIMCLR,
    SMALL,
    backbone_weights,
    batch,
    built,
    drop_rates,
    early_stopping,
    epochs,
    features,
    kept_for_backward,
    learning,
    loader,
    loss,
    parsed,
    shapes,
    strategy,
    trained_weights,
    trainer,
)


@cache
def recipe_settings(recipe: str) -> dict[str, Any]:
    """All settings of a recipe, those that it leaves open included."""
    return yaml.safe_load(RunCLI(["--config", str(CONFIGS / recipe)]).config_text())


def recipe_default(recipe: str, key: str) -> Any:
    """The value of a key; for a callback, `<Class>.<argument>`; for the network, what timm makes of its name."""
    settings, names = recipe_settings(recipe), key.split(".")
    if names[0] in ("model", "data"):
        section = settings[names[0]]["init_args"]
        if names[1] == "backbone_args" and names[2] not in section["backbone_args"]:
            return network_default(section["backbone"])[names[2]]
        part = reduce(lambda part, name: part.get("init_args", part)[name], names[1:], section)
        return part.get("class_path", part).rpartition(".")[2] if names[1:] == ["loss"] else part
    if names[0] in ("trainer", "seed_everything"):
        return reduce(lambda part, name: part[name], names, settings)
    callbacks = settings["trainer"]["callbacks"]
    return next(entry["init_args"][names[1]] for entry in callbacks if entry["class_path"].endswith(names[0]))


@cache
def network_default(name: str) -> dict[str, Any]:
    """What a network of timm was made of."""
    network = timm.create_model(name)
    blocks = [block for stage in network.stages for block in stage.blocks]
    assert isinstance(network, HierarchicalViT)
    return {
        "patch_size": network.patch_size,
        "embed_dim": network.pos_embed.shape[-1],
        "depths": [len(stage.blocks) for stage in network.stages],
        "num_heads": [stage.blocks[0].attn.num_heads for stage in network.stages],
        "mlp_ratio": blocks[0].mlp.fc1.out_features / blocks[0].mlp.fc1.in_features,
        "qkv_bias": blocks[0].attn.qkv.bias is not None,
        "attn_drop_rate": blocks[0].attn.attn_drop.p,
        "pos_drop_rate": network.pos_drop.p,
        "proj_drop_rate": blocks[0].mlp.drop1.p,
    }


@dataclass(frozen=True)
class Row:
    """One published key.

    Args:
        published: Its name in the page, or in the published configuration.
        key: The key here, or `<Class>.<argument>` of a callback.
        simclr: Its default in the first phase; `NO` where that has no such key.
        hvit: The same of the second phase.
        changed: Another value, as a flag has it.
        effect: Where the change shows; in the second phase if that has the key.
        base: Settings under which the key acts.
    """

    published: str
    key: str
    simclr: Any
    hvit: Any
    changed: str
    effect: Callable[[RunCLI], Any]
    base: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return f"--{self.key if self.key[0].islower() else 'trainer.callbacks'}"


def averaging(decay: float) -> str:
    return json.dumps([{"class_path": "ExponentialAveraging", "init_args": {"decay": decay}}])


def stopping(**changed: Any) -> str:
    arguments = {"monitor": "val/f1_macro", "mode": "max", "patience": 15, "min_delta": 0.001, **changed}
    return json.dumps([{"class_path": "EarlyStopping", "init_args": arguments}])


NO = object()
PLAIN = ("--trainer.callbacks", "null", *ONE_EPOCH)
AVERAGED = ("--trainer.callbacks", averaging(0.9999), *ONE_EPOCH)
STEADY = ("--model.mixing", "null")
PROBED = (*PLAIN, "--trainer.max_epochs", "4", "--trainer.limit_train_batches", "1")
BANDS = ("--data.spectral", "BANDS", "--model.backbone_args.embed_dim", "12")
TWO_BANDS = (*BANDS, "--model.spectral_channels", "2")
ON_CPU = ("--trainer.accelerator", "cpu")

ROWS = [
    Row("data.root_dir", "data.root", "data", "data", "OTHER", batch),
    Row("data.img_size: [256, 256]", "data.image_size", 256, 256, "64", batch),
    Row("data.num_workers: 4", "data.num_workers", 4, 4, "1", loader),
    Row("model.patch_size: 16", "model.backbone_args.patch_size", 16, 16, "8", shapes),
    Row("model.embed_dim_rgb: 96", "model.backbone_args.embed_dim", 96, 96, "16", shapes),
    Row("model.depths", "model.backbone_args.depths", [2, 2, 6, 2], [2, 2, 6, 2], "[1, 2]", shapes),
    Row("model.num_heads", "model.backbone_args.num_heads", [3, 6, 12, 24], [3, 6, 12, 24], "[2, 4]", features),
    Row("model.mlp_ratio: 4.0", "model.backbone_args.mlp_ratio", 4.0, 4.0, "2.0", shapes),
    Row("model.qkv_bias: true", "model.backbone_args.qkv_bias", True, True, "false", shapes),
    Row("model.drop_path_rate", "model.backbone_args.drop_path_rate", 0.1, 0.2, "0.5", drop_rates),
    Row("model.model_drop_rate", "model.backbone_args.pos_drop_rate", 0.0, 0.1, "0.5", drop_rates),
    Row("model.model_drop_rate", "model.backbone_args.proj_drop_rate", 0.0, 0.1, "0.5", drop_rates),
    Row("model.attn_drop_rate: 0.0", "model.backbone_args.attn_drop_rate", 0.0, 0.0, "0.5", drop_rates),
    Row("model.use_gradient_checkpointing", "model.grad_checkpointing", True, False, "true", kept_for_backward),
    Row("model.spectral_channels: 0", "model.spectral_channels", NO, 0, "2", shapes, BANDS),
    Row("model.use_dfca: true", "model.use_dfca", NO, None, "false", shapes, TWO_BANDS),
    Row("backbone weights", "model.backbone_weights", None, None, "WEIGHTS", backbone_weights),
    Row("training.epochs: 100", "trainer.max_epochs", 100, 100, "7", learning),
    Row("training.batch_size", "data.batch_size", 64, 32, "3", loader),
    Row("training.learning_rate", "model.optim.backbone_lr", 3e-4, 1e-4, "0.1", learning),
    Row("training.learning_rate", "model.optim.head_lr", 3e-4, 1e-4, "0.1", learning),
    Row("training.weight_decay", "model.optim.weight_decay", 1e-4, 0.01, "0.5", learning),
    Row("training.warmup_epochs", "model.optim.warmup_epochs", 10, 5, "2", learning),
    Row("training.gradient_accumulation_steps", "trainer.accumulate_grad_batches", 1, 1, "2", epochs, PLAIN),
    Row("clip_grad_norm_", "trainer.gradient_clip_val", None, None, "1.0", trainer("gradient_clip_val")),
    Row("training.amp_enabled", "trainer.precision", None, None, "bf16-mixed", trainer("precision")),
    Row("DataParallel", "trainer.devices", "auto", "auto", "2", trainer("world_size"), ON_CPU),
    Row("--distributed", "trainer.strategy", "auto", "auto", "ddp", strategy, ON_CPU),
    Row("seed 42", "seed_everything", 42, 42, "7", batch),
    Row("temperature: 0.07", "model.temperature", 0.07, NO, "0.5", loss),
    Row("projection_dim: 128", "model.projection_dim", 128, NO, "16", shapes),
    Row("training.probe_every: 10", "model.probe_every", 10, NO, "2", epochs, PROBED),
    Row("Random Crop", "model.pairs.crop_scale", [0.2, 1.0], NO, "[0.9, 1.0]", batch),
    Row("Horizontal Flip", "model.pairs.flip_prob", 0.5, NO, "0.0", batch),
    Row("Color Jitter, times simclr_s", "model.pairs.jitter_strength", 1.0, NO, "0.1", batch),
    Row("Color Jitter, brightness", "model.pairs.brightness", 0.8, NO, "0.1", batch),
    Row("Color Jitter, contrast", "model.pairs.contrast", 0.8, NO, "0.1", batch),
    Row("Color Jitter, saturation", "model.pairs.saturation", 0.8, NO, "0.1", batch),
    Row("Color Jitter, hue", "model.pairs.hue", 0.2, NO, "0.01", batch),
    Row("Color Jitter, probability", "model.pairs.jitter_prob", 0.8, NO, "0.0", batch),
    Row("Grayscale", "model.pairs.greyscale_prob", 0.2, NO, "1.0", batch),
    Row("Gaussian Blur, p=0.5", "model.pairs.blur_prob", 0.5, NO, "0.0", batch),
    Row("Gaussian Blur, kernel=[0.1, 2.0]", "model.pairs.blur_sigma", [0.1, 2.0], NO, "[4.0, 5.0]", batch),
    Row("training.use_ema: true", "ExponentialAveraging.decay", NO, 0.9999, "null", trained_weights, AVERAGED),
    Row("training.ema_decay: 0.9999", "ExponentialAveraging.decay", NO, 0.9999, averaging(0.1), trained_weights, AVERAGED),
    Row("training.use_mixup, mixup_alpha: 0.8", "model.mixing.mixup_alpha", NO, 0.8, "0", loss),
    Row("training.use_cutmix, cutmix_alpha: 1.0", "model.mixing.cutmix_alpha", NO, 1.0, "0", loss),
    Row("share of mixed batches", "model.mixing.probability", NO, 1.0, "0.0", loss),
    Row("augmentations.cutmix_prob", "model.mixing.switch_probability", NO, 0.5, "1.0", loss),
    Row("training.loss_type: combined", "model.loss", NO, "CombinedLoss", "FocalLoss", loss, STEADY),
    Row("training.loss_type: combined", "model.loss", NO, "CombinedLoss", "CrossEntropyLoss", loss, STEADY),
    Row("training.focal_gamma: 2.0", "model.loss.gamma", NO, 2.0, "5.0", loss, STEADY),
    Row("training.label_smoothing: 0.1", "model.loss.label_smoothing", NO, 0.1, "0.5", loss, STEADY),
    Row("0.5 x focal + 0.5 x cross-entropy", "model.loss.focal_weight", NO, 0.5, "0.9", loss, STEADY),
    Row("alpha, get_class_weights()", "model.class_weights", NO, False, "true", loss, STEADY),
    Row("use_weighted_sampler", "data.balance", NO, None, "sampler", batch),
    Row("augmentations.severity: moderate", "data.severity", NO, "moderate", "light", batch),
    Row("augmentations.severity: moderate", "data.severity", NO, "moderate", "aggressive", batch),
    Row("early_stopping.patience: 15", "EarlyStopping.patience", NO, 15, stopping(patience=3), early_stopping),
    Row("early_stopping.min_delta: 0.001", "EarlyStopping.min_delta", NO, 0.001, stopping(min_delta=0.1), early_stopping),
    Row("early_stopping.metric: f1_macro", "EarlyStopping.monitor", NO, "val/f1_macro", stopping(monitor="val/accuracy"), early_stopping),
]  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """By the words that stand for them in the table: photos of unequal classes, other ones, bands, published weights."""
    folder = tmp_path_factory.mktemp("published")
    root = write_classes(folder / "leaves")
    for number in range(3):
        save(picture(7000 + number), root / CLASSES[0] / f"more_{number}.png")
    other = write_classes(folder / "other", first_seed=5000)
    for photo in root.rglob("*.png"):
        bands = np.random.default_rng(len(photo.name)).random((36, 48, 2), dtype=np.float32)
        target = folder / "bands" / photo.relative_to(root).with_suffix(".npy")
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, bands)
    options = json.loads(NETWORK[1])
    network = timm.create_model("hvit_small", img_size=32, num_classes=7, **options)
    torch.save({"model_backbone_state_dict": network.state_dict()}, folder / "checkpoint.pth")
    return {
        "ROOT": str(root),
        "OTHER": str(other),
        "BANDS": str(folder / "bands"),
        "WEIGHTS": str(folder / "checkpoint.pth"),
    }


@pytest.fixture(scope="module")
def unchanged(places) -> Callable[[str, Row], Any]:
    """What an effect is before a key is changed; many rows share it."""

    @cache
    def of(recipe: str, effect: Callable[[RunCLI], Any], base: tuple[str, ...]) -> Any:
        return effect(parsed(recipe, places["ROOT"], *base))

    return lambda recipe, row: of(recipe, row.effect, tuple(places.get(word, word) for word in row.base))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.published} - {row.key}")
def test_a_published_key_has_its_default_and_acts_where_it_should(row, places, unchanged):
    defaults = {recipe: value for recipe, value in ((SIMCLR, row.simclr), (HVIT, row.hvit)) if value is not NO}
    assert {recipe: recipe_default(recipe, row.key) for recipe in defaults} == defaults
    recipe = list(defaults)[-1]
    words = [*row.base, row.flag, row.changed]
    changed = parsed(recipe, places["ROOT"], *(places.get(word, word) for word in words))
    assert row.effect(changed) != unchanged(recipe, row)


def test_freezing_the_backbone_is_a_callback(places):
    """training.freeze_backbone_epochs, which no published file sets."""
    freeze = '[{"class_path": "BackboneFreeze", "init_args": {"epochs": 1}}]'
    cli = parsed(HVIT, places["ROOT"], *ONE_EPOCH, "--trainer.max_epochs", "2", "--trainer.callbacks", freeze)
    assert [learns for _, learns, _ in epochs(cli)] == [False, True]
    assert cli.model.frozen_epochs == 1


def test_views_are_averaged_when_predicting(places):
    """training.use_tta."""
    data = parsed(HVIT, places["ROOT"]).datamodule
    assert data.views == ("plain", "left-right") and not PredictOptions().tta
    data.select("held_out", views=data.views)
    shown = torch.cat([batch["tiles"] for batch in data.predict_dataloader()])
    assert torch.equal(shown[0::2], shown[1::2].flip(-1)) and not torch.equal(shown[0::2], shown[1::2])


def test_the_number_of_classes_is_found_in_the_data(places):
    """data.num_classes, model.num_classes."""
    assert built(parsed(HVIT, places["ROOT"])).network.head[-1].out_features == len(CLASSES)


def test_fusion_without_bands_is_told(places, caplog):
    """model.use_dfca, whose published default does nothing."""
    assert recipe_default(HVIT, "model.use_dfca") is None
    for asked, told in ((["--model.use_dfca", "true"], 1), ([], 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "biomass_pl"):
            built(parsed(HVIT, places["ROOT"], *asked))
        assert sum("model.use_dfca does nothing without bands" in text for text in caplog.messages) == told


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--device", "cuda", "--device"),  # trainer.accelerator
        ("--distributed", "true", "--distributed"),  # trainer.devices, trainer.strategy
        ("--data.num_classes", "7", "num_classes"),
        ("--data.train_split_ratio", "0.9", "train_split_ratio"),
        ("--data.severity", "mild", "mild"),
        ("--model.loss", "focal", "focal"),
        ("--model.norm_layer_name", "LayerNorm", "norm_layer_name"),
        ("--model.ssl_enable_mae", "true", "ssl_enable_mae"),
        ("--trainer.accelerator", "mps", "MPSAccelerator"),
    ],
)
def test_what_has_no_key_or_no_such_value_here_is_refused_by_name(places, flag, value, told):
    with pytest.raises(ConfigError, match=told):
        parsed(HVIT, places["ROOT"], flag, value)


def test_the_device_is_the_trainers_accelerator():
    assert {recipe_default(recipe, "trainer.accelerator") for recipe in (SIMCLR, HVIT)} == {"auto"}


def test_an_image_size_that_does_not_divide_is_refused_with_those_that_do(places):
    """data.img_size: [224, 224], which the page gives against too little memory."""
    whole = json.dumps({"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]})
    with pytest.raises(ConfigError, match=r"multiple of 128 px, not 224 px: set .*data\.image_size.* to 128 or 256"):
        built(parsed(HVIT, places["ROOT"], "--model.backbone_args", whole, "--data.image_size", "224"))


def test_the_two_phases_follow_one_another_as_the_page_tells(places, workdir, quick_pictures):
    """--config, --data-dir, --ssl-checkpoint, --output-dir, and what is logged."""
    short = ["--trainer.max_epochs", "1", "--folds", "0", "--data.root", places["ROOT"], *SMALL]
    assert main(["fit", "--config", str(CONFIGS / SIMCLR), *short]) == 0
    pretrained = find_run(Path("lightning_logs"))
    assert pretrained.path.resolve() == workdir / "lightning_logs" / "leaf_simclr" / "version_0"
    logged = set(pd.read_csv(pretrained.metrics_csv(0)))
    assert {"train/loss", "train/lr", "val/probe_accuracy", "train/alignment", "train/uniformity"} <= logged
    origin = ["--model.init_from", "lightning_logs/leaf_simclr/version_0"]
    still = ["--model.optim.backbone_lr", "0", "--name", "tuned"]
    assert main(["fit", "--config", str(CONFIGS / HVIT), *short, *origin, *still]) == 0
    tuned = find_run(Path("lightning_logs"))
    assert tuned.path.resolve() == workdir / "lightning_logs" / "tuned" / "version_0"
    logged = set(pd.read_csv(tuned.metrics_csv(0)))
    assert {"train/loss", "train/lr", "val/accuracy", "val/f1_macro", "val/loss"} <= logged
    assert list(tuned.fold_dir(0).glob("events.out.tfevents*"))  # of TensorBoard
    before, after = (encoder(run.best_checkpoint(0)) for run in (pretrained, tuned))
    assert before.keys() == after.keys() and all(torch.equal(after[name], value) for name, value in before.items())


def encoder(checkpoint: Path) -> dict[str, torch.Tensor]:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("network.backbone.network.")}
