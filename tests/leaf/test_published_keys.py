"""Every key that the published training of HViT names: its key here, its default, and what it changes.

The table below is the data. A row's effect is looked at where it acts: in the batch, the loss, the rates, the network,
the loader, a short training or the trainer. Keys of the page that have no key here follow it, each with what is done
instead: found in the data, served by Lightning, or refused by name.
"""

import json
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
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from biomass_pl.cli import main
from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError
from biomass_pl.harness.parser import RunCLI
from biomass_pl.leaf.data import LeafDataModule
from biomass_pl.runs import find_run
from biomass_pl.training.hvit import HierarchicalViT
from biomass_pl.training.optim import TrainingLength
from tests.leaf.conftest import CLASSES, FOLDS, picture, save, write_classes

CONFIGS = Path(__file__).parents[2] / "configs"
SIMCLR, HVIT = "leaf_simclr.yaml", "leaf_hvit.yaml"

NETWORK = ("--model.backbone_args", json.dumps({"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}))
SMALL = (
    *NETWORK,
    *("--data.image_size", "32"),
    *("--data.num_folds", str(FOLDS)),
    *("--data.batch_size", "4"),
    *("--data.num_workers", "0"),
)
ONE_EPOCH = ("--trainer.max_epochs", "1", "--trainer.logger", "false", "--trainer.enable_checkpointing", "false")
"""A training that leaves no files."""


def parsed(recipe: str, root: Path, *settings: str) -> RunCLI:
    """The objects of fold 0 of a recipe with a tiny network and tiny photos."""
    cli = RunCLI(["--config", str(CONFIGS / recipe), "--data.root", str(root), *SMALL, *settings])
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    return cli


def built(cli: RunCLI) -> Any:
    """The task with its network, which has the same random weights wherever these have the same shapes."""
    cli.model.set_up_for(cli.datamodule)
    cli.model.configure_model()
    generator = torch.Generator().manual_seed(0)
    for value in cli.model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.1
    cli.model.start_from(cli.datamodule)
    return cli.model


def batch(cli: RunCLI) -> Any:
    """The first training batch: photos, or pairs of views of them."""
    cli.model.set_up_for(cli.datamodule)
    first = next(iter(cli.datamodule.train_dataloader()))
    return {name: part.tolist() if isinstance(part, torch.Tensor) else part for name, part in first.items()}


def loader(cli: RunCLI) -> Any:
    made = cli.datamodule.train_dataloader()
    return made.num_workers, made.batch_size


def shapes(cli: RunCLI) -> Any:
    return [(name, tuple(value.shape)) for name, value in built(cli).named_parameters()]


def features(cli: RunCLI) -> Any:
    model = built(cli).eval()
    tiles = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        return model.backbone(tiles).tolist()


def backbone_weights(cli: RunCLI) -> Any:
    cli.model.set_up_for(cli.datamodule)
    cli.model.configure_model()
    return [float(value.detach().sum()) for value in cli.model.backbone.parameters()]


def loss(cli: RunCLI) -> Any:
    """The loss of an epoch's batches as a training step computes it."""
    model = built(cli).train()
    torch.manual_seed(0)
    batches = list(cli.datamodule.train_dataloader())
    return [float(part) for batch in batches for part in model.step(batch).losses.values()]


def learning(cli: RunCLI) -> Any:
    """Weight decay and rates of each group of weights over the training."""
    length = TrainingLength(epochs=cli.trainer.max_epochs, steps_per_epoch=2)
    groups = built(cli).parameter_groups(length)
    steps = range(2 * length.epochs)
    return [(group.name, group.weight_decay, [group.rate(step) for step in steps]) for group in groups]


def drop_rates(cli: RunCLI) -> Any:
    modules = list(built(cli).modules())
    dropped = [module.p for module in modules if isinstance(module, torch.nn.Dropout)]
    paths = [module.drop_prob for module in modules if isinstance(module, timm.layers.DropPath)]
    attention = [module.attn_drop.p for module in modules if isinstance(module, timm.layers.Attention)]
    return dropped, paths, attention


def kept_for_backward(cli: RunCLI) -> Any:
    """Numbers that the forward pass keeps for the backward pass."""
    kept = []
    model = built(cli).train()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: kept.append(value.numel()) or value, lambda value: value
    ):
        model.backbone(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    return sum(kept)


class Observer(Callback):
    """Notes after each epoch how many steps were made, whether the backbone learned, and when it was last probed."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_validation_epoch_end(self, trainer, pl_module):
        learns = all(value.requires_grad for value in pl_module.backbone.parameters())
        probed = pl_module.probe.epochs if hasattr(pl_module, "probe") else None
        self.seen.append((trainer.global_step, learns, probed))


def trained(cli: RunCLI) -> Observer:
    observer = Observer()
    cli.trainer.callbacks.append(observer)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return observer


def epochs(cli: RunCLI) -> Any:
    return trained(cli).seen


def trained_weights(cli: RunCLI) -> Any:
    """What validates and predicts after an epoch."""
    trained(cli)
    return [float(value.detach().sum()) for value in cli.model.parameters()]


def trainer(name: str) -> Callable[[RunCLI], Any]:
    return lambda cli: reduce(getattr, name.split("."), cli.trainer)


def early_stopping(cli: RunCLI) -> Any:
    stopping = [callback for callback in cli.configured_callbacks() if isinstance(callback, EarlyStopping)]
    return [(callback.monitor, callback.patience, callback.min_delta) for callback in stopping]


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
        published: Its name, in the page or, with `model.` or `training.`, in the published configuration.
        recipe: The phase.
        key: The key here, or `<Class>.<argument>` of a callback.
        default: What it must be in the recipe: the page's default.
        changed: Another value, as a flag has it.
        effect: Where the change shows.
        base: Settings under which the key acts.
        flag: The flag that changes it, where it is not the key.
    """

    published: str
    recipe: str
    key: str
    default: Any
    changed: str
    effect: Callable[[RunCLI], Any]
    base: tuple[str, ...] = ()
    flag: str | None = None


def averaging(decay: float) -> str:
    return json.dumps([{"class_path": "ExponentialAveraging", "init_args": {"decay": decay}}])


def stopping(**changed: Any) -> str:
    arguments = {"monitor": "val/f1_macro", "mode": "max", "patience": 15, "min_delta": 0.001, **changed}
    return json.dumps([{"class_path": "EarlyStopping", "init_args": arguments}])


CALLBACKS = "trainer.callbacks"
PLAIN = ("--trainer.callbacks", "null", *ONE_EPOCH)
STEADY = ("--model.mixing", "null")
SEVEN_EPOCHS = (*PLAIN, "--trainer.max_epochs", "7", "--trainer.limit_train_batches", "1")
BANDS = ("--data.spectral", "BANDS", "--model.spectral_channels", "2", "--model.backbone_args.embed_dim", "12")

ROWS = [
    Row("data.root_dir", SIMCLR, "data.root", "data", "OTHER", batch),
    Row("data.img_size", SIMCLR, "data.image_size", 256, "48", batch),
    Row("data.img_size", HVIT, "data.image_size", 256, "48", batch),
    Row("data.num_workers", SIMCLR, "data.num_workers", 4, "1", loader),
    Row("model.patch_size", SIMCLR, "model.backbone_args.patch_size", 16, "8", shapes),
    Row("model.embed_dim_rgb", SIMCLR, "model.backbone_args.embed_dim", 96, "16", shapes),
    Row("model.depths", SIMCLR, "model.backbone_args.depths", [2, 2, 6, 2], "[1, 2]", shapes),
    Row("model.num_heads", SIMCLR, "model.backbone_args.num_heads", [3, 6, 12, 24], "[2, 4]", features),
    Row("model.mlp_ratio", SIMCLR, "model.backbone_args.mlp_ratio", 4.0, "2.0", shapes),
    Row("model.qkv_bias", SIMCLR, "model.backbone_args.qkv_bias", True, "false", shapes),
    Row("model.drop_path_rate", SIMCLR, "model.backbone_args.drop_path_rate", 0.1, "0.5", drop_rates),
    Row("model.drop_path_rate", HVIT, "model.backbone_args.drop_path_rate", 0.2, "0.5", drop_rates),
    Row("model.model_drop_rate", SIMCLR, "model.backbone_args.pos_drop_rate", 0.0, "0.5", drop_rates),
    Row("model.model_drop_rate", HVIT, "model.backbone_args.pos_drop_rate", 0.1, "0.5", drop_rates),
    Row("model.model_drop_rate", HVIT, "model.backbone_args.proj_drop_rate", 0.1, "0.5", drop_rates),
    Row("model.attn_drop_rate", HVIT, "model.backbone_args.attn_drop_rate", 0.0, "0.5", drop_rates),
    Row("model.use_gradient_checkpointing", SIMCLR, "model.grad_checkpointing", True, "false", kept_for_backward),
    Row("model.use_gradient_checkpointing", HVIT, "model.grad_checkpointing", False, "true", kept_for_backward),
    Row("model.spectral_channels", HVIT, "model.spectral_channels", 0, "2", shapes, BANDS[:2] + BANDS[4:]),
    Row("model.use_dfca", HVIT, "model.use_dfca", None, "false", shapes, BANDS),
    Row("training.epochs", SIMCLR, "trainer.max_epochs", 100, "7", learning),
    Row("training.epochs", HVIT, "trainer.max_epochs", 100, "7", learning),
    Row("training.batch_size", SIMCLR, "data.batch_size", 64, "3", loader),
    Row("training.batch_size", HVIT, "data.batch_size", 32, "3", loader),
    Row("training.learning_rate", SIMCLR, "model.optim.backbone_lr", 3e-4, "0.1", learning),
    Row("training.learning_rate", SIMCLR, "model.optim.head_lr", 3e-4, "0.1", learning),
    Row("training.learning_rate", HVIT, "model.optim.backbone_lr", 1e-4, "0.1", learning),
    Row("training.learning_rate", HVIT, "model.optim.head_lr", 1e-4, "0.1", learning),
    Row("training.weight_decay", SIMCLR, "model.optim.weight_decay", 1e-4, "0.5", learning),
    Row("training.weight_decay", HVIT, "model.optim.weight_decay", 0.01, "0.5", learning),
    Row("training.warmup_epochs", SIMCLR, "model.optim.warmup_epochs", 10, "2", learning),
    Row("training.warmup_epochs", HVIT, "model.optim.warmup_epochs", 5, "2", learning),
    Row("training.gradient_accumulation_steps", HVIT, "trainer.accumulate_grad_batches", 1, "2", epochs, PLAIN),
    Row("training.clip_grad_norm", HVIT, "trainer.gradient_clip_val", None, "1.0", trainer("gradient_clip_val")),
    Row("training.amp_enabled", HVIT, "trainer.precision", None, "bf16-mixed", trainer("precision")),
    Row("temperature", SIMCLR, "model.temperature", 0.07, "0.5", loss),
    Row("projection_dim", SIMCLR, "model.projection_dim", 128, "16", shapes),
    Row("probe_every", SIMCLR, "model.probe_every", 10, "3", epochs, SEVEN_EPOCHS),
    Row("Random Crop", SIMCLR, "model.pairs.crop_scale", [0.2, 1.0], "[0.9, 1.0]", batch),
    Row("Horizontal Flip", SIMCLR, "model.pairs.flip_prob", 0.5, "0.0", batch),
    Row("Color Jitter, simclr_s", SIMCLR, "model.pairs.jitter_strength", 1.0, "0.1", batch),
    Row("Color Jitter, brightness", SIMCLR, "model.pairs.brightness", 0.8, "0.1", batch),
    Row("Color Jitter, contrast", SIMCLR, "model.pairs.contrast", 0.8, "0.1", batch),
    Row("Color Jitter, saturation", SIMCLR, "model.pairs.saturation", 0.8, "0.1", batch),
    Row("Color Jitter, hue", SIMCLR, "model.pairs.hue", 0.2, "0.01", batch),
    Row("Color Jitter, probability", SIMCLR, "model.pairs.jitter_prob", 0.8, "0.0", batch),
    Row("Grayscale", SIMCLR, "model.pairs.greyscale_prob", 0.2, "1.0", batch),
    Row("Gaussian Blur, p", SIMCLR, "model.pairs.blur_prob", 0.5, "0.0", batch),
    Row("Gaussian Blur, kernel", SIMCLR, "model.pairs.blur_sigma", [0.1, 2.0], "[4.0, 5.0]", batch),
    Row("training.use_ema", HVIT, "ExponentialAveraging.decay", 0.9999, averaging(0.0), trained_weights, PLAIN, CALLBACKS),
    Row("training.ema_decay", HVIT, "ExponentialAveraging.decay", 0.9999, averaging(0.1), trained_weights, (*ONE_EPOCH, "--trainer.callbacks", averaging(0.9999)), CALLBACKS),
    Row("training.use_mixup, mixup_alpha", HVIT, "model.mixing.mixup_alpha", 0.8, "0", loss),
    Row("training.use_cutmix, cutmix_alpha", HVIT, "model.mixing.cutmix_alpha", 1.0, "0", loss),
    Row("mixing, probability", HVIT, "model.mixing.probability", 1.0, "0.0", loss),
    Row("mixing, switch", HVIT, "model.mixing.switch_probability", 0.5, "1.0", loss),
    Row("training.loss_type", HVIT, "model.loss", "CombinedLoss", "FocalLoss", loss, STEADY),
    Row("training.loss_type", HVIT, "model.loss", "CombinedLoss", "CrossEntropyLoss", loss, STEADY),
    Row("training.focal_gamma", HVIT, "model.loss.gamma", 2.0, "5.0", loss, STEADY),
    Row("training.label_smoothing", HVIT, "model.loss.label_smoothing", 0.1, "0.5", loss, STEADY),
    Row("combined, weights", HVIT, "model.loss.focal_weight", 0.5, "0.9", loss, STEADY),
    Row("focal alpha, get_class_weights()", HVIT, "model.class_weights", False, "true", loss, STEADY),
    Row("use_weighted_sampler", HVIT, "data.balance", None, "sampler", batch),
    Row("augmentations.severity", HVIT, "data.severity", "moderate", "light", batch),
    Row("augmentations.severity", HVIT, "data.severity", "moderate", "aggressive", batch),
    Row("validation.early_stopping.patience", HVIT, "EarlyStopping.patience", 15, stopping(patience=3), early_stopping, (), CALLBACKS),
    Row("validation.early_stopping.min_delta", HVIT, "EarlyStopping.min_delta", 0.001, stopping(min_delta=0.1), early_stopping, (), CALLBACKS),
    Row("evaluation.early_stopping.metric", HVIT, "EarlyStopping.monitor", "val/f1_macro", stopping(monitor="val/accuracy"), early_stopping, (), CALLBACKS),
    Row("torch_compile.enable", HVIT, "model.compile", False, "true", lambda cli: built(cli).backbone.network._compiled_call_impl is None),
    Row("model.ssl_pretrained_path", HVIT, "model.backbone_weights", None, "WEIGHTS", backbone_weights),
    Row("seed 42", SIMCLR, "seed_everything", 42, "7", batch),
    Row("seed 42", HVIT, "seed_everything", 42, "7", batch),
    Row("DataParallel, --nproc_per_node", HVIT, "trainer.devices", "auto", "2", trainer("world_size"), ("--trainer.accelerator", "cpu")),
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
def unchanged(places) -> Callable[[Row], Any]:
    """What an effect is before a key is changed; many rows share it."""

    @cache
    def of(recipe: str, effect: Callable[[RunCLI], Any], base: tuple[str, ...]) -> Any:
        return effect(parsed(recipe, Path(places["ROOT"]), *base))

    return lambda row: of(row.recipe, row.effect, tuple(places.get(word, word) for word in row.base))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.recipe[5:-5]} {row.published} {row.key} {row.changed[:12]}")
def test_a_published_key_has_its_default_and_acts_where_it_should(row, places, unchanged):
    assert recipe_default(row.recipe, row.key) == row.default
    base = [places.get(word, word) for word in row.base]
    changed = parsed(
        row.recipe, Path(places["ROOT"]), *base, f"--{row.flag or row.key}", places.get(row.changed, row.changed)
    )
    assert row.effect(changed) != unchanged(row)
