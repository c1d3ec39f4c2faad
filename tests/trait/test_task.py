"""Training on measured numbers: what the task takes from the data, learns and refuses."""

import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from PIL import Image

from biomass_pl.data.base import Truth
from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError, FoldError, RunError
from biomass_pl.training.optim import OptimConfig
from biomass_pl.trait.scores import mean_r2
from biomass_pl.trait.task import Regression
from tests.trait.conftest import TABLE, measurements, write_photos

TARGETS = ("green", "dead", "total")
TRUTH = Truth(kind="values", columns=TARGETS, units=("g", "g", "g"))
SUMS = {"total": ["green", "dead"]}


def regression(truth=TRUTH, **settings) -> Regression:
    small = {"backbone": "test_vit.r160_in1k", "pretrained": False, "tile_size": 32, "hidden": 16}
    task = Regression(**{**small, **settings})
    if truth is not None:
        task.truth = truth
    return task


def trained(module, folder, epochs=1, **settings) -> Regression:
    seed_everything(0)
    task = regression(module.truth, tile_size=module.tile_size, **settings)
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(task, datamodule=module)
    return task


@pytest.fixture(scope="module")
def fitted(measured, tmp_path_factory):
    """Data, and a task that was trained on fold 1."""
    module = measurements(measured, 1, tile_size=32)
    optim = OptimConfig(head_lr=1e-2, backbone_lr=1e-3, warmup_epochs=0)
    return module, trained(module, tmp_path_factory.mktemp("fitted"), epochs=2, sums=SUMS, optim=optim)


def test_means_and_spreads_are_those_of_the_training_photos_alone(fitted):
    module, task = fitted
    known = TABLE[~module.split.held_out(TABLE["file"])][list(TARGETS)]
    np.testing.assert_allclose(task.network.head.means.numpy(), known.mean(), rtol=1e-6)
    np.testing.assert_allclose(task.network.head.spreads.numpy(), known.std(ddof=0), rtol=1e-6)


def test_the_logged_score_is_that_of_all_held_out_photos(fitted):
    module, task = fitted
    task.eval()
    batches = list(module.val_dataloader())
    with torch.inference_mode():
        prediction = torch.cat([task.step(batch).outputs["prediction"] for batch in batches]).double().numpy()
    truth = torch.cat([batch["target"] for batch in batches]).double().numpy()
    scores = task.score({"target": truth, "prediction": prediction})
    assert scores["mean_r2"] == pytest.approx(mean_r2(truth, prediction, np.ones(3)))
    assert set(scores) == {"mean_r2", *(f"r2_{target}" for target in TARGETS)}
    logged = task.trainer.callback_metrics
    for name, score in scores.items():
        assert logged[f"val/{name}"].item() == pytest.approx(score, rel=1e-4)


def test_predictions_carry_the_names_of_the_targets_and_sums_are_exact_to_the_last_digit(fitted):
    module, task = fitted
    task.eval()
    with torch.inference_mode():
        found = task.predict_step(next(iter(module.val_dataloader())))
    assert list(found.columns) == [f"{target}_pred" for target in TARGETS]
    green, dead, total = found.columns.values()
    assert total.dtype == torch.float64 and torch.equal(total, green + dead)
    assert found.arrays["embedding"].shape == (len(found.ids), task.backbone.num_features)


def test_a_checkpoint_knows_its_targets(fitted, tmp_path):
    _, task = fitted
    task.trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = Regression.load_from_checkpoint(tmp_path / "last.ckpt", map_location="cpu")
    assert loaded.targets == TARGETS
    tiles = torch.randint(0, 256, (2, 1, 4, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.eval().network(tiles), task.eval().network(tiles))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["green", "dead"], "The weights are for the targets green, dead"),
        (None, "does not tell its targets"),
        ([1], "damaged"),
    ],
)
def test_a_checkpoint_of_other_targets_is_refused(entry, message):
    with pytest.raises(RunError, match=message):
        regression().on_load_checkpoint({"targets": entry})


def test_labels_that_are_held_out_change_nothing_that_is_learned(measured, tmp_path):
    changed = TABLE.copy()
    first = measurements(measured, 1, tile_size=32)
    held_out = first.split.held_out(TABLE["file"])
    changed.loc[held_out, list(TARGETS)] = 7.0
    second = measurements(write_photos(tmp_path / "other", changed), 1, first.split.folds, tile_size=32)
    tasks = [trained(module, tmp_path) for module in (first, second)]
    states = [task.state_dict() for task in tasks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_learns_what_a_photo_shows(tmp_path):
    """Numbers that follow from the brightness, in units a million apart, some of them missing."""
    table = TABLE.copy()
    root = write_photos(tmp_path / "data", table)
    module = measurements(
        root, 0, tile_size=32, targets=["green", "dead"], aug_prob=0.0, batch_size=8, group_column=None
    )
    values = np.linspace(-1, 1, len(table))
    for name, path in module.photos().paths.items():
        level = values[table["file"].tolist().index(name)]
        Image.fromarray(np.full((32, 32, 3), 128 + 100 * level, np.uint8)).save(path)
    labels = module.labels
    labels["green"] = np.where(np.arange(len(table)) % 6 == 5, np.nan, 1e6 * (3 + values))
    labels["dead"] = 1e-3 * values
    module.use(Split(fold=0, folds=module.make_folds()))
    optim = OptimConfig(head_lr=1e-2, backbone_lr=1e-3, warmup_epochs=0)
    task = trained(module, tmp_path, epochs=20, optim=optim, dropout=0.0)
    assert task.trainer.callback_metrics["val/mean_r2"] > 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, "model.dropout is 1.0"),
        ({"hidden": 0}, "model.hidden is 0"),
        ({"pool": "median"}, "model.pool is median; give mean or attention"),
        ({"loss": "mae"}, "model.loss is mae; give smooth_l1 or mse"),
        ({"target_weights": [1.0, 2.0]}, "give 3 weights"),
        ({"target_weights": [1.0, 2.0, -1.0]}, "none below 0"),
        ({"target_weights": [0.0, 0.0, 0.0]}, "not all 0"),
        ({"sums": {"all": ["green", "dead"]}}, "model.sums names 'all'"),
        ({"truth": Truth(kind="classes", columns=("label",))}, "Regression learns numbers"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        regression(**settings)


def test_targets_that_teach_nothing_are_refused_by_name(measured):
    module = measurements(measured)
    regression().check_data(module)
    module.labels.loc[:, "dead"] = 3.0
    with pytest.raises(FoldError, match=r"Fold 0 trains on \d+ photo\(s\) with a value of 'dead', not two that differ"):
        regression().check_data(module)
    module.labels.loc[:, "dead"] = np.arange(len(module.labels)) - 3.0
    regression().check_data(module)
    with pytest.raises(ConfigError, match=r"model.non_negative is true, and 'dead' is -"):
        regression(non_negative=True).check_data(module)


def test_weights_of_targets_decide_on_the_score():
    kept = {"target": np.array([[1.0, 1.0], [2.0, 2.0]]), "prediction": np.array([[1.0, 2.0], [2.0, 1.0]])}
    two = Truth(kind="values", columns=("a", "b"))
    assert regression(two).score(kept)["mean_r2"] == pytest.approx((1 - 3) / 2)
    assert regression(two, target_weights=[3.0, 1.0]).score(kept)["mean_r2"] == pytest.approx(0.0)
    assert math.isnan(
        regression(two).score({"target": kept["target"][:1], "prediction": kept["prediction"][:1]})["mean_r2"]
    )
