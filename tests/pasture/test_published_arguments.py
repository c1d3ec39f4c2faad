"""Every argument of the two published training scripts: its key here, its default, and what it changes.

The table below is the data. A row's effect is looked at where it acts: in the batch, the loss, the rates, the
network, the folds, the loader, the trainer, or the files.
"""

import inspect
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from biomass_pl.cli import main
from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError
from biomass_pl.harness.fit import FitOptions
from biomass_pl.harness.parser import DEFAULT_SEED, RunCLI
from biomass_pl.harness.predict import PredictOptions
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.five_head import AuxiliaryConfig, FiveHead
from biomass_pl.pasture.losses import WeightedLoss
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.task import PastureTask, SoftmaxRatio, StereoTask
from biomass_pl.runs import find_run
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.optim import OptimConfig, TrainingLength, backbone_rate, head_rate

CONFIGS = Path(__file__).parents[2] / "configs"


def batch(cli: RunCLI) -> Any:
    """The first training batch of fold 0."""
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    content = next(iter(cli.datamodule.train_dataloader()))
    return [content["id"], content["tiles"].tolist(), content["target"].tolist()]


def folds(cli: RunCLI) -> Any:
    return cli.datamodule.make_folds().to_dict()


def output(cli: RunCLI) -> Any:
    """What the untrained network predicts, with the same random weights wherever these have the same shape."""
    torch.manual_seed(0)
    cli.model.configure_model()
    generator = torch.Generator().manual_seed(0)
    for value in cli.model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.1
    tiles = torch.randint(256, (2, 2, 4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return cli.model.predict_step({"id": ["a", "b"], "tiles": tiles}).columns["Dry_Dead_g_pred"].tolist()


def loss(cli: RunCLI) -> Any:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (60 * torch.rand(4, 5, generator=generator) for _ in range(2))
    parts = cli.model.loss(prediction, target, log_target=cli.model.log_target)
    return float(sum(parts.values()))


def auxiliary_loss(cli: RunCLI) -> Any:
    torch.manual_seed(0)
    cli.model.configure_model()
    batch = {"tiles": torch.zeros(2, 2, 4, 3, 32, 32, dtype=torch.uint8), "target": torch.ones(2, 5)}
    known = {"state": torch.tensor([0, 1]), "month": torch.tensor([2, 3]), "species": torch.tensor([4, 5])}
    return {name: float(part) for name, part in cli.model.step(batch | known).losses.items()}


def rates(cli: RunCLI) -> Any:
    """Both rates at every step of the training."""
    frozen = [callback.epochs for callback in cli.configured_callbacks() if isinstance(callback, BackboneFreeze)]
    epochs = cli.trainer.max_epochs
    length = TrainingLength(epochs=epochs, steps_per_epoch=2, frozen_epochs=frozen[0] if frozen else 0)
    return [
        (rate(step, config=cli.model.optim, length=length))
        for rate in (head_rate, backbone_rate)
        for step in range(2 * epochs)
    ]


def weight_decay(cli: RunCLI) -> Any:
    cli.model.configure_model()
    cli.model._trainer = cli.trainer
    cli.trainer.strategy.connect(cli.model)
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    cli.trainer._data_connector.attach_data(cli.model, datamodule=cli.datamodule)
    return [group["weight_decay"] for group in cli.model.configure_optimizers()["optimizer"].param_groups]


def kept_for_backward(cli: RunCLI) -> Any:
    """Numbers that the forward pass keeps for the backward pass."""
    kept = []
    cli.model.configure_model()
    tiles = torch.zeros(2, 2, 4, 3, 32, 32, dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: kept.append(value.numel()) or value, lambda value: value
    ):
        cli.model.network(tiles)
    return sum(kept)


def drop_rates(cli: RunCLI) -> Any:
    cli.model.configure_model()
    return [module.p for module in cli.model.network.fusion.modules() if isinstance(module, torch.nn.Dropout)]


def loader(cli: RunCLI) -> Any:
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    made = cli.datamodule.train_dataloader()
    return made.num_workers, made.prefetch_factor


def survives_without_files(cli: RunCLI) -> Any:
    """Whether the photos can be read once their files are gone: the cache holds them."""
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    made = cli.datamodule.train_dataloader()
    for photo in (cli.datamodule.root / "train").iterdir():
        photo.unlink()
    try:
        return len(next(iter(made))["id"]) > 0
    except Exception as error:
        return type(error).__name__


def trainer(name: str) -> Callable[[RunCLI], Any]:
    return lambda cli: reduce(getattr, name.split("."), cli.trainer)


def patience(cli: RunCLI) -> Any:
    return [callback.patience for callback in cli.configured_callbacks() if isinstance(callback, EarlyStopping)]


def signature(owner: Any, name: str) -> Any:
    return inspect.signature(owner).parameters[name].default


def recipe_value(name: str, *path: str) -> Any:
    return reduce(lambda part, key: part[key], path, yaml.safe_load((CONFIGS / name).read_text()))


def recipe_callback(name: str, callback: str, key: str) -> Any:
    callbacks = recipe_value(name, "trainer", "callbacks")
    return next(entry["init_args"][key] for entry in callbacks if entry["class_path"] == callback)


@dataclass(frozen=True)
class Row:
    """One published argument.

    Args:
        published: Its name and default there.
        default: Our default of the key.
        expected: What that must be.
        key: The key here, as a flag.
        changed: Another value.
        effect: Where the change shows.
        base: Settings under which the key acts.
    """

    published: str
    default: Any
    expected: Any
    key: str
    changed: str
    effect: Callable[[RunCLI], Any]
    base: list[str] = field(default_factory=list)


SOFTMAX = ["--model", "SoftmaxRatio"]
FIVE = ["--model", "FiveHead"]
WEIGHTED = ["--model.loss", "WeightedLoss"]
AUXILIARY = [*FIVE, "--model.auxiliary", "{state_weight: 5.0, month_weight: 3.0, species_weight: 2.0}"]
FREEZE_ALL = "[{class_path: BackboneFreeze, init_args: {epochs: all}}]"
FREEZE_TWO = "[{class_path: BackboneFreeze, init_args: {epochs: 2}}]"
STOP_THREE = "[{class_path: EarlyStopping, init_args: {monitor: val/weighted_r2, mode: max, patience: 3}}]"
EQUAL = [0.2] * 5
SCORED = [0.1, 0.1, 0.1, 0.2, 0.5]
DINO = "vit_base_patch14_reg4_dinov2.lvd142m"

ROWS = [
    Row("--model-type softmax", recipe_value("softmax_ratio.yaml", "model", "class_path"), "SoftmaxRatio", "--model", "SoftmaxRatio", output),
    Row("--backbone", signature(PastureTask, "backbone"), DINO, "--model.backbone", "test_vit2.r160_in1k", output),
    Row("--grid 2 2", signature(PastureDataModule, "grid"), (2, 2), "--data.grid", "[1, 2]", batch),
    Row("--dropout .2", signature(PastureTask, "dropout"), 0.2, "--model.dropout", "0.4", drop_rates),
    Row("--hidden-ratio .5", signature(StereoTask, "hidden_ratio"), 0.5, "--model.hidden_ratio", "1.0", output),
    Row("--no-film", signature(StereoTask, "film"), True, "--model.film", "false", output),
    Row("--no-attention-pool", signature(StereoTask, "attention_pool"), True, "--model.attention_pool", "false", output),
    Row("--grad-ckpt", signature(ImageTask, "grad_checkpointing"), False, "--model.grad_checkpointing", "true", kept_for_backward),
    Row("--ratio-temperature 1", signature(SoftmaxRatio, "ratio_temperature"), 1.0, "--model.ratio_temperature", "3.0", output, SOFTMAX),
    Row("--epochs 50", recipe_value("softmax_ratio.yaml", "trainer", "max_epochs"), 50, "--trainer.max_epochs", "7", rates),
    Row("--batch-size 8", signature(PastureDataModule, "batch_size"), 8, "--data.batch_size", "3", batch),
    Row("--patience 10", recipe_callback("softmax_ratio.yaml", "EarlyStopping", "patience"), 10, "--trainer.callbacks", STOP_THREE, patience),
    Row("--freeze-backbone", recipe_callback("head_only.yaml", "BackboneFreeze", "epochs"), "all", "--trainer.callbacks", FREEZE_ALL, rates),
    Row("--two-stage --freeze-epochs 5", recipe_callback("two_stage.yaml", "BackboneFreeze", "epochs"), 5, "--trainer.callbacks", FREEZE_TWO, rates),
    Row("--head-lr-stage1 1e-3", OptimConfig().head_lr_frozen, 1e-3, "--model.optim.head_lr_frozen", "5e-3", rates, ["--trainer.callbacks", FREEZE_TWO]),
    Row("--lr 2e-4", OptimConfig().head_lr, 2e-4, "--model.optim.head_lr", "5e-3", rates),
    Row("--backbone-lr 1e-5", OptimConfig().backbone_lr, 1e-5, "--model.optim.backbone_lr", "5e-3", rates),
    Row("--weight-decay .01", OptimConfig().weight_decay, 0.01, "--model.optim.weight_decay", "0.5", weight_decay),
    Row("--warmup-epochs 2", OptimConfig().warmup_epochs, 2, "--model.optim.warmup_epochs", "0", rates),
    Row("--grad-accum 1", signature(Trainer, "accumulate_grad_batches"), 1, "--trainer.accumulate_grad_batches", "2", trainer("accumulate_grad_batches")),
    Row("--grad-clip .5", recipe_value("softmax_ratio.yaml", "trainer", "gradient_clip_val"), 0.5, "--trainer.gradient_clip_val", "0.25", trainer("gradient_clip_val")),
    Row("--grad-clip 1.0 (five-head)", recipe_value("five_head.yaml", "trainer", "gradient_clip_val"), 1.0, "--trainer.gradient_clip_val", "0.25", trainer("gradient_clip_val")),
    Row("--target-weights", list(WeightedLoss().target_weights), SCORED, "--model.loss.target_weights", "[1, 0, 0, 0, 0]", loss, WEIGHTED),
    Row("--target-weights (five-head)", list(FiveHead(pretrained=False).loss.target_weights), EQUAL, "--model.loss.target_weights", "[1, 0, 0, 0, 0]", loss, [*FIVE, *WEIGHTED]),
    Row("--no-huber-for-dead", signature(WeightedLoss, "huber_for_dead"), True, "--model.loss.huber_for_dead", "false", loss, WEIGHTED),
    Row("--huber-delta 5", signature(WeightedLoss, "huber_delta"), 5.0, "--model.loss.huber_delta", "1.0", loss, WEIGHTED),
    Row("--ratio-loss-weight 0", signature(WeightedLoss, "ratio_weight"), 0.0, "--model.loss.ratio_weight", "0.7", loss, WEIGHTED),
    Row("--constraint-weight .05", FiveHead(pretrained=False).loss.constraint_weight, 0.05, "--model.loss.constraint_weight", "0.7", loss, [*FIVE, *WEIGHTED]),
    Row("--use-focal-loss", signature(PastureTask, "loss"), None, "--model.loss", "FocalMSE", loss),
    Row("--use-dead-aware-loss", signature(PastureTask, "loss"), None, "--model.loss", "DeadAware", loss),
    Row("--use-aux-heads", signature(FiveHead, "auxiliary"), None, "--model.auxiliary", "{state_weight: 1.0}", auxiliary_loss, FIVE),
    Row("--aux-state-weight 5", AuxiliaryConfig().state_weight, 5.0, "--model.auxiliary.state_weight", "1.0", auxiliary_loss, AUXILIARY),
    Row("--aux-month-weight 3", AuxiliaryConfig().month_weight, 3.0, "--model.auxiliary.month_weight", "1.0", auxiliary_loss, AUXILIARY),
    Row("--aux-species-weight 2", AuxiliaryConfig().species_weight, 2.0, "--model.auxiliary.species_weight", "1.0", auxiliary_loss, AUXILIARY),
    Row("--always-correct-dead", signature(FiveHead, "dead_correction"), "off", "--model.dead_correction", "always", output, FIVE),
    Row("--correction-threshold .15", signature(FiveHead, "correction_threshold"), 0.15, "--model.correction_threshold", "99", output, [*FIVE, "--model.dead_correction", "threshold"]),
    Row("--img-size 518", signature(PastureDataModule, "tile_size"), 518, "--data.tile_size", "48", batch),
    Row("--img-size 518 (shrink, then enlarge)", signature(PastureDataModule, "view_size"), None, "--data.view_size", "32", batch),
    Row("--aug-prob .5", signature(PastureDataModule, "aug_prob"), 0.5, "--data.aug_prob", "1.0", batch),
    Row("--stereo-correct-aug", signature(PastureDataModule, "stereo_correct_aug"), False, "--data.stereo_correct_aug", "true", batch, ["--data.stereo_correct_aug", "false"]),
    Row("--stereo-swap-prob 0", signature(PastureDataModule, "stereo_swap_prob"), 0.0, "--data.stereo_swap_prob", "1.0", batch),
    Row("--use-log-target", signature(PastureTask, "log_target"), False, "--model.log_target", "true", loss),
    Row("--mixup-prob 0", signature(PastureDataModule, "mixup_prob"), 0.0, "--data.mixup_prob", "1.0", batch),
    Row("--mixup-alpha .4", signature(PastureDataModule, "mixup_alpha"), 0.4, "--data.mixup_alpha", "9.0", batch, ["--data.mixup_prob", "1.0"]),
    Row("--cutmix-prob 0", signature(PastureDataModule, "cutmix_prob"), 0.0, "--data.cutmix_prob", "1.0", batch),
    Row("--cutmix-alpha 1", signature(PastureDataModule, "cutmix_alpha"), 1.0, "--data.cutmix_alpha", "9.0", batch, ["--data.cutmix_prob", "1.0"]),
    Row("--num-folds 5", signature(PastureDataModule, "num_folds"), 5, "--data.num_folds", "2", folds),
    Row("--cv-strategy group_month (five-head)", recipe_value("five_head.yaml", "data", "init_args", "cv_strategy"), "group_month", "--data.cv_strategy", "random", folds),
    Row("--fold-csv None", signature(PastureDataModule, "fold_csv"), None, "--data.fold_csv", "FOLDS", folds),
    Row("--multi-gpu", signature(Trainer, "devices"), "auto", "--trainer.devices", "2", trainer("world_size"), ["--trainer.accelerator", "cpu"]),
    Row("--amp-dtype", signature(Trainer, "precision"), None, "--trainer.precision", "bf16-mixed", trainer("precision")),
    Row("--num-workers 4", signature(PastureDataModule, "num_workers"), 4, "--data.num_workers", "2", loader),
    Row("--prefetch-factor 4", signature(PastureDataModule, "prefetch_factor"), 4, "--data.prefetch_factor", "2", loader, ["--data.num_workers", "1"]),
    Row("--cache-images", signature(PastureDataModule, "cache_images"), False, "--data.cache_images", "true", survives_without_files),
    Row("--seed 42", DEFAULT_SEED, 42, "--seed_everything", "7", batch),
    Row("--seed 18 (five-head)", recipe_value("five_head.yaml", "seed_everything"), 18, "--seed_everything", "7", folds),
]  # fmt: skip


@pytest.fixture
def fold_file(rendered, tmp_path) -> Path:
    ids = read_labels(rendered)["image_id"]
    pd.DataFrame({"sample_id_prefix": ids, "fold": range(len(ids))}).assign(fold=lambda t: t["fold"] % 2).to_csv(
        tmp_path / "given.csv", index=False
    )
    return tmp_path / "given.csv"


@pytest.fixture(scope="module")
def unchanged(recipe, rendered, tmp_path_factory) -> Callable[[Row], Any]:
    """What an effect is before an argument is changed; many rows share it."""

    @cache
    def of(effect: Callable[[RunCLI], Any], base: tuple[str, ...]) -> Any:
        # Photos of its own, for one effect is that they can be deleted.
        root = shutil.copytree(rendered, tmp_path_factory.mktemp("unchanged") / "data")
        return effect(RunCLI([*settings_of(recipe, base), "--data.root", str(root)]))

    return lambda row: of(row.effect, tuple(row.base))


def settings_of(recipe: Path, base: Sequence[str]) -> list[str]:
    return ["--config", str(recipe), "--trainer.callbacks=null", *base]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.published)
def test_a_published_argument_has_its_default_and_acts_where_it_should(row, recipe, unchanged, data, fold_file):
    assert row.default == row.expected
    changed = row.changed.replace("FOLDS", str(fold_file))
    before = unchanged(row)
    after = row.effect(RunCLI([*settings_of(recipe, row.base), "--data.root", str(data), row.key, changed]))
    assert not any(map(holds_nan, (before, after)))  # which differs from itself
    assert after != before


def holds_nan(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return value != value if isinstance(value, float) else any(map(holds_nan, parts))


@pytest.mark.parametrize("value", [math.nan, [1.0, [math.nan]], {"a": 1.0, "b": (0.0, math.nan)}])
def test_what_differs_from_itself_is_seen_wherever_it_stands(value):
    assert holds_nan(value) and not holds_nan([1.0, {"a": (2.0, "nan")}, None, True])


def test_the_device_type_is_the_trainers_accelerator(recipe):
    assert signature(Trainer, "accelerator") == "auto"
    with pytest.raises(ConfigError, match=r"MPSAccelerator"):
        RunCLI(["--config", str(recipe), "--trainer.accelerator", "mps"])


def test_the_folds_to_train_the_folder_and_the_table_are_options_of_fit(recipe, data, workdir):
    """--train-folds, --output-dir, --base-path, --compute-oof."""
    assert (FitOptions().folds, FitOptions().name, FitOptions().oof) == (None, None, None)
    assert signature(PastureDataModule, "root") == Path("data")
    short = ["--trainer.callbacks", "null", "--trainer.max_epochs", "1"]
    arguments = ["--config", str(recipe), "--data.root", str(data), *short, "--folds", "1"]
    assert main(["fit", *arguments, "--name", "named"]) == 0
    run = find_run(workdir / "lightning_logs")
    assert run.path == workdir / "lightning_logs" / "named" / "version_0"
    assert [fold for fold in range(3) if run.fold_dir(fold).exists()] == [1]
    assert run.oof_predictions.is_file()
    assert main(["fit", *arguments, "--oof", "false", "--name", "bare"]) == 0
    assert not find_run(workdir / "lightning_logs").oof_predictions.is_file()


def test_the_evaluation_script_is_predict(trained, run, data, tmp_path, monkeypatch):
    """--model-dir, --data-dir, --batch-size, --num-folds, --derive-dead, --tta, --device."""
    assert (PredictOptions().run, PredictOptions().folds) == (None, None)
    assert (PredictOptions().tta, PredictOptions().steps) == (False, ())
    monkeypatch.chdir(tmp_path)
    tables = {"all": pd.read_csv(run.oof_predictions).set_index("image_id").filter(like="_pred")}
    for name, arguments in {
        "plain": [],
        "root": ["--data.root", str(data), "--data.batch_size", "3", "--trainer.accelerator", "cpu"],
        "tta": ["--tta"],
    }.items():
        assert main(["predict", "--run", str(run.path), "--folds", "2", "--out", f"{name}.csv", *arguments]) == 0
        tables[name] = pd.read_csv(f"{name}.csv").set_index("image_id").filter(like="_pred")
    assert not any(table.isna().any(axis=None) for table in tables.values())
    assert (tables["plain"] - tables["root"]).abs().max(axis=None) < 1e-3
    assert 0 < len(tables["plain"]) < len(tables["all"])
    assert (tables["plain"] - tables["all"].loc[tables["plain"].index]).abs().max(axis=None) < 1e-3
    assert (tables["plain"] - tables["tta"]).abs().max(axis=None) > 1e-4
