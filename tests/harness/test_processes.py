"""Several processes: the same training, the same table, each row once; jobs that share a run folder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import find_run

PREDICTED = [f"{target}_pred" for target in TARGETS]

SAME_PARAMETERS = """
import json
from pathlib import Path
import torch
from lightning.pytorch import Callback

class SameParameters(Callback):
    def on_train_epoch_end(self, trainer, task):
        own = torch.cat([value.detach().flatten() for value in task.parameters()])
        gathered = trainer.strategy.all_gather(own)
        if trainer.is_global_zero:
            apart = float((gathered - gathered[0]).abs().max())
            with Path("apart.jsonl").open("a") as file:
                print(json.dumps({"processes": len(gathered), "apart": apart}), file=file)
"""

TOGETHER = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.devices",
    "2",
    "--trainer.strategy",
    "ddp_find_unused_parameters_true",
]


@pytest.fixture
def even_recipe(recipe, workdir) -> Path:
    """A callback that compares the processes' parameters; nothing that two processes do differently.

    No dropout, whose masks differ, and 16 training photos, which both share evenly in every step.
    """
    settings = yaml.safe_load(recipe.read_text())
    ids = read_labels(Path(settings["data"]["init_args"]["root"]))["image_id"]
    pd.DataFrame({"image_id": ids, "fold": np.arange(24) % 3}).to_csv(workdir / "even.csv", index=False)
    settings["data"]["init_args"]["fold_csv"] = "even.csv"
    settings["model"]["init_args"]["dropout"] = 0.0
    settings["trainer"]["callbacks"].append({"class_path": "same_parameters.SameParameters"})
    (workdir / "same_parameters.py").write_text(SAME_PARAMETERS)
    (workdir / "even.yaml").write_text(yaml.safe_dump(settings))
    return workdir / "even.yaml"


def run_command(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("launcher", [[], ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]])
def test_two_processes_train_what_one_trains(launcher, even_recipe, workdir, monkeypatch):
    monkeypatch.syspath_prepend(workdir)
    fit = ["fit", "--config", str(even_recipe), "--folds", "0", "1"]
    settings = yaml.safe_load(even_recipe.read_text())
    settings["trainer"]["callbacks"].pop()
    (workdir / "alone.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "--config", "alone.yaml", "--folds", "0", "1"]) == 0
    alone = find_run(workdir / "lightning_logs")
    run_command(*launcher, "biomass_pl", *fit, *TOGETHER, "--data.batch_size", "4")
    together = find_run(workdir / "lightning_logs")
    assert together.path.parent.name == "even" and together.is_complete()
    epochs = [json.loads(line) for line in Path("apart.jsonl").read_text().splitlines()]
    assert epochs == [{"processes": 2, "apart": 0.0}] * 8  # four epochs, both stages, of two folds
    tables = [pd.read_csv(run.oof_predictions) for run in (alone, together)]
    assert tables[0]["image_id"].tolist() == tables[1]["image_id"].tolist()
    assert np.allclose(tables[0][PREDICTED], tables[1][PREDICTED], atol=1e-3)
    scores = [
        json.loads((run.path / "oof_metrics.json").read_text())["pooled"]["weighted_r2"] for run in (alone, together)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_thawing_backbone_needs_a_strategy_that_looks_for_unused_parameters(recipe, workdir, capsys):
    settings = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    assert main(["fit", "--config", str(recipe), *settings]) == 2
    assert "ddp_find_unused_parameters_true" in capsys.readouterr().err
    assert not Path("lightning_logs").exists()


def test_jobs_for_single_folds_fill_one_run_folder(run, recipe, workdir, capsys):
    shared = ["fit", "--config", str(recipe), "--run", "lightning_logs/shared/version_0"]
    for fold in (2, 0):
        assert main([*shared, "--folds", str(fold)]) == 0
    assert "Not finished yet: fold 1" in capsys.readouterr().err
    assert main(["predict"]) == 0
    assert set(pd.read_csv("lightning_logs/shared/version_0/oof_predictions.csv")["fold"]) == {0, 2}
    assert main([*shared, "--folds", "1"]) == 0
    joined = find_run(workdir / "lightning_logs")
    assert joined.is_complete()
    assert joined.oof_predictions.read_bytes() == run.oof_predictions.read_bytes()
    assert main([*shared, "--folds", "1", "--model.dropout", "0.5"]) == 2
    assert "Name a new folder" in capsys.readouterr().err


def test_resume_and_run_do_not_go_together(workdir, capsys):
    assert main(["fit", "--resume", "--run", "x"]) == 2
    assert "Leave --run out" in capsys.readouterr().err
