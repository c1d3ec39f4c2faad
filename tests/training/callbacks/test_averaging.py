"""Averaged weights: their values, what runs on them, what checkpoints hold, and resuming."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.lesion.task import LesionClassifier
from biomass_pl.training.callbacks.averaging import ExponentialAveraging
from biomass_pl.training.callbacks.freeze import BackboneFreeze

pytestmark = pytest.mark.filterwarnings("ignore:.*(WeightAveraging callback with a model|many workers|directory .* ex)")

BATCHES = 6


class Regression(pl.LightningModule):
    """A small network with batch normalisation, whose inputs are far from mean 0 and variance 1."""

    def __init__(self, rate: float = 0.05) -> None:
        super().__init__()
        self.rate = rate
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("loss", nn.functional.mse_loss(self.network(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class History(pl.Callback):
    """Notes the weights after every step, and those with which validation runs."""

    def __init__(self) -> None:
        self.after_steps: list[dict] = []
        self.validated: list[dict] = []
        self.after_validation: list[dict] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.after_steps.append(copied(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validated.append(copied(pl_module))

    def on_validation_end(self, trainer, pl_module):
        self.after_validation.append(copied(pl_module))


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def photos() -> TensorDataset:
    inputs = 5 + 3 * torch.randn(BATCHES * 16, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, inputs.sum(dim=1, keepdim=True) / 10)


def loader(data) -> DataLoader:
    return DataLoader(data, batch_size=16)


def new_task(rate=0.05) -> Regression:
    torch.manual_seed(0)
    return Regression(rate)


def fit(task, data, folder, *callbacks, epochs=2, resume=None, **settings):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[*callbacks, ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(task, loader(data), loader(data), ckpt_path=resume, weights_only=True)
    return trainer


def saved(folder, epoch):
    return torch.load(folder / f"epoch={epoch}.ckpt", weights_only=True)


def by_hand(states, decay):
    """The average of weights after 1, 2, ... steps; whole numbers are the newest."""
    average = states[0]
    for steps, state in enumerate(states[1:], start=1):
        kept = min(decay, (1 + steps) / (10 + steps))
        average = {
            name: kept * average[name] + (1 - kept) * value if value.is_floating_point() else value
            for name, value in state.items()
        }
    return average


@pytest.mark.parametrize("decay", [0.9999, 0.4, 0.0])
def test_the_average_after_some_steps_is_the_one_by_hand(decay, photos, tmp_path):
    history = History()
    fit(new_task(), photos, tmp_path, ExponentialAveraging(decay=decay), history)
    assert len(history.after_steps) == 2 * BATCHES
    expected = by_hand(history.after_steps, decay)
    checkpoint = saved(tmp_path, 1)
    for name, value in checkpoint["state_dict"].items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert equal(checkpoint["current_model_state"], history.after_steps[-1])
    assert checkpoint["state_dict"]["network.1.num_batches_tracked"] == 2 * BATCHES


def test_the_share_kept_warms_up_as_said():
    """A weight of 0, then 1, 1, 1, ...: the average is 1 less the product of all shares kept: 2/11, 3/12, 4/13."""
    averaging, model = ExponentialAveraging(decay=0.3), nn.ParameterList([nn.Parameter(torch.zeros(1))])
    averaged = torch.optim.swa_utils.AveragedModel(model, use_buffers=True, **averaging._kwargs)
    found = []
    for value in (0.0, 1.0, 1.0, 1.0):
        nn.init.constant_(model[0], value)
        averaged.update_parameters(model)
        found.append(averaged.module[0].item())
    assert found == pytest.approx([0, 1 - 2 / 11, 1 - 2 / 11 * 3 / 12, 1 - 2 / 11 * 3 / 12 * 0.3], abs=1e-6)


def test_one_step_over_several_batches_is_averaged_once(photos, tmp_path):
    history = History()
    fit(new_task(), photos, tmp_path, ExponentialAveraging(decay=0.5), history, accumulate_grad_batches=3, epochs=1)
    checkpoint = saved(tmp_path, 0)
    assert checkpoint["averaging_state"]["n_averaged"] == checkpoint["global_step"] == 2
    expected = by_hand(history.after_steps[2::3], 0.5)
    for name, value in checkpoint["state_dict"].items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_validation_runs_on_the_average_and_training_goes_on_with_its_own_weights(photos, tmp_path):
    history = History()
    trainer = fit(new_task(), photos, tmp_path, ExponentialAveraging(decay=0.9), history)
    for epoch in (0, 1):
        newest = history.after_steps[BATCHES * (epoch + 1) - 1]
        average = saved(tmp_path, epoch)["state_dict"]
        assert equal(history.validated[BATCHES * epoch], average) and not equal(average, newest)
        assert equal(history.after_validation[epoch], newest)
    assert equal(copied(trainer.lightning_module), saved(tmp_path, 1)["state_dict"])  # when all is done


def test_the_logged_score_is_that_of_the_weights_in_the_checkpoint(photos, tmp_path):
    trainer = fit(new_task(), photos, tmp_path, ExponentialAveraging(decay=0.9))
    fresh = Regression()
    fresh.load_state_dict(saved(tmp_path, 1)["state_dict"])
    with torch.no_grad():
        loss = nn.functional.mse_loss(fresh.eval().network(photos.tensors[0]), photos.tensors[1])
    assert trainer.callback_metrics["loss"].item() == pytest.approx(loss.item(), rel=1e-5)


def test_batch_normalisation_has_the_statistics_of_the_averaged_weights(photos, tmp_path):
    """Recomputed for them from the training data; those of the start would be mean 0 and variance 1."""
    fit(new_task(rate=0.01), photos, tmp_path, ExponentialAveraging(decay=0.9), epochs=15)
    averaged = Regression()
    averaged.load_state_dict(saved(tmp_path, 14)["state_dict"])
    recomputed = copy.deepcopy(averaged)
    update_bn(loader(photos), recomputed.network)
    found, right = averaged.network[1], recomputed.network[1]
    spread = right.running_var.sqrt()
    assert ((found.running_mean - right.running_mean).abs() / spread).max() < 0.05
    assert (found.running_var / right.running_var - 1).abs().max() < 0.1
    assert (right.running_mean.abs() / spread).max() > 1  # which means of the start would miss


def test_a_resumed_training_has_the_same_average_as_the_undisturbed(photos, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(new_task(), photos, whole, ExponentialAveraging(decay=0.95), epochs=4)
    fit(new_task(), photos, parts, ExponentialAveraging(decay=0.95), epochs=2)
    torch.manual_seed(5)
    fit(Regression(), photos, parts, ExponentialAveraging(decay=0.95), epochs=4, resume=parts / "epoch=1.ckpt")
    one, other = saved(whole, 3), saved(parts, 3)
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert equal(one[key], other[key])


class FrozenAtStart(pl.Callback):
    """Notes whether the backbone was frozen before the network is handed to processes that train together."""

    def on_fit_start(self, trainer, pl_module):
        self.frozen = not any(parameter.requires_grad for parameter in pl_module.backbone.parameters())


@pytest.mark.parametrize("first", [0, 1], ids=["freeze first", "average first"])
def test_a_frozen_backbone_is_built_frozen_in_any_order_of_the_callbacks(first, lesions, tmp_path):
    data = LesionDataModule(root=lesions, image_size=32, num_folds=3, batch_size=8, positive_ratio=0.5, num_workers=0)
    data.use(Split(fold=0, folds=data.make_folds()))
    task, start = LesionClassifier(backbone="test_vit", pretrained=False, tile_size=32), FrozenAtStart()
    callbacks = [BackboneFreeze(epochs="all"), ExponentialAveraging()]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        callbacks=[callbacks[first], callbacks[1 - first], start],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, data)
    assert start.frozen


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ConfigError, match=rf"ExponentialAveraging.decay is {decay}; give a share from 0 to below 1"):
        ExponentialAveraging(decay=decay)
