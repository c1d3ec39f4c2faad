"""FiveHead's auxiliary heads, context adjustment and dead correction, from the batch to the logged score."""

from pathlib import Path

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from torch import Tensor

from biomass_pl.data.splits import Split
from biomass_pl.errors import ConfigError
from biomass_pl.harness.parser import RunCLI
from biomass_pl.pasture.classes import STATES
from biomass_pl.pasture.correction import correct_dead, derive_dead
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.five_head import AuxiliaryConfig, FiveHead
from biomass_pl.pasture.losses import DeadAware, FocalMSE
from biomass_pl.pasture.scores import weighted_r2
from biomass_pl.pasture.targets import CLOVER, DEAD, GREEN, TARGETS, TOTAL
from biomass_pl.training.optim import OptimConfig

TINY = {"backbone": "test_vit.r160_in1k", "pretrained": False, "tile_size": 32}
STILL = OptimConfig(head_lr=0, backbone_lr=0, weight_decay=0)
"""Rates of zero: a fit sets what is estimated and changes nothing."""

RECIPE = """\
model:
  class_path: FiveHead
  init_args: {backbone: test_vit.r160_in1k, pretrained: false, SETTINGS}
data:
  class_path: PastureDataModule
  init_args: {root: nowhere}
"""


def fold_data(root: Path, folds: pd.Series | None = None) -> PastureDataModule:
    data = PastureDataModule(root=root, num_folds=3, tile_size=32, num_workers=0, seed=1)
    data.use(Split(fold=0, folds=data.make_folds() if folds is None else folds))
    return data


def fit(task: FiveHead, data: PastureDataModule, folder: Path, *, epochs: int = 1) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        logger=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(task, data)
    return trainer


def predicted(task: FiveHead, data: PastureDataModule, folder: Path) -> Tensor:
    """Predictions of the held-out photos, in the order of the table."""
    data.select("held_out")
    trainer = pl.Trainer(logger=False, default_root_dir=folder, enable_progress_bar=False)
    rows = trainer.predict(task, data)
    return torch.stack([torch.cat([batch.columns[f"{target}_pred"] for batch in rows]) for target in TARGETS], dim=1)


def held_out_truth(data: PastureDataModule) -> Tensor:
    return torch.cat([batch["target"] for batch in data.val_dataloader()])


def estimates(task: FiveHead) -> dict[str, Tensor]:
    """What the task took from the classes of the training fold."""
    buffers = {**dict(task.context.named_buffers()), **dict(task.auxiliary_heads.named_buffers())}
    return {name: values.clone() for name, values in buffers.items()}


@pytest.fixture
def batch(rendered) -> dict:
    return next(iter(fold_data(rendered).val_dataloader()))


def built(**settings) -> FiveHead:
    torch.manual_seed(0)
    task = FiveHead(**TINY, **settings)
    task.configure_model()
    return task


def test_auxiliary_losses_are_weighted_parts_beside_the_regression(batch):
    task = built(auxiliary=AuxiliaryConfig(state_weight=0.5, month_weight=4.0, species_weight=1.0)).eval()
    losses = task.step(batch).losses
    assert set(losses) == {"regression", "constraint", "state", "month", "species"}
    logits = task.auxiliary_heads(task.network.fusion(task.features(batch)))
    plain = task.auxiliary_heads.losses(logits, batch)
    for name, weight in {"state": 0.5, "month": 4.0, "species": 1.0}.items():
        assert plain[name].item() > 0
        assert losses[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-6)


def test_default_weights_are_the_published_ones_and_zero_leaves_a_head_out(batch):
    assert AuxiliaryConfig().weights() == {"state": 5.0, "month": 3.0, "species": 2.0}
    task = built(auxiliary=AuxiliaryConfig(month_weight=0))
    assert set(task.step(batch).losses) == {"regression", "constraint", "state", "species"}
    assert set(task.auxiliary_heads.heads) == {"state", "species"}
    assert set(built().step(batch).losses) == {"regression", "constraint"}


def test_every_parameter_learns_also_in_a_batch_of_unknown_classes(batch):
    task = built(auxiliary=AuxiliaryConfig())
    unknown = {name: torch.full_like(batch[name], -1) for name in ("state", "month", "species")}
    torch.stack(list(task.step({**batch, **unknown}).losses.values())).sum().backward()
    assert not [name for name, parameter in task.named_parameters() if parameter.grad is None]
    assert not any(parameter.grad.any() for parameter in task.auxiliary_heads.parameters())
    torch.stack(list(task.step(batch).losses.values())).sum().backward()
    assert all(parameter.grad.any() for parameter in task.auxiliary_heads.parameters())


def test_training_changes_the_auxiliary_heads_and_logs_their_losses(rendered, tmp_path):
    task = built(auxiliary=AuxiliaryConfig())
    before = [parameter.clone() for parameter in task.auxiliary_heads.parameters()]
    trainer = fit(task, fold_data(rendered), tmp_path)
    assert not any(map(torch.equal, before, task.auxiliary_heads.parameters()))
    for stage in ("train", "val"):
        parts = [trainer.callback_metrics[f"{stage}/loss_{name}"] for name in ("state", "month", "species")]
        assert all(part.isfinite() and part > 0 for part in parts)


@pytest.mark.parametrize("loss", [FocalMSE(), DeadAware()], ids=["focal", "dead aware"])
def test_an_alternative_loss_trains_and_logs_its_parts(loss, rendered, tmp_path):
    trainer = fit(FiveHead(**TINY, loss=loss, log_target=True), fold_data(rendered), tmp_path)
    parts = {name.removeprefix("train/loss_") for name in trainer.callback_metrics if name.startswith("train/loss_")}
    assert parts == {"regression", "constraint"} | ({"dead_derived"} if isinstance(loss, DeadAware) else set())


def test_estimates_come_from_the_classes_and_grams_of_the_training_fold(rendered, tmp_path):
    data = fold_data(rendered)
    task = FiveHead(**TINY, auxiliary=AuxiliaryConfig(), optim=STILL)
    fit(task, data, tmp_path)
    labels = data.items()
    training = labels[(data.split.folds.loc[labels["image_id"]] != 0).to_numpy()]
    by_state = training.groupby("State")["Dry_Dead_g"].mean() / training["Dry_Dead_g"].mean()
    expected = [by_state.get(state, 1.0) for state in STATES]
    assert task.context.get_buffer("Dry_Dead_g_by_state").tolist() == pytest.approx(expected, rel=1e-5)
    rarity = 1 / training["State"].value_counts()
    rarity /= rarity.mean()
    assert task.auxiliary_heads.state_weights.tolist() == pytest.approx(
        [rarity.get(state, 0.0) for state in STATES], rel=1e-5
    )


def test_estimates_do_not_depend_on_labels_and_metadata_of_held_out_photos(data, tmp_path):
    folds = fold_data(data).make_folds()

    def estimated() -> dict[str, Tensor]:
        task = FiveHead(**TINY, auxiliary=AuxiliaryConfig(), optim=STILL)
        fit(task, fold_data(data, folds), tmp_path)
        return estimates(task)

    def rewrite(rows: pd.Series) -> None:
        table.loc[rows, "target"] = "100.0"
        table.loc[rows & table["target_name"].eq("Dry_Clover_g"), "target"] = "50.0"
        table.loc[rows, ["State", "Species", "Sampling_Date"]] = ["WA", "Lucerne", "2015/2/1"]
        table.to_csv(data / "train.csv", index=False)

    before = estimated()
    table = pd.read_csv(data / "train.csv", dtype=str)
    image_ids = table["sample_id"].str.rpartition("__")[0]
    held_out = image_ids.isin(folds.index[folds == 0])
    assert held_out.any() and not held_out.all()
    rewrite(held_out)
    after = estimated()
    assert all(torch.equal(after[name], before[name]) for name in before)
    rewrite(image_ids.isin(folds.index[folds == 1]))
    after = estimated()
    assert not any(torch.equal(after[name], before[name]) for name in before)


def test_a_loaded_checkpoint_adjusts_by_the_stored_factors(rendered, tmp_path):
    data = fold_data(rendered)
    task = FiveHead(**TINY, auxiliary=AuxiliaryConfig(), context_adjustment=True)
    trainer = fit(task, data, tmp_path)
    trainer.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    loaded = FiveHead.load_from_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    assert loaded.auxiliary_weights == task.auxiliary_weights
    stored = estimates(loaded)
    assert any((values != 1).any() for values in stored.values())
    assert all(torch.equal(values, stored[name]) for name, values in estimates(task).items())
    adjusted = predicted(loaded, data, tmp_path)
    assert torch.equal(adjusted, predicted(task, data, tmp_path))
    loaded.context.get_buffer("Dry_Dead_g_by_state").fill_(4.0)
    assert (predicted(loaded, data, tmp_path)[:, DEAD] > adjusted[:, DEAD]).all()


def test_a_prediction_may_choose_corrections_that_the_training_did_not(rendered, tmp_path):
    data = fold_data(rendered)
    task = FiveHead(**TINY, auxiliary=AuxiliaryConfig())
    trainer = fit(task, data, tmp_path)
    trainer.save_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    raw = predicted(task, data, tmp_path)

    def corrected(**settings) -> Tensor:
        loaded = FiveHead.load_from_checkpoint(tmp_path / "task.ckpt", weights_only=True, **settings)
        return predicted(loaded, data, tmp_path)

    assert torch.equal(corrected(), raw)
    adjusted = corrected(context_adjustment=True)
    changed = (adjusted != raw).any(dim=0)
    assert changed.nonzero().flatten().tolist() == [DEAD, CLOVER]
    assert torch.equal(corrected(dead_correction="always"), derive_dead(raw))
    gaps = (raw[:, TOTAL] - raw[:, [GREEN, DEAD, CLOVER]].sum(dim=1)).abs() / raw[:, TOTAL]
    threshold = float(gaps.median()) + 1e-6
    some = corrected(dead_correction="threshold", correction_threshold=threshold)
    assert torch.equal(some, correct_dead(raw, threshold=threshold))
    changed = (some != raw).any(dim=1)
    assert changed.any() and not changed.all()


def test_the_adjustment_comes_before_the_correction(batch):
    task = built(auxiliary=AuxiliaryConfig(), context_adjustment=True, dead_correction="threshold").eval()
    task.network.head.start_at(torch.tensor([[20.0, 10.0, 5.0, 25.0, 35.0]]))
    for name in ("Dry_Dead_g_by_state", "Dry_Dead_g_by_month"):
        task.context.get_buffer(name).fill_(9.0)
    hidden = task.network.fusion(task.features(batch))
    raw = task.network.head(hidden)
    adjusted = task.context(raw, task.auxiliary_heads(hidden))
    # As they are, the sums hold; five times the dead breaks them, and that is what the correction sees.
    assert torch.equal(correct_dead(raw, threshold=0.15), raw)
    torch.testing.assert_close(adjusted[:, DEAD], 5 * raw[:, DEAD])
    assert torch.equal(task.step(batch).outputs["prediction"], derive_dead(raw))


@pytest.mark.parametrize(
    "settings",
    [{"dead_correction": "always"}, {"context_adjustment": True}, {"dead_correction": "threshold"}],
    ids=lambda settings: next(iter(settings)),
)
def test_scores_of_corrected_and_raw_predictions_are_logged(settings, rendered, tmp_path):
    data = fold_data(rendered)
    task = FiveHead(**TINY, auxiliary=AuxiliaryConfig(), correction_threshold=1e-4, **settings)
    trainer = fit(task, data, tmp_path, epochs=2)
    corrected = predicted(task, data, tmp_path)
    task.context_adjustment, task.dead_correction = False, "off"
    raw = predicted(task, data, tmp_path)
    truth = held_out_truth(data)
    logged = trainer.callback_metrics
    for name, grams in {"val/weighted_r2": corrected, "val/raw_weighted_r2": raw}.items():
        score = weighted_r2(truth.double().numpy(), grams.double().numpy())
        assert float(logged[name]) == pytest.approx(score, abs=1e-6)
    assert logged["val/weighted_r2"] != logged["val/raw_weighted_r2"]
    assert {"val/raw_mean_r2", *(f"val/raw_r2_{target}" for target in TARGETS)} <= set(logged)


def test_without_a_correction_nothing_else_is_logged(rendered, tmp_path):
    trainer = fit(FiveHead(**TINY, auxiliary=AuxiliaryConfig()), fold_data(rendered), tmp_path)
    assert "val/weighted_r2" in trainer.callback_metrics
    assert not [name for name in trainer.callback_metrics if "raw" in name]


def test_the_loss_sees_the_raw_predictions(batch):
    plain, correcting = built(dropout=0.0), built(dropout=0.0, dead_correction="always")
    correcting.load_state_dict(plain.state_dict())
    for mode in (True, False):
        raw, corrected = plain.train(mode).step(batch), correcting.train(mode).step(batch)
        assert {name: loss.item() for name, loss in corrected.losses.items()} == {
            name: loss.item() for name, loss in raw.losses.items()
        }
        expected = raw.outputs["prediction"] if mode else derive_dead(raw.outputs["prediction"])
        assert torch.equal(corrected.outputs["prediction"], expected)
    assert not torch.equal(corrected.outputs["prediction"], raw.outputs["prediction"])


@pytest.mark.parametrize(("column", "name"), [("State", "state"), ("Sampling_Date", "month"), ("Species", "species")])
def test_a_label_table_without_a_column_is_refused_before_training(column, name, data, tmp_path):
    folds = fold_data(data).make_folds()
    table = pd.read_csv(data / "train.csv", dtype=str)
    table.drop(columns=column).to_csv(data / "train.csv", index=False)
    task, module = FiveHead(**TINY, auxiliary=AuxiliaryConfig()), fold_data(data, folds)
    with pytest.raises(ConfigError, match=rf"known {name}:.* needs {column}\."):
        task.check_data(module)
    with pytest.raises(ConfigError, match=column):
        fit(task, module, tmp_path)
    FiveHead(**TINY, auxiliary=AuxiliaryConfig(**{f"{name}_weight": 0})).check_data(module)
    FiveHead(**TINY).check_data(module)


def test_classes_known_only_in_held_out_photos_are_none_to_learn_from(data):
    folds = fold_data(data).make_folds()
    table = pd.read_csv(data / "train.csv", dtype=str)
    held_out = table["sample_id"].str.rpartition("__")[0].isin(folds.index[folds == 0])
    table.loc[~held_out, "Species"] = "Moss"
    table.loc[~held_out, "State"] = ""
    table.to_csv(data / "train.csv", index=False)
    task = FiveHead(**TINY, auxiliary=AuxiliaryConfig())
    module = fold_data(data, folds)
    with pytest.raises(ConfigError, match=r"known state, species:.* needs State, Species\."):
        task.check_data(module)
    module.use(Split(fold=1, folds=folds))
    task.check_data(module)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context_adjustment": True}, "model.context_adjustment needs guesses of state, month, species"),
        ({"context_adjustment": True, "auxiliary": AuxiliaryConfig(month_weight=0)}, "needs guesses of month"),
        ({"dead_correction": "sometimes"}, "model.dead_correction is sometimes"),
        ({"correction_threshold": -0.1}, "model.correction_threshold is -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FiveHead(**TINY, **settings)


@pytest.mark.parametrize("name", ["state_weight", "month_weight", "species_weight"])
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ConfigError, match=rf"model\.auxiliary\.{name} is -1"):
        AuxiliaryConfig(**{name: -1})


@pytest.mark.parametrize(
    ("settings", "arguments", "expected"),
    [
        ("auxiliary: {state_weight: 0.5}", [], {"state": 0.5, "month": 3.0, "species": 2.0}),
        (
            "auxiliary: {state_weight: 0.5}",
            ["--model.auxiliary.month_weight", "0.7"],
            {"state": 0.5, "month": 0.7, "species": 2.0},
        ),
        ("auxiliary: null", ["--model.auxiliary.state_weight", "1"], {"state": 1.0, "month": 3.0, "species": 2.0}),
        ("auxiliary: {state_weight: 0.5}", ["--model.auxiliary", "null"], {}),
        ("dropout: 0.1", [], {}),
    ],
)
def test_auxiliary_weights_are_settings_of_a_recipe_and_of_the_command_line(settings, arguments, expected, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("SETTINGS", settings))
    task = RunCLI(["--config", str(recipe), *arguments]).model
    assert isinstance(task, FiveHead) and task.auxiliary_weights == expected


@pytest.mark.parametrize("written", ["off", "'off'", "threshold", "always"])
def test_a_recipe_chooses_the_correction_and_saves_it(written, tmp_path):
    recipe, saved = tmp_path / "recipe.yaml", tmp_path / "saved.yaml"
    recipe.write_text(RECIPE.replace("SETTINGS", f"dead_correction: {written}, correction_threshold: 0.3"))
    cli = RunCLI(["--config", str(recipe)])
    assert (cli.model.dead_correction, cli.model.correction_threshold) == (written.strip("'"), 0.3)
    saved.write_text(cli.config_text())
    assert RunCLI(["--config", str(saved)]).model.dead_correction == written.strip("'")
    assert RunCLI(["--config", str(saved), "--model.dead_correction", "off"]).model.dead_correction == "off"
