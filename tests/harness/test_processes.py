"""Several processes: the same training, the same table, each row once; jobs that share a run folder."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, made_once

pytestmark = pytest.mark.usefixtures("quick_pictures")

LOGS = Path("lightning_logs")
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


FOLDS = ["--folds", "0", "1"]


def train_alone(recipe: Path, folder: Path) -> None:
    settings = yaml.safe_load(recipe.read_text())
    ids = read_labels(Path(settings["data"]["init_args"]["root"]))["image_id"]
    pd.DataFrame({"image_id": ids, "fold": np.arange(24) % 3}).to_csv(folder / "even.csv", index=False)
    settings["data"]["init_args"]["fold_csv"] = "even.csv"
    settings["model"]["init_args"]["dropout"] = 0.0
    settings["trainer"]["max_epochs"] = 2
    callbacks = settings["trainer"]["callbacks"]
    callbacks[0]["init_args"]["epochs"] = 1
    (folder / "alone.yaml").write_text(yaml.safe_dump(settings))
    callbacks.append({"class_path": "same_parameters.SameParameters"})
    (folder / "even.yaml").write_text(yaml.safe_dump(settings))
    (folder / "same_parameters.py").write_text(SAME_PARAMETERS)
    done_in(folder, ["fit", "--config", "alone.yaml", *FOLDS])


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory) -> Path:
    """A working folder with a run that one process trained, and the recipe for two. Not to be changed.

    Nothing that two processes do differently: no dropout, whose masks differ, and 16 training photos, which both share
    evenly in every step. The recipe for two has a callback more, which compares the processes' parameters.
    """
    return made_once(tmp_path_factory, "alone", partial(train_alone, recipe))


def run_command(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("launcher", [[], ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]])
def test_two_processes_train_what_one_trains(launcher, alone, workdir):
    for name in ("even.yaml", "even.csv", "same_parameters.py"):
        shutil.copy(alone / name, name)
    fit = ["fit", "--config", "even.yaml", *FOLDS]
    run_command(*launcher, "biomass_pl", *fit, *TOGETHER, "--data.batch_size", "4")
    runs = find_run(alone / LOGS), find_run(LOGS)
    assert runs[1].path.parent.name == "even" and runs[1].is_complete()
    epochs = [json.loads(line) for line in Path("apart.jsonl").read_text().splitlines()]
    assert epochs == [{"processes": 2, "apart": 0.0}] * 4  # an epoch of each stage of two folds
    tables = [pd.read_csv(run.oof_predictions) for run in runs]
    assert tables[0]["image_id"].tolist() == tables[1]["image_id"].tolist()
    assert np.allclose(tables[0][PREDICTED], tables[1][PREDICTED], atol=1e-3)
    scores = [json.loads((run.path / "oof_metrics.json").read_text())["pooled"]["weighted_r2"] for run in runs]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_thawing_backbone_needs_a_strategy_that_looks_for_unused_parameters(recipe, workdir, capsys):
    settings = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    assert main(["fit", "--config", str(recipe), *settings]) == 2
    assert "ddp_find_unused_parameters_true" in capsys.readouterr().err
    assert not Path("lightning_logs").exists()


def test_jobs_for_single_folds_fill_one_run_folder(run, recipe, workdir, capsys):
    """A job for fold 1, a prediction, a job for fold 2 on another machine, refused ones; resuming does the rest."""
    joined = Run(LOGS / "shared/version_0")
    shared = ["fit", "--config", str(recipe), "--run", str(joined.path)]
    assert main([*shared, "--folds", "1"]) == 0
    assert "Not finished yet: fold 0, 2" in capsys.readouterr().err
    assert main(["predict"]) == 0
    assert set(pd.read_csv(joined.oof_predictions)["fold"]) == {1}
    machine = ["--data.num_workers", "1", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    assert main([*shared, "--folds", "2", *machine]) == 0
    assert yaml.safe_load(joined.config(2).read_text())["data"]["init_args"]["num_workers"] == 1
    for other in (["--model.dropout", "0.5"], ["--seed_everything", "1"], ["--data.grid", "[1,2]"]):
        capsys.readouterr()
        assert main([*shared, "--folds", "0", *other]) == 2
        error = capsys.readouterr().err
        assert error.count("biomass: error:") == 1 and "Name a new folder" in error
    # The same job again, on another machine: nothing is left to do in its fold, which keeps what it was trained with.
    trained = joined.config(1).read_bytes(), joined.best_checkpoint(1).stat().st_mtime_ns
    assert main([*shared, "--folds", "1", *machine]) == 0
    assert (joined.config(1).read_bytes(), joined.best_checkpoint(1).stat().st_mtime_ns) == trained
    # The first fold never began.
    assert not joined.fold_dir(0).exists() and not joined.is_complete()
    assert main(["fit", "--resume", str(joined.path)]) == 0
    assert joined.is_complete()
    assert joined.oof_predictions.read_bytes() == run.oof_predictions.read_bytes()
