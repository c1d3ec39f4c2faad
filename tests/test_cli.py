"""The `biomass` command: light commands, errors, exit codes."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from biomass_pl import __version__, cli
from biomass_pl.cli import main
from biomass_pl.errors import DataError

TINY = """\
trainer: {max_epochs: 2}
model:
  class_path: SoftmaxRatio
  init_args: {backbone: test_vit.r160_in1k, pretrained: false}
data:
  class_path: PastureDataModule
  init_args: {root: ROOT, tile_size: 32, num_workers: 0}
"""


@pytest.fixture
def recipe(rendered, workdir) -> str:
    (workdir / "tiny.yaml").write_text(TINY.replace("ROOT", str(rendered)))
    return "tiny.yaml"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "biomass_pl", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "seconds", "text"),
    [(["--help"], 0.5, "first steps"), (["--version"], 0.3, __version__), ([], 0.5, "commands:")],
)
def test_help_and_version_answer_at_once(arguments, seconds, text):
    def elapsed() -> float:
        start = time.perf_counter()
        answer = command(*arguments)
        assert answer.returncode == 0
        assert text in answer.stdout
        return time.perf_counter() - start

    assert min(elapsed() for _ in range(3)) < seconds


def test_output_that_nobody_reads_to_its_end_ends_the_command_without_a_word():
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "biomass_pl", "recipes"], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_the_light_commands_import_no_torch():
    check = "import sys; from biomass_pl.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["fit", "predict"])
def test_the_help_of_a_command_fits_on_four_screens_and_names_the_settings(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--folds" in text and "--trainer.accelerator" in text and "--data.root" in text
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) <= 80
    assert ("--model.optim.head_lr" in text) == (name == "fit")


def test_stack_tells_its_options(capsys):
    assert main(["stack", "--help"]) == 0
    assert "--features" in capsys.readouterr().out


def test_sample_renders_a_pasture(workdir, capsys):
    assert main(["sample", "--out", "new", "--photos", "12", "--test_photos", "2", "--width", "64"]) == 0
    assert len(list(Path("new/train").iterdir())) == 12
    assert "new" in capsys.readouterr().out
    assert main(["sample", "--out", "new", "--photos", "12"]) == 2


def test_sample_renders_lesions(workdir, capsys):
    assert main(["sample", "--kind", "lesion", "--out", "new", "--photos", "100", "--test_photos", "0"]) == 0
    assert len(Path("new/train-metadata.csv").read_text().splitlines()) == 101
    assert len(Path("new/test-metadata.csv").read_text().splitlines()) == 1
    assert "100 labelled photos, 0 photos without labels: new" in capsys.readouterr().out


def test_sample_renders_specimens_in_the_chosen_layout(workdir, capsys):
    command = ["sample", "--kind", "slide", "--out", "new", "--specimens", "60", "--most_vectors", "25"]
    assert main([*command, "--layout", "directories"]) == 0
    assert Path("new/features").is_dir() and Path("new/reports.json").is_file()
    told = "60 specimens, 20 vectors in the smallest bag, 25 vectors in the largest bag, layout directories: new"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "lesion", "--width", "64"], "--width is not for --kind lesion, but for --kind pasture"),
        (["--kind", "lesion", "--photos", "99"], "100 or more"),
        (["--kind", "forest"], "'forest'"),
        (["--kind", "slide", "--layout", "zip"], "'zip'"),
        (["--kind", "leaf", "--layout", "hdf5"], "--layout is not for --kind leaf, but for --kind slide"),
    ],
)
def test_sample_refuses_what_it_cannot_render(arguments, message, workdir, capsys):
    assert main(["sample", "--out", "new", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("new").exists()


def test_sample_without_a_folder_is_a_usage_error(capsys):
    assert main(["sample"]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--data.tile_sise", "3"], ["data: PastureDataModule", "'tile_sise'"]),
        (["--data.tile_size", "big"], ["tile_size: expected int, got 'big'"]),
        (["--data.tile_size", "50"], ["patches of 16 px", "48 or 64"]),
        (["--data.cv_strategy", "by_luck"], ["group_site", "'by_luck'"]),
        (["--data.num_folds", "99"], ["groups for 99 folds", "data.num_folds"]),
        (["--data.num_folds", "1"], ["data.num_folds is 1"]),
        (["--data.root", "nowhere"], ["'nowhere' does not exist", "biomass sample --out nowhere"]),
        (["--data.fold_csv", "nofile.csv"], ["nofile.csv does not exist"]),
        (["--data.aug_prob", "2"], ["data.aug_prob is 2.0"]),
        (["--data.grid", "[2]"], ["grid", "2 elements"]),
        (["--trainer.max_epoch", "3"], ["unrecognized arguments: --trainer.max_epoch"]),
        (["--trainer.accelerator", "mps"], ["MPSAccelerator", "trainer."]),
        (["--trainer.devices", "0"], ["devices"]),
        (["--trainer.precision", "bf16-true"], ["round or widen the labels", "bf16-mixed"]),
        (["--model", "Softmax"], ["there is no class 'Softmax'"]),
        (["--model.backbone", "test_vt"], ["'test_vt'", "test_vit"]),
        (["--model.pretrained", "true"], ["model.pretrained: false", "model.backbone_weights"]),
        (["--model.backbone_weights", "no.pt"], ["no.pt does not exist"]),
        (["--model.ratio_temperature", "0"], ["model.ratio_temperature is 0.0"]),
        (["--model.dropout", "1"], ["model.dropout is 1.0"]),
        (["--model.hidden_ratio", "0"], ["model.hidden_ratio is 0.0"]),
        (["--model.optim.head_lr=-1"], ["model.optim.head_lr is -1.0"]),
        (["--folds", "7"], ["no fold 7", "0 to 4"]),
        (["--folds", "x"], ["--folds", "'x'"]),
        (["--oof", "maybe"], ["neither true nor false"]),
        (["--config", "missing.yaml"], ["missing.yaml"]),
        (["--trainer.callbacks", "[{class_path: BackboneFreeze, init_args: {epochs: 2}}]"], ["leaves no epoch"]),
        (["--trainer.callbacks", "[{class_path: BackboneFreeze, init_args: {epochs: 0}}]"], ["give 1 or more"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_gets_one_message_and_leaves_nothing(arguments, messages, recipe, workdir, capsys):
    assert main(["fit", "--config", recipe, *arguments]) == 2
    error = capsys.readouterr().err
    for message in messages:
        assert message in error
    assert error.count("biomass: error:") == 1 and "Traceback" not in error
    assert not Path("lightning_logs").exists()


def test_a_wrong_key_in_a_file_names_it(recipe, capsys):
    Path(recipe).write_text(Path(recipe).read_text().replace("root:", "rood:"))
    assert main(["fit", "--config", recipe]) == 2
    assert "rood" in capsys.readouterr().err


def test_fit_without_a_recipe_asks_for_one(workdir, capsys):
    assert main(["fit"]) == 2
    assert "--config" in capsys.readouterr().err


def test_an_unknown_command_names_the_known_ones(capsys):
    assert main(["train"]) == 2
    assert "check, fit, predict, bench, embed, stack, export, bank, recipes or sample" in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch, workdir):
    from biomass_pl.errors import BiomassError

    with pytest.raises(BiomassError):
        main(["predict", "--debug"])
    monkeypatch.setenv("BIOMASS_DEBUG", "1")
    with pytest.raises(BiomassError):
        main(["predict"])


def test_a_folder_that_cannot_be_made_is_named(workdir, capsys):
    Path("file").write_text("")
    assert main(["sample", "--out", "file/new", "--photos", "12", "--width", "64"]) == 2
    assert "work/file: File exists. Choose another place." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOENT, "new: No such file or directory."),
        (errno.EISDIR, "new: Is a directory."),
        (errno.EMFILE, "new: Too many open files."),
        (errno.EACCES, "new: Permission denied. Change its permissions, or choose another place."),
        (errno.EPERM, "new: Operation not permitted. Change its permissions, or choose another place."),
        (errno.EROFS, "new: Read-only file system. Choose another place."),
        (errno.ENOTDIR, "new: Not a directory. A part of the path is a file. Choose another place."),
        (errno.ENOSPC, "The disk is full (new). Free some space; a training goes on with: biomass fit --resume"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_advice_on_a_file_is_that_for_what_went_wrong(number, message, workdir, capsys, monkeypatch):
    def fail(self, *args, **kwargs):
        raise OSError(number, os.strerror(number), "new")

    monkeypatch.setattr(Path, "mkdir", fail)
    assert main(["sample", "--out", "new", "--photos", "12", "--width", "64"]) == 2
    assert capsys.readouterr().err == f"biomass: error: {message}\n"


def test_an_error_of_no_file_is_no_message_to_the_user(workdir, monkeypatch):
    def fail(self, *args, **kwargs):
        raise OSError("the cable is out")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(OSError, match="the cable is out"):
        main(["sample", "--out", "new", "--photos", "12", "--width", "64"])


class Broken:
    """A dataset of which nothing can be read."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise KeyError("a")
        except KeyError as error:
            raise DataError("Nothing can be read. Restore it:\n  a") from error


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_process_that_loads_data_is_one_message_too(workers, workdir, capsys, monkeypatch):
    monkeypatch.setitem(cli._COMMANDS, "sample", lambda _: next(iter(DataLoader(Broken(), num_workers=workers))))
    assert main(["sample"]) == 2
    assert capsys.readouterr().err == "biomass: error: Nothing can be read. Restore it:\n  a\n"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (SystemExit, 2)])
def test_light_commands_that_are_stopped_speak_of_no_training(error, code, workdir, capsys, monkeypatch):
    def stop(self, *args, **kwargs):
        raise error("stopped")

    monkeypatch.setattr(Path, "mkdir", stop)
    assert main(["sample", "--out", "new", "--photos", "12", "--width", "64"]) == code
    assert "fit" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer:\n\tmax_epochs: 2\n", "mine.yaml, line 2: a tab stands where YAML needs spaces"),
        ("trainer: {max_epochs: 2\n", "mine.yaml, line 2: this is not YAML"),
        ("", "mine.yaml is empty"),
        ("- trainer\n- model\n", "mine.yaml holds no sections"),
        (None, "Recipe mine.yaml does not exist"),
    ],
    ids=["tab", "open bracket", "empty", "list", "missing"],
)
@pytest.mark.parametrize("command", ["fit", "bench"])
def test_a_mistake_in_the_yaml_is_named_with_the_file_and_the_line(command, text, message, workdir, capsys):
    if text is not None:
        Path("mine.yaml").write_text(text)
    for arguments in ([], ["--help"]):
        assert main([command, "--config", "mine.yaml", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"biomass: error: {message}") and error.count("\n") == 1
