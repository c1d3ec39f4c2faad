"""Every argument of the published training of slides acts here, or is refused by name.

The table is `published_rows`. A row is shown to act by an effect, looked at with another value of its key, or by one
of the tests below its own.
"""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from biomass_pl.cli import main
from biomass_pl.errors import ConfigError
from biomass_pl.harness.parser import RunCLI
from biomass_pl.runs import find_run
from biomass_pl.slide.sample.render import render_specimens
from tests.harness.interruptions import FailOnce
from tests.slide.published_effects import SMALL, parsed, started
from tests.slide.published_rows import ROWS, Row, callback, default_of

PUBLISHED = [
    "train-split",
    "test-split",
    "val-split",
    "workers",
    "batch-size",
    "aug-cfg",
    "text-data-file",
    "hdf5_filename",
    "hdf5_feature_attribute",
    "hdf5_text_attribute",
    "num-samples",
    "root-dir",
    "image-features-cutoff",
    "model",
    "pretrained",
    "lock-image",
    "lock-image-unlocked-groups",
    "lock-image-freeze-bn-stats",
    "lock-text",
    "lock-text-unlocked-layers",
    "lock-text-freeze-layer-norm",
    "use-bnb-linear",
    "torchscript",
    "torchcompile",
    "trace",
    "grad-checkpointing",
    "epochs",
    "epochs-cooldown",
    "lr",
    "beta1",
    "beta2",
    "eps",
    "wd",
    "warmup",
    "skip-scheduler",
    "lr-scheduler",
    "lr-cooldown-end",
    "lr-cooldown-power",
    "accum-freq",
    "grad-clip-norm",
    "precision",
    "device",
    "local-loss",
    "gather-with-grad",
    "coca-caption-loss-weight",
    "coca-contrastive-loss-weight",
    "siglip",
    "logs",
    "log-local",
    "name",
    "report-to",
    "wandb-notes",
    "wandb-project-name",
    "log-every-n-steps",
    "log-memory",
    "debug",
    "copy-codebase",
    "save-frequency",
    "save-most-recent",
    "resume",
    "remote-sync",
    "remote-sync-frequency",
    "remote-sync-protocol",
    "delete-previous-checkpoint",
    "dist-url",
    "dist-backend",
    "use-bn-sync",
    "horovod",
    "ddp-static-graph",
    "no-set-device-rank",
    "val-frequency",
    "save-captions",
    "caption-val-frequency",
    "caption-val-max-seq-len",
    "val-gen-top-k",
    "val-gen-num-beams",
    "val-gen-num-beam-groups",
    "zsc-class-prompt-mapping",
    "zsc-specimen-class-mapping",
    "eval-metric-bootstraps",
    "eval-metric-ci",
    "eval-grace-period",
    "test",
    "few-shot-examples",
    "seed",
]
"""In the order of the published page."""


@pytest.fixture(scope="module")
def places(specimen_folders, tmp_path_factory) -> dict[str, str]:
    """By the words that stand for them in the table: other files than those of the specimens."""
    folder, root = tmp_path_factory.mktemp("published"), specimen_folders / "hdf5"
    shutil.copy(root / "specimens.hdf5", folder)
    with h5py.File(folder / "specimens.hdf5", "a") as file:
        for path in file["case-index/case_paths"].asstr():
            specimen = file[path]
            specimen["patch_features_comp_0/features"][...] *= 2
            specimen.copy("patch_features_comp_0", "other_features")
            specimen["other_features/features"][...] *= 2
            specimen["other_report"] = f"Another report on {path}"
    render_specimens(out=folder / "files", specimens=60, most_vectors=30, layout="directories")
    in_files = specimen_folders / "directories"
    reports = (in_files / "reports.json").read_text()
    (folder / "reports.json").write_text(reports.replace("benign", "harmless").replace(".", "!"))
    for kind in ("prompts", "classes"):
        labels = json.loads((root / f"zero_shot/dignity_{kind}.json").read_text())
        swapped = {"0": labels["1"], "1": labels["0"]} if kind == "prompts" else dict.fromkeys(labels, 1)
        (folder / f"{kind}.json").write_text(json.dumps(swapped))
    torch.manual_seed(1)
    model = started(parsed(str(root), "--seed_everything", "1"))
    with torch.no_grad():
        for value in model.network.parameters():
            value.add_(0.1)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "weights.ckpt")
    return {
        "ROOT": str(root),
        "FEATURES": str(in_files / "features"),
        "REPORTS": str(in_files / "reports.json"),
        "OTHER_FILE": str(folder / "specimens.hdf5"),
        "OTHER_FEATURES": str(folder / "files" / "features"),
        "OTHER_REPORTS": str(folder / "reports.json"),
        "[OTHER_PROMPTS]": f"[{folder / 'prompts.json'}]",
        "[OTHER_CLASSES]": f"[{folder / 'classes.json'}]",
        "WEIGHTS": str(folder / "weights.ckpt"),
    }


@pytest.fixture(scope="module")
def unchanged(places) -> Callable[[Row], Any]:
    """What an effect is before a key is changed; many rows share it."""

    @cache
    def of(effect: Callable[[RunCLI], Any], base: tuple[str, ...]) -> Any:
        return effect(parsed(places["ROOT"], *base))

    return lambda row: of(row.effect, tuple(places.get(word, word) for word in row.base))


def test_every_published_argument_has_a_row():
    assert len(PUBLISHED) == 85 and len(set(PUBLISHED)) == 85
    assert [row.published for row in ROWS] == PUBLISHED


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.published)
def test_a_published_argument_has_its_default_and_acts_where_it_should(row, places, unchanged, tmp_path):
    assert default_of(row.key) == row.default
    if isinstance(row.effect, str):
        assert callable(globals()[row.effect])
        return
    words = [*row.base, row.flag, row.changed.replace("REMOTE", str(tmp_path))]
    changed = row.effect(parsed(places["ROOT"], *(places.get(word, word) for word in words)))
    assert changed != unchanged(row) and not holds_nan(changed)


def holds_nan(value: Any) -> bool:
    """Whether something differs from itself."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return value != value if isinstance(value, float) else any(map(holds_nan, inner))


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--trainer.strategy", "horovod", "horovod left Lightning"),
        ("--trainer.accelerator", "mps", "MPSAccelerator"),
        ("--trainer.plugins", '{"class_path": "BitsandbytesPrecision", "init_args": {"mode": "int8"}}', "bitsandbytes"),
        ("--trainer.precision", "amp_fp8", "amp_fp8"),
        ("--horovod", "true", "--horovod"),
        ("--model.torchscript", "true", "torchscript"),
        ("--model.trace", "true", "trace"),
    ],
)
def test_what_has_no_key_or_no_package_here_is_refused_by_name(places, flag, value, told):
    with pytest.raises(ConfigError, match=told):
        parsed(places["ROOT"], flag, value)


def test_a_tower_is_traced_and_not_scripted(slide_copy, capsys):
    """torchscript, trace; what a trace gives is tested beside the tower."""
    assert main(["export", "--out", "tower.pt", "--format", "script"]) == 2
    assert "'script'" in capsys.readouterr().err and not Path("tower.pt").exists()
    assert main(["export", "--out", "tower.pt"]) == 0
    assert isinstance(torch.jit.load("tower.pt"), torch.jit.ScriptModule)


def test_notes_and_project_reach_weights_and_biases(places):
    """What becomes of them in a run is tested beside the runs there."""
    settings = {"init_args": {"project": "slides", "offline": True}, "dict_kwargs": {"notes": "A first try."}}
    cli = parsed(places["ROOT"], "--trainer.logger", json.dumps({"class_path": "WandbLogger", **settings}))
    (found,) = cli.trainer.loggers
    assert (found._wandb_init["project"], found._wandb_init["notes"]) == ("slides", "A first try.")


def test_the_device_is_measured_by_a_callback(places, tmp_path):
    """Here it is a CPU; of a GPU, Lightning logs allocated and reserved bytes, now and at most."""
    cli = parsed(places["ROOT"], "--trainer.callbacks", callback("DeviceStatsMonitor"), "--trainer.accelerator", "cpu")
    trainer = cli.instantiate_trainer(
        default_root_dir=str(tmp_path),
        logger=CSVLogger(tmp_path),
        callbacks=cli.configured_callbacks(),
        limit_train_batches=1,
        limit_val_batches=1,
        log_every_n_steps=1,
    )
    trainer.fit(cli.model, datamodule=cli.datamodule)
    (table,) = tmp_path.rglob("metrics.csv")
    assert pd.read_csv(table)["DeviceStatsMonitor.on_train_batch_end/cpu_vm_percent"].max() > 0


def test_local_similarities_need_the_gradients_of_others(places):
    """What both do among several processes is tested beside the loss."""
    with pytest.raises(ConfigError, match=r"Set model\.loss\.gather_with_grad: true"):
        parsed(places["ROOT"], "--model.loss.local_loss", "true")


def test_the_protocol_decides_which_places_are_taken(places):
    synced = {"class_path": "RemoteSync", "init_args": {"remote": "memory://runs"}}
    with pytest.raises(ConfigError, match=r"memory://runs is no s3:// URL"):
        parsed(places["ROOT"], "--trainer.callbacks", json.dumps([synced]))
    synced["init_args"]["protocol"] = "fsspec"
    assert parsed(places["ROOT"], "--trainer.callbacks", json.dumps([synced])).configured_callbacks()


def test_debug_shows_where_an_error_arose(workdir):
    command = ["fit", "--config", "nowhere.yaml"]
    assert main(command) == 2
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        main([*command, "--debug"])


def test_a_run_is_named_goes_on_and_is_tested_by_commands(places, workdir, quick_pictures):
    """logs, name, resume, test."""
    FailOnce.happened.clear()
    failing = f"{FailOnce.__module__}.{FailOnce.__name__}"
    broken = json.dumps([{"class_path": failing, "init_args": {"epochs": [1]}}])
    arguments = ["--model", "SlideCaptioning", "--data", "SlideDataModule", "--data.root", places["ROOT"], *SMALL]
    arguments += ["--data.test_split", "splits/test.txt", "--trainer.callbacks", broken]
    arguments += ["--trainer.limit_train_batches", "1"]
    logs = ["--trainer.default_root_dir", "elsewhere"]
    assert main(["fit", *arguments, "--name", "mine", "--folds", "0", *logs]) == 2
    run = find_run(Path("elsewhere/lightning_logs"))
    assert run.path == Path("elsewhere/lightning_logs/mine/version_0") and not Path("lightning_logs").exists()
    assert main(["fit", "--resume", "--trust", failing, *logs]) == 0
    assert len(pd.read_csv(run.metrics_csv(0))) == 2
    assert main(["predict", "--split", "test", "--trust", failing, *logs]) == 0
    told = Path(places["ROOT"], "splits/test.txt").read_text().strip().split(",")
    assert sorted(pd.read_csv(run.path / "test_predictions.csv")["specimen_id"]) == sorted(told)
