"""Every fold is a run of its own in Weights & Biases; nothing is sent, all stays in the folders of the folds."""

import json
from pathlib import Path

import pytest
import wandb

from biomass_pl.cli import main
from biomass_pl.runs import find_run


def logger(*, notes: str | None = None, **settings) -> str:
    more = {} if notes is None else {"dict_kwargs": {"notes": notes}}
    return json.dumps({"class_path": "WandbLogger", "init_args": {"offline": True, **settings}, **more})


@pytest.fixture(autouse=True)
def without_wandb_settings(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")


def test_each_fold_is_a_run_with_the_settings_that_were_given(recipe, workdir, quick_pictures):
    given = logger(project="grass", notes="A first try. With half of it")
    settings = ["--trainer.logger", given, "--trainer.log_every_n_steps", "1", "--trainer.max_epochs", "3"]
    assert main(["fit", "--config", str(recipe), "--folds", "0", "1", *settings]) == 0
    run = find_run(Path("lightning_logs"))
    assert wandb.run is None and not Path("wandb").exists()
    for fold in (0, 1):
        (folder,) = (run.fold_dir(fold) / "wandb").glob("offline-run-*")
        assert folder.name.endswith(f"-fold_{fold}")
        stored = next(folder.glob("*.wandb")).read_bytes()
        for text in (b"grass", b"A first try. With half of it", f"small/version_0/fold_{fold}".encode()):
            assert text in stored
        for name in (b"train/loss_step", b"train/batch_time", b"val/weighted_r2"):
            assert name in stored
    assert main(["predict"]) == 0  # neither the logger nor trust is needed
