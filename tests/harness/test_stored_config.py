"""A stored configuration is data: what could run code or write elsewhere is refused before the parser sees it."""

import sys
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Callback

import biomass_pl.lesion.data
import biomass_pl.lesion.task
import biomass_pl.pasture.data
import biomass_pl.pasture.five_head
import biomass_pl.pasture.task
import biomass_pl.training.callbacks.freeze  # noqa: F401  short names are those of classes imported before
from biomass_pl.errors import RunError
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.stored_config import require_safe_config

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

EVIL = """\
from pathlib import Path
from lightning.pytorch import Callback
Path(__file__).with_name("marker").touch()
class Evil(Callback):
    def __init__(self, folder: Path = Path("."), text: str = "", inner: Callback | None = None):
        pass
def evil(*_):
    pass
"""


class Foreign(Callback):
    """Imported, but neither ours nor Lightning's."""


def stored(recipe: Path, root: Path) -> str:
    """The configuration that a run of a recipe stores, with a tiny backbone where it has one."""
    if "backbone:" not in recipe.read_text():
        return RunCLI(["--config", str(recipe), "--data.root", str(root)]).config_text()
    side = "--data.tile_size" if "    tile_size:" in recipe.read_text() else "--data.image_size"
    tiny = ["--model.backbone", "test_vit.r160_in1k", "--model.pretrained", "false", side, "32"]
    return RunCLI(["--config", str(recipe), "--data.root", str(root), *tiny]).config_text()


def merged(base, overlay):
    """A configuration in which an overlay replaces what it names."""
    if not (isinstance(base, dict) and isinstance(overlay, dict)):
        return overlay
    return base | {key: merged(base.get(key), value) for key, value in overlay.items()}


@pytest.fixture(scope="module")
def two_stage(tmp_path_factory) -> dict:
    """What a run of the two-stage recipe stores."""
    recipe = next(path for path in RECIPES if path.stem == "two_stage")
    return yaml.safe_load(stored(recipe, tmp_path_factory.mktemp("data")))


@pytest.fixture
def run(workdir, monkeypatch) -> Path:
    """A run folder from elsewhere; hostile modules and further configurations lie in the working folder and in it."""
    monkeypatch.syspath_prepend(workdir)
    Path("evilmod.py").write_text(EVIL)
    Path("near").write_text("class_path: evilmod.Evil\n")
    fold = Path("lightning_logs/a/version_0/fold_0")
    fold.mkdir(parents=True)
    (fold / "more").write_text("class_path: evilmod.Evil\n")
    (fold / "more.yaml").write_text("class_path: evilmod.Evil\n")
    (fold / "section").write_text("callbacks: evilmod.Evil\n")
    (fold / "whole").write_text("trainer: {callbacks: evilmod.Evil}\n")
    (workdir / "elsewhere").mkdir()
    (fold.parent / "link").symlink_to(workdir / "elsewhere")
    yield fold.parent
    sys.modules.pop("evilmod", None)


@pytest.fixture
def store(run, two_stage):
    """Stores the two-stage configuration with an overlay in the run folder."""

    def store(overlay: str) -> Path:
        config = run / "fold_0" / "config.yaml"
        config.write_text(yaml.safe_dump(merged(two_stage, yaml.safe_load(overlay)), sort_keys=False))
        return config

    return store


def callback(name: str, **arguments: str) -> str:
    """An overlay with one callback."""
    given = ", ".join(f"{key}: {value}" for key, value in arguments.items())
    return f"trainer: {{callbacks: [{{class_path: {name}, init_args: {{{given}}}}}]}}"


ATTACKS = {
    # a class by its import path, as a mapping or as text, wherever an object belongs
    "callback": ("trainer.callbacks.0.class_path", "trainer: {callbacks: [{class_path: evilmod.Evil}]}"),
    "callback that is no list": ("trainer.callbacks.class_path", "trainer: {callbacks: {class_path: evilmod.Evil}}"),
    "callback, text in a list": ("trainer.callbacks.0", "trainer: {callbacks: [evilmod.Evil]}"),
    "callback, text": ("trainer.callbacks", "trainer: {callbacks: evilmod.Evil}"),
    "logger": ("trainer.logger", "trainer: {logger: evilmod.Evil}"),
    "loggers": ("trainer.logger.0", "trainer: {logger: [evilmod.Evil]}"),
    "profiler": ("trainer.profiler", "trainer: {profiler: evilmod.Evil}"),
    "strategy": ("trainer.strategy", "trainer: {strategy: evilmod.Evil}"),
    "accelerator": ("trainer.accelerator", "trainer: {accelerator: evilmod.Evil}"),
    "plugin": ("trainer.plugins.0.class_path", "trainer: {plugins: [{class_path: evilmod.Evil}]}"),
    "plugin, text": ("trainer.plugins", "trainer: {plugins: evilmod.Evil}"),
    "model": ("model.class_path", "model: {class_path: evilmod.Evil}"),
    "model, text": ("model", "model: evilmod.Evil"),
    "data": ("data.class_path", "data: {class_path: evilmod.Evil}"),
    "loss": ("model.init_args.loss.class_path", "model: {init_args: {loss: {class_path: evilmod.Evil}}}"),
    "loss, text": ("model.init_args.loss", "model: {init_args: {loss: evilmod.Evil}}"),
    "missing module": ("trainer.callbacks.0.class_path", "trainer: {callbacks: [{class_path: evilmod.sub.Evil}]}"),
    # a function by its import path
    "function": ("trainer.callbacks.0.init_args.setup", callback("LambdaCallback", setup="evilmod.evil")),
    "function of the system": ("trainer.callbacks.0.init_args.setup", callback("LambdaCallback", setup="os.abort")),
    "function, as a class": (
        "trainer.callbacks.0.init_args.setup.class_path",
        callback("LambdaCallback", setup="{class_path: evilmod.Evil}"),
    ),
    "function of a further keyword": (
        "trainer.callbacks.0.dict_kwargs.setup",
        "trainer: {callbacks: [{class_path: LambdaCallback, dict_kwargs: {setup: evilmod.evil}}]}",
    ),
    "function for fine-tuning": (
        "trainer.callbacks.0.init_args.lambda_func",
        callback("BackboneFinetuning", lambda_func="evilmod.evil"),
    ),
    "function or text": (
        "trainer.callbacks.0.init_args.pruning_fn",
        callback("ModelPruning", pruning_fn="evilmod.evil"),
    ),
    "function that is handed on": (
        "trainer.callbacks.0.init_args.multi_avg_fn",
        callback("WeightAveraging", multi_avg_fn="evilmod.evil"),
    ),
    "function of a strategy": (
        "trainer.strategy.init_args.ddp_comm_hook",
        "trainer: {strategy: {class_path: DDPStrategy, init_args: {ddp_comm_hook: evilmod.evil}}}",
    ),
    "type in a list": (
        "trainer.strategy.init_args.activation_checkpointing.0",
        "trainer: {strategy: {class_path: FSDPStrategy, init_args: {activation_checkpointing: [evilmod.Evil]}}}",
    ),
    "dataclass": ("trainer.callbacks.0.init_args.theme", callback("RichProgressBar", theme="evilmod.Evil")),
    # an object where anything may stand
    "anything": (
        "trainer.callbacks.0.init_args.console_kwargs.a.class_path",
        callback("RichProgressBar", console_kwargs="{a: {class_path: evilmod.Evil}}"),
    ),
    "anything, as YAML in text": (
        "trainer.callbacks.0.init_args.console_kwargs.a.class_path",
        callback("RichProgressBar", console_kwargs="'{a: {class_path: evilmod.Evil}}'"),
    ),
    "anything, our parser with a further configuration": (
        "trainer.callbacks.0.init_args.console_kwargs.a.class_path",
        callback(
            "RichProgressBar",
            console_kwargs="{a: {class_path: biomass_pl.harness.parser.RunCLI, init_args: {arguments: [--config, x]}}}",
        ),
    ),
    "keyword of a logger": (
        "trainer.logger.init_args.comment.class_path",
        "trainer: {logger: {class_path: TensorBoardLogger, init_args: {comment: {class_path: evilmod.Evil}}}}",
    ),
    # text that becomes a mapping or a list
    "JSON that hides the dot": (
        "model.init_args.loss",
        r"""model: {init_args: {loss: '{"class_path": "evilmod\u002eEvil"}'}}""",
    ),
    "list that hides the dot": ("trainer.callbacks", r"""trainer: {callbacks: '["evilmod\u002eEvil"]'}"""),
    "set": ("trainer.callbacks", "trainer: {callbacks: !!set {evilmod.Evil}}"),
    "bytes": ("trainer.callbacks", "trainer: {callbacks: !!binary ZXZpbG1vZC5FdmlsCg==}"),
    # further configurations, in files beside this one, in the working folder, or behind an address
    "file": ("model.init_args.optim", "model: {init_args: {optim: more.yaml}}"),
    "file, a plain word": ("model.init_args.optim", "model: {init_args: {optim: more}}"),
    "file of a loss": ("model.init_args.loss", "model: {init_args: {loss: more}}"),
    "file of a callback": ("trainer.callbacks.0", "trainer: {callbacks: [more]}"),
    "file of callbacks": ("trainer.callbacks", "trainer: {callbacks: more}"),
    "file in the working folder": ("trainer.profiler", "trainer: {profiler: near}"),
    "file of a strategy": ("trainer.strategy", "trainer: {strategy: more}"),
    "file of a section": ("trainer", "trainer: section"),
    "file of the model": ("model", "model: more"),
    "address": ("trainer.callbacks", "trainer: {callbacks: 'memory::more'}"),
    "address with slashes": ("trainer.callbacks", "trainer: {callbacks: 'https://localhost/more'}"),
    "input": ("trainer.callbacks", "trainer: {callbacks: '-'}"),
    "word too long for a file": ("trainer.strategy", f"trainer: {{strategy: {'a' * 300}}}"),
    "word of wide letters": ("trainer.strategy", f"trainer: {{strategy: {'ä' * 190}}}"),
    "whole file": ("config", "config: whole"),
    "whole text": ("config", "config: '{trainer: {callbacks: evilmod.Evil}}'"),
    "arguments": (
        "trainer.callbacks.0.init_args",
        "trainer: {callbacks: [{class_path: LambdaCallback, init_args: section}]}",
    ),
    # keys that reach elsewhere
    "key with dots": ("trainer.callbacks", "trainer.callbacks: evilmod.Evil"),
    "key with dots in the model": ("model.init_args.loss", "model.init_args.loss: evilmod.Evil"),
    "key with dots in a section": ("trainer", "trainer: {callbacks.class_path: evilmod.Evil}"),
    "key with dots in arguments": ("model.init_args", "model: {init_args: {loss.class_path: evilmod.Evil}}"),
    "key that appends": ("trainer", "trainer: {callbacks+: evilmod.Evil}"),
    "key of help": ("trainer.callbacks.help", "trainer: {callbacks: {help: evilmod.Evil}}"),
    "key of help of the model": ("model", "model: {help: evilmod.Evil}"),
    "key beside a class": ("trainer.callbacks", "trainer: {callbacks: {__path__: more, class_path: evilmod.Evil}}"),
    "key of the parser": ("trainer", "trainer: {__path__: more}"),
    "other section": ("x", "{x: &a {callbacks: evilmod.Evil}, trainer: {<<: *a}}"),
    # ours and Lightning's, but not where they belong or not public
    "our command line": ("trainer.callbacks.0.class_path", callback("biomass_pl.__main__.main")),
    "our parser": ("trainer.callbacks.0.class_path", callback("biomass_pl.harness.parser.RunCLI")),
    "what our modules import": ("trainer.callbacks.0.class_path", callback("biomass_pl.harness.fit.Trainer")),
    "our model as a callback": ("trainer.callbacks.0.class_path", callback("HierarchicalRatio")),
    "Lightning's plugins": (
        "trainer.plugins.class_path",
        "trainer: {plugins: {class_path: lightning.pytorch.plugins.AsyncCheckpointIO}}",
    ),
    "Lightning's theme": (
        "trainer.callbacks.0.init_args.theme.class_path",
        callback(
            "RichProgressBar",
            theme="{class_path: lightning.pytorch.callbacks.progress.rich_progress.RichProgressBarTheme}",
        ),
    ),
    "the other Lightning": ("trainer.callbacks.0.class_path", callback("pytorch_lightning.callbacks.ModelSummary")),
    "torch": ("model.init_args.loss.class_path", "model: {init_args: {loss: {class_path: torch.nn.MSELoss}}}"),
    "class of someone else": ("trainer.callbacks.0.class_path", callback("Foreign")),
    "class of someone else, text": ("trainer.callbacks", "trainer: {callbacks: Foreign}"),
    "what Lightning lacks": ("trainer.callbacks.0.class_path", callback("lightning.pytorch.callbacks.absent.Evil")),
    "unknown short name": ("trainer.callbacks.0.class_path", callback("Evil")),
    "class that is a number": ("trainer.callbacks.0", "trainer: {callbacks: [{class_path: 3}]}"),
    "arguments without a class": ("trainer.logger", "trainer: {logger: {init_args: {save_dir: x}}}"),
}


@pytest.mark.parametrize(("key", "overlay"), ATTACKS.values(), ids=ATTACKS)
def test_what_could_run_code_is_refused_by_file_and_key_and_nothing_is_imported(key, overlay, store, run):
    config = store(overlay)
    with pytest.raises(RunError) as refusal:
        require_safe_config(config, run=run)
    assert str(refusal.value).startswith(f"{config}: {key} ")
    assert not Path("marker").exists() and "evilmod" not in sys.modules


def test_without_the_check_the_parser_imports_what_is_named(store, run):
    RunCLI(["--config", str(store("trainer: {callbacks: [{class_path: evilmod.Evil}]}"))])
    assert Path("marker").exists()


OUTSIDE = {
    "folder of checkpoints": callback("ModelCheckpoint", dirpath="../outside"),
    "folder beside the run": callback("ModelCheckpoint", dirpath="lightning_logs/a/version_1"),
    "working folder": callback("ModelCheckpoint", dirpath="."),
    "absolute folder": callback("ModelCheckpoint", dirpath="/outside"),
    "link out of the run": callback("ModelCheckpoint", dirpath="lightning_logs/a/version_0/link/x"),
    "back out of the run": callback("ModelCheckpoint", dirpath="lightning_logs/a/version_0/../x"),
    "file name that climbs": callback("ModelCheckpoint", filename="../../x"),
    "file name that is absolute": callback("ModelCheckpoint", filename="/outside/x"),
    "storage on the network": callback("ModelCheckpoint", filename="s3://bucket/x"),
    "version of a logger": "trainer: {logger: {class_path: TensorBoardLogger, init_args: {version: ../..}}}",
    "name of a logger": "trainer: {logger: [{class_path: CSVLogger, init_args: {name: /outside}}]}",
    "folder of a logger": "trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: logs}}}",
    "folder declared as text": "trainer: {logger: {class_path: MLFlowLogger, init_args: {save_dir: logs}}}",
    "folder of a further keyword": "trainer: {logger: {class_path: TensorBoardLogger, dict_kwargs: {log_dir: logs}}}",
    "address of a logger": "trainer: {logger: {class_path: MLFlowLogger, init_args: {tracking_uri: 'file:/x'}}}",
    "folder of a profiler": "trainer: {profiler: {class_path: SimpleProfiler, init_args: {dirpath: /outside}}}",
    "place of copies": callback("RemoteSync", remote="s3://bucket/x"),
    "place of copies, a relative path": callback("RemoteSync", remote="outside", protocol="fsspec"),
    "place of copies, of a further keyword": (
        "trainer: {callbacks: [{class_path: RemoteSync, dict_kwargs: {remote: outside}}]}"
    ),
    "machine to meet": (
        "trainer: {strategy: {class_path: LaunchedDDP, init_args: {dist_url: 'tcp://10.0.0.1:29500'}}}"
    ),
    "control character": callback("ModelCheckpoint", dirpath=r'"lightning_logs/a/version_0/\0"'),
}


@pytest.mark.parametrize("overlay", OUTSIDE.values(), ids=OUTSIDE)
def test_callbacks_loggers_and_profilers_write_nowhere_but_in_the_run(overlay, store, run):
    with pytest.raises(RunError, match="leads out of the run folder"):
        require_safe_config(store(overlay), run=run)


@pytest.mark.parametrize("folder", ["~/outside", "$HOME/outside"])
def test_home_and_variables_lead_out_of_a_run_that_is_the_working_folder(folder, store, run, monkeypatch):
    config = store(
        f"trainer: {{logger: {{class_path: TensorBoardLogger, init_args: {{save_dir: {folder}}}}}}}"
    ).resolve()
    monkeypatch.chdir(run)
    with pytest.raises(RunError, match="leads out of the run folder"):
        require_safe_config(config, run=Path())


PLAIN = {
    "strategy": "trainer: {strategy: ddp_find_unused_parameters_true, accelerator: cpu, devices: 2}",
    "profiler": "trainer: {profiler: simple, precision: bf16-mixed, max_time: '00:12:00:00'}",
    "logger": "trainer: {logger: true}",
    "callback, text": "trainer: {callbacks: ModelSummary}",
    "callback by its module": callback("lightning.pytorch.callbacks.early_stopping.EarlyStopping", monitor="val/loss"),
    "our callback by its short name": callback("BackboneFreeze", epochs="all"),
    "checkpoints in the run": callback(
        "ModelCheckpoint", dirpath="lightning_logs/a/version_0/more", filename="'{val/weighted_r2:.3f}'"
    ),
    "averaged weights": callback("EMAWeightAveraging", decay="0.999", device="'cuda:0'"),
    "default that is a function": callback(
        "BackboneFinetuning", lambda_func="lightning.pytorch.callbacks.finetuning.multiplicative"
    ),
    "numbered keys": callback("GradientAccumulationScheduler", scheduling="{0: 8, 4: 2}"),
    "default that is a path": "trainer: {strategy: {class_path: DeepSpeedStrategy, init_args: {nvme_path: /local_nvme}}}",
    "log in the run": "trainer: {logger: {class_path: TensorBoardLogger, init_args: {save_dir: lightning_logs/a/version_0}}}",
    "root of the logs, which commands override": "trainer: {default_root_dir: /runs}",
    "name that reads like YAML": callback("ModelCheckpoint", filename="'v1.2: {epoch}'"),
    "our loss by its short name": "model: {init_args: {loss: {class_path: WeightedLoss, init_args: {huber_delta: 3.0}}}}",
    "part of the settings": "model: {init_args: {optim: {head_lr: 1.0e-3}}}",
    "network with dots": "model: {init_args: {backbone: vit_base_patch14_reg4_dinov2.lvd142m}}",
    "weights anywhere": "model: {init_args: {backbone_weights: ../weights.safetensors}}",
    "photos anywhere": "data: {init_args: {root: /photos, fold_csv: ~/folds.csv}}",
    "seed": "seed_everything: '{1'",
    "no seed": "seed_everything: null",
}


@pytest.mark.parametrize("overlay", PLAIN.values(), ids=PLAIN)
def test_plain_settings_pass(overlay, store, run):
    require_safe_config(store(overlay), run=run)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_what_a_run_of_every_recipe_stores_passes(recipe, run):
    config = run / "fold_0" / "config.yaml"
    config.write_text(stored(recipe, run))
    require_safe_config(config, run=run)


def test_the_run_may_lie_anywhere_and_be_named_absolutely(store, run, tmp_path, monkeypatch):
    inside = (run / "checkpoints").resolve()
    config = store(callback("ModelCheckpoint", dirpath=str(inside))).resolve()
    monkeypatch.chdir(tmp_path)
    require_safe_config(config, run=inside.parent)
    with pytest.raises(RunError, match="leads out"):
        require_safe_config(config, run=inside / "deeper")


@pytest.mark.parametrize(
    ("overlay", "trusted"),
    [
        (callback("evilmod.Evil", text="a.b"), ["evilmod.Evil"]),
        ("trainer: {callbacks: [evilmod.Evil]}", ["evilmod.Evil"]),
        (callback("LambdaCallback", setup="evilmod.evil"), ["evilmod.evil"]),
        ("trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: ../logs}}}", ["../logs"]),
        (callback("Evil", text="a"), ["Evil"]),
        (callback("RemoteSync", remote="outside", protocol="fsspec"), ["outside"]),
    ],
)
def test_what_the_user_trusts_passes_and_is_what_the_refusal_names(overlay, trusted, store, run):
    config = store(overlay)
    with pytest.raises(RunError, match=f"--trust {trusted[0]}$"):
        require_safe_config(config, run=run)
    require_safe_config(config, run=run, trusted=trusted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner": "evilmod.Other"}, "init_args.inner is 'evilmod.Other'"),
        ({"inner": "{class_path: evilmod.Other}"}, "init_args.inner.class_path names 'evilmod.Other'"),
        ({"folder": "../x"}, "init_args.folder is '../x', which leads out"),
    ],
)
def test_a_trusted_class_still_gets_plain_values(arguments, message, store, run):
    config = store(callback("evilmod.Evil", **arguments))
    with pytest.raises(RunError, match=message):
        require_safe_config(config, run=run, trusted=["evilmod.Evil"])


@pytest.mark.parametrize("name", ["absent.Evil", "evilmod.Absent"])
def test_a_trusted_class_that_is_not_there_is_told(name, store, run):
    with pytest.raises(RunError, match=f"names '{name}', which cannot be imported"):
        require_safe_config(store(callback(name)), run=run, trusted=[name])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer:\n\tmax_epochs: 3\n", "cannot be read: .*line 2"),
        ("trainer: {callbacks: !!python/name:evilmod.Evil ''}\n", "cannot be read: .*python/name"),
        ("", "holds no configuration"),
        ("- trainer\n", "holds no configuration"),
        ("trainer: &a {callbacks: [*a]}\n", "nested without end"),
        ("model: {class_path: HierarchicalRatio}\n", "trainer is no mapping"),
        ("trainer: {}\ndata: {class_path: PastureDataModule}\n", "model does not name its class"),
    ],
)
def test_a_damaged_configuration_is_told_by_its_file(text, message, run):
    config = run / "fold_0" / "config.yaml"
    config.write_text(text)
    with pytest.raises(RunError, match=f"{config}:? .*{message}"):
        require_safe_config(config, run=run)
    assert not Path("marker").exists()


def test_a_missing_configuration_is_told_by_its_file(run):
    with pytest.raises(RunError, match=r"config.yaml cannot be read: .*No such file"):
        require_safe_config(run / "fold_0" / "config.yaml", run=run)
