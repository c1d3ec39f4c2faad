"""Two-stage training: what learns when, and from when scores count."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.demos.boring_classes import BoringModel

from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.task import HierarchicalRatio
from biomass_pl.training.callbacks.checkpoint import BestCheckpoint, LastCheckpoint
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.optim import OptimConfig


class Watch(pl.Callback):
    """Notes, per epoch, which parts changed and how the backbone ran."""

    def __init__(self) -> None:
        self.changed: list[set[str]] = []
        self.training: list[bool] = []
        self.rates: list[dict[str, float]] = []
        self.best_at_start: list[object] = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.before = {name: value.detach().clone() for name, value in pl_module.named_parameters()}
        self.best_at_start.append([c.best_model_score for c in trainer.checkpoint_callbacks if c.monitor])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 0:
            self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})

    def on_train_epoch_end(self, trainer, pl_module):
        self.training.append(any(module.training for module in pl_module.backbone.modules()))
        now = pl_module.named_parameters()
        self.changed.append({name.split(".")[1] for name, value in now if not torch.equal(value, self.before[name])})


@pytest.fixture
def task() -> HierarchicalRatio:
    optim = OptimConfig(head_lr=1e-3, backbone_lr=1e-4, head_lr_frozen=1e-2, warmup_epochs=0)
    # BatchNorm: its running statistics show whether a frozen backbone really is in eval mode.
    return HierarchicalRatio(backbone="test_resnet.r160_in1k", pretrained=False, tile_size=32, optim=optim)


@pytest.fixture
def module(rendered) -> PastureDataModule:
    data = PastureDataModule(root=rendered, num_folds=3, tile_size=32, num_workers=0)
    data.use(Split(fold=0, folds=data.make_folds()))
    return data


def fit(task, module, folder, freeze, *, epochs, callbacks=()) -> tuple[Watch, pl.Trainer]:
    watch = Watch()
    trainer = pl.Trainer(
        max_epochs=epochs,
        # The freeze comes first, as in a recipe.
        callbacks=[*([freeze] if freeze else []), *callbacks, watch],
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    trainer.fit(task, module)
    return watch, trainer


def statistics(task) -> torch.Tensor:
    return torch.cat([value.flatten() for name, value in task.backbone.named_buffers() if "running" in name])


def test_the_backbone_learns_from_stage_2_on_only(task, module, tmp_path):
    watch, _ = fit(task, module, tmp_path, BackboneFreeze(epochs=2), epochs=4)
    assert watch.changed == [{"fusion", "head"}, {"fusion", "head"}, *[{"backbone", "fusion", "head"}] * 2]
    assert watch.training == [False, False, True, True]
    assert [rates["backbone"] > 0 for rates in watch.rates] == [False, False, True, True]
    assert watch.rates[1]["head"] > watch.rates[2]["head"] > 0


def test_a_head_only_training_never_touches_the_backbone(task, module, tmp_path):
    task.configure_model()
    before = statistics(task)
    watch, _ = fit(task, module, tmp_path, BackboneFreeze(epochs="all"), epochs=2)
    assert watch.changed == [{"fusion", "head"}] * 2
    assert watch.training == [False, False]
    assert torch.equal(statistics(task), before)


def test_without_the_callback_everything_learns_from_the_start(task, module, tmp_path):
    task.configure_model()
    before = statistics(task)
    watch, _ = fit(task, module, tmp_path, None, epochs=1)
    assert watch.changed == [{"backbone", "fusion", "head"}]
    assert not torch.equal(statistics(task), before)


def test_a_frozen_backbone_makes_no_graph(task, module, tmp_path):
    fit(task, module, tmp_path, BackboneFreeze(epochs="all"), epochs=1)
    batch = next(iter(module.train_dataloader()))
    assert not task.backbone(batch["tiles"]).requires_grad
    assert task.network(batch["tiles"]).requires_grad


def test_best_and_patience_start_anew_at_the_switch(task, module, tmp_path):
    stopping = EarlyStopping(monitor="val/weighted_r2", mode="max", patience=3)
    best = BestCheckpoint(folder=tmp_path, objective=task.objective)
    last = LastCheckpoint(folder=tmp_path)
    freeze = BackboneFreeze(epochs=2)
    watch, _ = fit(task, module, tmp_path, freeze, epochs=4, callbacks=[stopping, best, last])
    assert watch.best_at_start[0] == [None]
    assert watch.best_at_start[1] != [None]
    assert watch.best_at_start[2] == [None]
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] >= 2
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3


@pytest.mark.parametrize("epochs", [0, -1])
def test_a_freeze_of_no_epochs_is_refused(epochs):
    with pytest.raises(ConfigError, match="give 1 or more"):
        BackboneFreeze(epochs=epochs)


def test_a_freeze_as_long_as_the_training_is_refused(task, module, tmp_path):
    with pytest.raises(ConfigError, match="leaves no epoch"):
        fit(task, module, tmp_path, BackboneFreeze(epochs=2), epochs=2)


@pytest.mark.parametrize(
    ("strategy", "epochs", "refused"),
    [("ddp", 1, True), ("ddp", "all", False), ("ddp_find_unused_parameters_true", 1, False)],
)
def test_processes_that_would_wait_for_a_backbone_to_learn_are_refused(strategy, epochs, refused, tmp_path):
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False, default_root_dir=tmp_path)
    freeze = BackboneFreeze(epochs=epochs)
    if refused:
        with pytest.raises(ConfigError, match="ddp_find_unused_parameters_true"):
            freeze.check(trainer)
    else:
        freeze.check(trainer)


def test_a_task_without_a_backbone_has_nothing_to_freeze(tmp_path):
    with pytest.raises(ConfigError, match=r"BoringModel has no backbone to freeze. Leave BackboneFreeze out"):
        fit(BoringModel(), None, tmp_path, BackboneFreeze(epochs="all"), epochs=1)
