"""Averaged weights (EMA) as a callback of a recipe: trained, saved, validated, predicted with, resumed."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from biomass_pl.cli import main
from biomass_pl.lesion.partial_auc import partial_auc
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, made_once
from tests.harness.interruptions import FailOnce

pytestmark = pytest.mark.usefixtures("quick_pictures")

LOGS = Path("lightning_logs")
AVERAGED = (
    "{class_path: BackboneFreeze, init_args: {epochs: 1}}, "
    "{class_path: lightning.pytorch.callbacks.EMAWeightAveraging, init_args: {decay: 0.8}}"
)


def averaged_fit(recipe: Path, *more: str) -> list[str]:
    """Three epochs of one fold with averaged weights, and with more callbacks."""
    callbacks = f"[{', '.join([AVERAGED, *more])}]"
    return [
        "fit",
        "--config",
        str(recipe),
        "--trainer.max_epochs",
        "3",
        "--folds",
        "0",
        "--trainer.callbacks",
        callbacks,
    ]


@pytest.fixture(scope="module")
def averaged(lesion_recipe, tmp_path_factory) -> Run:
    """A run with averaged weights. Not to be changed."""
    command = averaged_fit(lesion_recipe)
    return find_run(made_once(tmp_path_factory, "averaged", lambda folder: done_in(folder, command)) / LOGS)


def flat(state: dict[str, torch.Tensor], part: str) -> torch.Tensor:
    return torch.cat([value.flatten().double() for name, value in state.items() if part in name])


def test_averaged_weights_are_saved_validated_and_predict(averaged):
    checkpoint = torch.load(averaged.best_checkpoint(0), weights_only=True)
    steps = int(checkpoint["averaging_state"]["n_averaged"])
    assert steps == checkpoint["global_step"] > 0
    mean, newest = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert mean.keys() == newest.keys()
    assert not torch.equal(flat(mean, "head"), flat(newest, "head"))
    table = pd.read_csv(averaged.oof_csv(0))
    record = json.loads((averaged.fold_dir(0) / "fold.json").read_text())
    predicted = partial_auc(table["target"].to_numpy(), table["target_pred"].to_numpy())
    assert record["val/pauc"] == pytest.approx(predicted, abs=1e-6)


def test_a_broken_training_with_averaged_weights_resumes_to_the_undisturbed_table(
    averaged, lesion_recipe, workdir, interruptions
):
    failing = f"{FailOnce.__module__}.{FailOnce.__name__}"
    failure = f"{{class_path: {failing}, init_args: {{epochs: [2]}}}}"
    assert main(averaged_fit(lesion_recipe, failure)) == 2
    run = find_run(LOGS)
    assert not run.is_finished(0) and len(pd.read_csv(run.metrics_csv(0))) == 2
    assert main(["fit", "--resume", "--trust", failing]) == 0
    assert run.oof_csv(0).read_bytes() == averaged.oof_csv(0).read_bytes()
    resumed, whole = (torch.load(one.last_checkpoint(0), weights_only=True) for one in (run, averaged))
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, whole[key][name]) for name, value in resumed[key].items())
