"""Training of the pasture models, seen from the batch to the logged score."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError, TrainingError
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.five_head import FiveHead
from biomass_pl.pasture.losses import WeightedLoss
from biomass_pl.pasture.scores import weighted_r2
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.pasture.task import HierarchicalRatio, SoftmaxRatio
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.optim import OptimConfig

MODELS = [SoftmaxRatio, HierarchicalRatio, FiveHead]
TINY = {"backbone": "test_vit.r160_in1k", "pretrained": False, "tile_size": 32}


def fold_data(root: Path, fold: int = 0) -> PastureDataModule:
    data = PastureDataModule(root=root, num_folds=3, tile_size=32, num_workers=0, seed=1)
    data.use(Split(fold=fold, folds=data.make_folds()))
    return data


def trainer(folder: Path, **settings) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(
        max_epochs=settings.pop("max_epochs", 1),
        logger=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **quiet,
        **settings,
    )


@pytest.mark.parametrize("model", MODELS)
def test_training_changes_backbone_and_head_and_logs_the_score_of_the_fold(model, rendered, tmp_path):
    pl.seed_everything(0, verbose=False)
    task = model(**TINY, optim=OptimConfig(head_lr=1e-2, backbone_lr=1e-3))
    data = fold_data(rendered)
    trained = trainer(tmp_path, max_epochs=2)
    task.configure_model()
    before = {name: value.clone() for name, value in task.named_parameters()}
    trained.fit(task, data)
    changed = {name.split(".")[1] for name, value in task.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"backbone", "fusion", "head"}
    data.select("held_out")
    task.eval()
    with torch.inference_mode():
        batches = [(task.step(batch).outputs["prediction"], batch["target"]) for batch in data.predict_dataloader()]
    prediction, truth = (torch.cat(parts).double().numpy() for parts in zip(*batches, strict=True))
    assert float(trained.callback_metrics["val/weighted_r2"]) == pytest.approx(weighted_r2(truth, prediction), abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("log_target", [False, True])
def test_the_first_predictions_lie_near_the_means_of_the_training_fold(model, log_target, rendered, tmp_path):
    pl.seed_everything(0, verbose=False)
    task = model(**TINY, log_target=log_target)
    data = fold_data(rendered)
    # Rates of zero: fit builds the network and changes nothing.
    task.optim = OptimConfig(head_lr=0, backbone_lr=0, weight_decay=0)
    trainer(tmp_path).fit(task, data)
    batch = next(iter(data.val_dataloader()))
    with torch.inference_mode():
        prediction = task.eval().step(batch).outputs["prediction"].mean(dim=0)
    means = data.training_targets().mean(axis=0)
    assert np.allclose(prediction, means, rtol=0.5, atol=2)


def test_initial_biases_do_not_depend_on_the_labels_of_held_out_photos(data, tmp_path):
    def biases() -> torch.Tensor:
        pl.seed_everything(0, verbose=False)
        task = HierarchicalRatio(**TINY, optim=OptimConfig(head_lr=0, backbone_lr=0, weight_decay=0))
        module = PastureDataModule(root=data, fold_csv=folds_csv, tile_size=32, num_workers=0)
        module.use(Split(fold=0, folds=module.make_folds()))
        trainer(tmp_path).fit(task, module)
        return torch.cat([value.flatten() for name, value in task.named_parameters() if name.endswith("3.bias")])

    folds = fold_data(data).make_folds()
    folds_csv = data / "folds.csv"
    folds.reset_index().to_csv(folds_csv, index=False)
    before = biases()
    table = pd.read_csv(data / "train.csv", dtype=str)
    held_out = table["sample_id"].str.rpartition("__")[0].isin(folds.index[folds == 0])
    table.loc[held_out, "target"] = "100.0"
    table.to_csv(data / "train.csv", index=False)
    assert torch.equal(biases(), before)
    table["target"] = "50.0"
    table.to_csv(data / "train.csv", index=False)
    assert not torch.equal(biases(), before)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("ignore:.*AMP")
def test_half_precision_trains_and_keeps_the_identities(precision, rendered, tmp_path):
    task = HierarchicalRatio(**TINY)
    data = fold_data(rendered)
    half = trainer(tmp_path, precision=precision, gradient_clip_val=1.0)
    half.fit(task, data)
    data.select("held_out")
    rows = half.predict(task, data)
    assert rows
    grams = {target: torch.cat([batch.columns[f"{target}_pred"] for batch in rows]) for target in TARGETS}
    total = grams["Dry_Total_g"]
    assert total.dtype == torch.float32
    assert all((values >= 0).all() for values in grams.values())
    assert torch.allclose(grams["GDM_g"] + grams["Dry_Dead_g"], total, rtol=1e-6)
    assert torch.allclose(grams["Dry_Green_g"] + grams["Dry_Clover_g"], grams["GDM_g"], rtol=1e-6)


class NoFloat64(TorchDispatchMode):
    """Fails at the first float64 tensor, as a device without float64 would; the CPU's own scores are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        moved_to_cpu = func in (torch.ops.aten._to_copy.default, torch.ops.aten.detach.default)
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64 and not moved_to_cpu:
            msg = f"float64 from {func}"
            raise TypeError(msg)
        return result


@pytest.mark.parametrize("model", MODELS)
def test_nothing_float64_reaches_a_device(model, rendered, tmp_path):
    task = model(**TINY)
    data = fold_data(rendered)
    with NoFloat64() as guard:
        fitted = trainer(tmp_path, callbacks=[BackboneFreeze(epochs=1)], max_epochs=2)
        fitted.fit(task, data)
        data.select("held_out")
        assert fitted.predict(task, data)
    assert guard.operations > 1000
    state = fitted.optimizers[0].state.values()
    tensors = [*task.parameters(), *task.buffers(), *(value for own in state for value in own.values())]
    assert not [tensor for tensor in tensors if tensor.dtype == torch.float64]


def test_the_guard_against_float64_sees_one():
    with pytest.raises(TypeError, match="float64"), NoFloat64():
        torch.ones(2, dtype=torch.float64)


def test_a_checkpoint_loads_in_python(rendered, tmp_path):
    task = SoftmaxRatio(**TINY, ratio_temperature=2.0, optim=OptimConfig(head_lr=3e-3), loss=WeightedLoss())
    fitted = trainer(tmp_path)
    fitted.fit(task, fold_data(rendered))
    fitted.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    loaded = SoftmaxRatio.load_from_checkpoint(tmp_path / "task.ckpt")
    assert loaded.ratio_temperature == 2.0
    assert loaded.optim.head_lr == 3e-3
    assert torch.equal(loaded.network.head.total[0].weight, task.network.head.total[0].weight)


def test_an_infinite_loss_ends_the_training(rendered, tmp_path):
    task = HierarchicalRatio(**TINY, optim=OptimConfig(head_lr=1e30, backbone_lr=1e30, warmup_epochs=0))
    with pytest.raises(TrainingError, match="Lower the rates"):
        trainer(tmp_path, max_epochs=3).fit(task, fold_data(rendered))


def test_the_published_losses_differ_in_weights_and_identities():
    ratio, five = SoftmaxRatio(**TINY).loss, FiveHead(**TINY).loss
    assert isinstance(ratio, WeightedLoss) and isinstance(five, WeightedLoss)
    assert tuple(ratio.target_weights) == (0.1, 0.1, 0.1, 0.2, 0.5) and ratio.constraint_weight == 0
    assert tuple(five.target_weights) == (0.2,) * 5 and five.constraint_weight == 0.05


@pytest.mark.parametrize(("settings", "name"), [({"dropout": 1.0}, "dropout"), ({"hidden_ratio": 0}, "hidden_ratio")])
def test_impossible_settings_are_refused(settings, name):
    with pytest.raises(ConfigError, match=f"model.{name}"):
        HierarchicalRatio(**TINY, **settings)


def test_whole_photos_train_a_network_of_one_view_which_its_checkpoint_knows(rendered, tmp_path):
    pl.seed_everything(0, verbose=False)
    task = HierarchicalRatio(**TINY)
    data = PastureDataModule(root=rendered, num_folds=3, tile_size=32, num_workers=0, seed=1, views="whole")
    data.use(Split(fold=0, folds=data.make_folds()))
    trained = trainer(tmp_path)
    trained.fit(task, data)
    assert task.network.fusion.film is None and np.isfinite(float(trained.callback_metrics["val/weighted_r2"]))
    trained.save_checkpoint(tmp_path / "whole.ckpt")
    loaded = HierarchicalRatio.load_from_checkpoint(tmp_path / "whole.ckpt", map_location="cpu").eval()
    batch = next(iter(data.val_dataloader()))
    assert batch["tiles"].shape[1:3] == (1, 4)
    with torch.inference_mode():
        assert torch.equal(loaded.network(batch["tiles"]), task.eval().network(batch["tiles"]))


def test_checkpoints_from_before_the_choice_are_of_two_views():
    task = HierarchicalRatio(**TINY)
    task.on_load_checkpoint({})
    assert task.views == 2
    task.on_load_checkpoint({"views": 1})
    assert task.views == 1
