"""Every argument of the published training of slides, its key and default here, and how it is shown to act."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import yaml
from lightning.pytorch.callbacks import DeviceStatsMonitor

from biomass_pl.harness.export import ExportOptions
from biomass_pl.harness.fit import FitOptions
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.predict import PredictOptions
from biomass_pl.training.callbacks.local_log import LocalLog
from biomass_pl.training.callbacks.periodic_checkpoint import PeriodicCheckpoint
from biomass_pl.training.callbacks.remote_sync import RemoteSync
from biomass_pl.training.callbacks.source_copy import SourceCopy
from biomass_pl.training.distributed import LaunchedDDP
from tests.slide.published_effects import (
    answers,
    batch,
    callbacks,
    compiled,
    copied,
    divided,
    kept_for_backward,
    learning,
    left,
    loader,
    loggers,
    loss,
    loss_settings,
    parts,
    rates,
    scores,
    shapes,
    strategy,
    synchronised,
    tested,
    told_of_locks,
    trainer,
    validated,
    weights,
    written,
)

CLASSES = {
    kind.__name__: kind
    for kind in (DeviceStatsMonitor, LaunchedDDP, LocalLog, PeriodicCheckpoint, RemoteSync, SourceCopy)
}
"""Callbacks and a strategy, whose arguments are keys."""

COMMANDS = {"fit": FitOptions, "predict": PredictOptions, "export": ExportOptions}


@dataclass(frozen=True)
class Row:
    """One published argument.

    Args:
        published: Its name, without the dashes.
        key: Its key here; `<Class>.<argument>` of a callback or strategy, or an option of a command.
        default: Its default here.
        changed: Another value, as a flag has it.
        effect: Where the change shows; or the name of the test that shows it.
        base: Settings under which the key acts.
    """

    published: str
    key: str
    default: Any
    changed: str
    effect: Callable[[RunCLI], Any] | str
    base: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        owner = self.key.partition(".")[0]
        section = "strategy" if owner == "LaunchedDDP" else "callbacks"
        return f"--trainer.{section}" if owner in CLASSES else f"--{self.key}"


def callback(name: str, **arguments: Any) -> str:
    return json.dumps([{"class_path": name, "init_args": arguments}])


def launched(**arguments: Any) -> tuple[str, str]:
    return "--trainer.strategy", json.dumps({"class_path": "LaunchedDDP", "init_args": arguments})


NOTHING = inspect.Parameter.empty
IN_FILES = (
    *("--data.hdf5_filename", "null", "--data.hdf5_text_attribute", "null"),
    *("--data.root_dir", "FEATURES", "--data.text_data_file", "REPORTS"),
)
NO_TEXT = ("--data.hdf5_text_attribute", "null", "--data.text_data_file", "REPORTS")
LOCKED = ("--model.lock_image", "true")
LOCKED_TEXT = ("--model.lock_text", "true")
COOLING = (
    "--model.scheduler.name",
    "const-cooldown",
    "--model.scheduler.epochs_cooldown",
    "1",
    "--model.scheduler.warmup",
    "0",
)
WARM = ("--model.scheduler.warmup", "2")
BEAMS = ("--model.generation.top_k", "0", "--model.generation.repetition_penalty", "3")
PROMPTS = ("--model.zero_shot.class_prompt_mapping", "[zero_shot/dignity_prompts.json]")
LABELS = ("--model.zero_shot.specimen_class_mapping", "[zero_shot/dignity_classes.json]")
ON_CPU = ("--trainer.accelerator", "cpu")
SAVING = ("--trainer.callbacks", callback("PeriodicCheckpoint"))
OFTEN = ("--trainer.callbacks", callback("PeriodicCheckpoint", save_frequency=1))
COPIED = json.dumps([json.loads(OFTEN[1])[0], *json.loads(callback("RemoteSync", remote="REMOTE", protocol="fsspec"))])
ELSEWHERE = {"remote": "s3://bucket/runs"}
SYNCED = ("--trainer.callbacks", callback("RemoteSync", **ELSEWHERE))
DDP = (*ON_CPU, *launched())

ROWS = [
    Row("train-split", "data.train_split", None, "splits/train.txt", divided),
    Row("test-split", "data.test_split", None, "splits/test.txt", tested),
    Row("val-split", "data.val_split", None, "splits/val.txt", divided),
    Row("workers", "data.num_workers", 4, "1", loader),
    Row("batch-size", "data.batch_size", 64, "3", batch),
    Row("aug-cfg", "data.aug_cfg", None, "noise=0.5", batch),
    Row("text-data-file", "data.text_data_file", None, "OTHER_REPORTS", divided, IN_FILES),
    Row("hdf5_filename", "data.hdf5_filename", None, "OTHER_FILE", batch),
    Row("hdf5_feature_attribute", "data.hdf5_feature_attribute", None, "other_features", batch, ("--data.hdf5_filename", "OTHER_FILE")),
    Row("hdf5_text_attribute", "data.hdf5_text_attribute", None, "other_report", batch, ("--data.hdf5_filename", "OTHER_FILE")),
    Row("num-samples", "data.num_samples", None, "20", divided),
    Row("root-dir", "data.root_dir", None, "OTHER_FEATURES", batch, IN_FILES),
    Row("image-features-cutoff", "data.image_features_cutoff", 100_000, "5", batch),
    Row("model", "model.name", "coca_stage_1", "lm", shapes),
    Row("pretrained", "model.pretrained", None, "WEIGHTS", weights),
    Row("lock-image", "model.lock_image", False, "true", learning),
    Row("lock-image-unlocked-groups", "model.lock_image_unlocked_groups", 0, "1", learning, LOCKED),
    Row("lock-image-freeze-bn-stats", "model.lock_image_freeze_bn_stats", False, "true", told_of_locks, LOCKED),
    Row("lock-text", "model.lock_text", False, "true", learning),
    Row("lock-text-unlocked-layers", "model.lock_text_unlocked_layers", 0, "1", learning, LOCKED_TEXT),
    Row("lock-text-freeze-layer-norm", "model.lock_text_freeze_layer_norm", False, "true", learning, LOCKED_TEXT),
    Row("use-bnb-linear", "trainer.plugins", None, "BitsandbytesPrecision", "test_what_has_no_key_or_no_package_here_is_refused_by_name"),
    Row("torchscript", "export --format", "trace", "script", "test_a_tower_is_traced_and_not_scripted"),
    Row("torchcompile", "model.compile", False, "true", compiled),
    Row("trace", "export --format", "trace", "trace", "test_a_tower_is_traced_and_not_scripted"),
    Row("grad-checkpointing", "model.grad_checkpointing", False, "true", kept_for_backward),
    Row("epochs", "trainer.max_epochs", None, "5", rates, WARM),
    Row("epochs-cooldown", "model.scheduler.epochs_cooldown", None, "2", rates, COOLING),
    Row("lr", "model.optim.lr", None, "0.1", rates),
    Row("beta1", "model.optim.beta1", None, "0.5", rates),
    Row("beta2", "model.optim.beta2", None, "0.5", rates),
    Row("eps", "model.optim.eps", None, "0.1", rates),
    Row("wd", "model.optim.wd", 0.2, "0.5", rates),
    Row("warmup", "model.scheduler.warmup", 100, "2", rates),
    Row("skip-scheduler", "model.scheduler.skip", False, "true", rates, WARM),
    Row("lr-scheduler", "model.scheduler.name", "cosine", "const", rates, WARM),
    Row("lr-cooldown-end", "model.scheduler.cooldown_end", 0.0, "1e-5", rates, COOLING),
    Row("lr-cooldown-power", "model.scheduler.cooldown_power", 1.0, "2.0", rates, COOLING),
    Row("accum-freq", "model.accum_freq", 1, "2", parts),
    Row("grad-clip-norm", "trainer.gradient_clip_val", None, "1.0", trainer("gradient_clip_val")),
    Row("precision", "trainer.precision", None, "amp_bf16", trainer("precision")),
    Row("device", "trainer.accelerator", "auto", "mps", "test_what_has_no_key_or_no_package_here_is_refused_by_name"),
    Row("local-loss", "model.loss.local_loss", False, "true", loss_settings, ("--model.loss.gather_with_grad", "true")),
    Row("gather-with-grad", "model.loss.gather_with_grad", False, "true", loss_settings),
    Row("coca-caption-loss-weight", "model.loss.caption_weight", 2.0, "0.5", loss),
    Row("coca-contrastive-loss-weight", "model.loss.contrastive_weight", 1.0, "0", loss),
    Row("siglip", "model.loss.siglip", False, "true", loss),
    Row("logs", "trainer.default_root_dir", None, "elsewhere", "test_a_run_is_named_goes_on_and_is_tested_by_commands"),
    Row("log-local", "LocalLog", NOTHING, callback("LocalLog"), left),
    Row("name", "fit --name", None, "mine", "test_a_run_is_named_goes_on_and_is_tested_by_commands"),
    Row("report-to", "trainer.logger", None, "false", loggers),
    Row("wandb-notes", "trainer.logger", None, "WandbLogger", "test_notes_and_project_reach_weights_and_biases"),
    Row("wandb-project-name", "trainer.logger", None, "WandbLogger", "test_notes_and_project_reach_weights_and_biases"),
    Row("log-every-n-steps", "trainer.log_every_n_steps", None, "5", trainer("log_every_n_steps")),
    Row("log-memory", "DeviceStatsMonitor", NOTHING, callback("DeviceStatsMonitor"), "test_the_device_is_measured_by_a_callback"),
    Row("debug", "--debug", NOTHING, "", "test_debug_shows_where_an_error_arose"),
    Row("copy-codebase", "SourceCopy", NOTHING, callback("SourceCopy"), left),
    Row("save-frequency", "PeriodicCheckpoint.save_frequency", 20, callback("PeriodicCheckpoint", save_frequency=1), left, SAVING),
    Row("save-most-recent", "PeriodicCheckpoint.save_most_recent", False, callback("PeriodicCheckpoint", save_most_recent=True), left, SAVING),
    Row("resume", "fit --resume", False, "", "test_a_run_is_named_goes_on_and_is_tested_by_commands"),
    Row("remote-sync", "RemoteSync.remote", NOTHING, COPIED, copied, OFTEN),
    Row("remote-sync-frequency", "RemoteSync.frequency", 300, callback("RemoteSync", frequency=7, **ELSEWHERE), callbacks, SYNCED),
    Row("remote-sync-protocol", "RemoteSync.protocol", "s3", "fsspec", "test_the_protocol_decides_which_places_are_taken"),
    Row("delete-previous-checkpoint", "PeriodicCheckpoint.delete_previous", False, callback("PeriodicCheckpoint", save_frequency=1, delete_previous=True), left, OFTEN),
    Row("dist-url", "LaunchedDDP.dist_url", "env://", launched(dist_url="tcp://127.0.0.1:29500")[1], strategy, DDP),
    Row("dist-backend", "LaunchedDDP.process_group_backend", None, launched(process_group_backend="gloo")[1], strategy, DDP),
    Row("use-bn-sync", "trainer.sync_batchnorm", False, "true", synchronised, DDP),
    Row("horovod", "trainer.strategy", "auto", "horovod", "test_what_has_no_key_or_no_package_here_is_refused_by_name"),
    Row("ddp-static-graph", "LaunchedDDP.static_graph", False, launched(static_graph=True)[1], strategy, DDP),
    Row("no-set-device-rank", "LaunchedDDP.set_device_rank", True, launched(set_device_rank=False)[1], strategy, DDP),
    Row("val-frequency", "trainer.check_val_every_n_epoch", 1, "2", validated),
    Row("save-captions", "model.captions.enabled", False, "true", validated),
    Row("caption-val-frequency", "model.captions.every_n_epochs", 1, "2", validated, ("--model.captions.enabled", "true")),
    Row("caption-val-max-seq-len", "model.generation.max_seq_len", 100, "20", written),
    Row("val-gen-top-k", "model.generation.top_k", 50, "1", written),
    Row("val-gen-num-beams", "model.generation.num_beams", 6, "12", written, BEAMS),
    Row("val-gen-num-beam-groups", "model.generation.num_beam_groups", 3, "1", written, BEAMS),
    Row("zsc-class-prompt-mapping", "model.zero_shot.class_prompt_mapping", [], "[OTHER_PROMPTS]", answers, (*PROMPTS, *LABELS)),
    Row("zsc-specimen-class-mapping", "model.zero_shot.specimen_class_mapping", [], "[OTHER_CLASSES]", answers, (*PROMPTS, *LABELS)),
    Row("eval-metric-bootstraps", "model.eval.bootstraps", 1, "20", scores),
    Row("eval-metric-ci", "model.eval.ci", 0.95, "0.5", scores, ("--model.eval.bootstraps", "20")),
    Row("eval-grace-period", "model.eval.grace_period", 0, "1", validated),
    Row("test", "predict --split", "oof", "test", "test_a_run_is_named_goes_on_and_is_tested_by_commands"),
    Row("few-shot-examples", "model.few_shot.examples", [], "[few_shot/dignity.json]", answers, (*PROMPTS, *LABELS)),
    Row("seed", "seed_everything", 42, "7", batch),
]  # fmt: skip


@cache
def settings() -> dict[str, Any]:
    """All settings of a run that leaves every one open."""
    return yaml.safe_load(RunCLI(["--model", "SlideCaptioning", "--data", "SlideDataModule"]).config_text())


def default_of(key: str) -> Any:
    """The default of a key; `NOTHING` of what is there or not, and of what has none."""
    command, is_option, option = key.partition(" --")
    if is_option:
        return inspect.signature(COMMANDS[command]).parameters[option].default
    owner, _, argument = key.partition(".")
    if owner in CLASSES:
        return inspect.signature(CLASSES[owner]).parameters[argument].default if argument else NOTHING
    if key.startswith("--"):
        return NOTHING
    steps = [owner, "init_args", *argument.split(".")] if owner in ("model", "data") else key.split(".")
    return reduce(lambda part, name: part[name], steps, settings())
