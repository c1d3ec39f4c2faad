"""Every `biomass` command that the README shows works."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from biomass_pl.cli import main
from biomass_pl.pasture.tables import read_labels

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("biomass ")]

SMALL = [
    *("--model.backbone", "test_vit.r160_in1k"),
    *("--model.pretrained", "false"),
    *("--data.num_workers", "0"),
    *("--trainer.max_epochs", "6"),
]
"""Stands in for a large pretrained network, of which a test can only check that the command is right."""

SMALL_PICTURE = {False: ("--data.tile_size", "32"), True: ("--data.image_size", "32")}
"""Of pasture and lesions."""


@pytest.fixture(scope="module")
def user_folder(rendered, tmp_path_factory) -> Path:
    """A folder as the README's reader has it: recipes, data, photos of one's own."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    shutil.copytree(rendered, folder / "data")
    shutil.copytree(rendered / "test", folder / "field_photos")
    ids = read_labels(folder / "data")["image_id"]
    folds = pd.DataFrame({"sample_id_prefix": ids, "fold": range(len(ids))}).assign(
        fold=lambda table: table["fold"] % 5
    )
    folds.to_csv(folder / "data" / "trainfold.csv", index=False)
    return folder


def test_the_commands_run_one_after_another(user_folder, monkeypatch, capsys):
    monkeypatch.chdir(user_folder)
    for command in COMMANDS:
        name, *arguments = shlex.split(command)[1:]
        picture = SMALL_PICTURE["configs/lesion" in command]
        if name == "sample" and "lesion" in arguments:
            arguments += ["--photos", "120"]
        if "configs/lesion" in command:
            arguments += ["--data.batch_size", "8"]  # a batch takes no more malignant lesions than there are
        if name == "bench":
            arguments += [*SMALL, *picture, "--steps", "1"]
        if name == "fit" and "--resume" not in arguments:
            stacked = "configs/lesion" in command or command.endswith("two_stage.yaml --data.root data")
            folds = ["--folds", "0", "1"] if stacked else ["--folds", "0"]  # boosters need two
            arguments += [*SMALL, *picture, *folds]
        expected = 2 if "--resume" in arguments else 0  # nothing was interrupted here
        assert main([name, *arguments]) == expected, command
    assert "no unfinished run" in capsys.readouterr().err
    assert Path("grams.csv").is_file()


def test_there_are_commands_of_every_kind():
    assert {command.split()[1] for command in COMMANDS} == {"fit", "predict", "stack", "sample", "bench", "bank"}


def test_every_file_and_recipe_named_exists():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target
    listed = set(re.findall(r"\(configs/(\w+\.yaml)\)", README))
    assert listed == {path.name for path in (REPOSITORY / "configs").glob("*.yaml")}


def test_ci_runs_the_test_command_of_the_readme():
    """The script takes the line out of the README; a change of the README's form must not break that."""
    script = (REPOSITORY / ".ci" / "run").read_text()
    wanted = re.findall(r"readme_command '([^']+)'", script)
    lines = [line for block in BLOCKS for line in block.splitlines()]
    assert len(wanted) == 2
    for text in wanted:
        assert sum(text in line for line in lines) == 1, text
    assert subprocess.run(["bash", "-n", REPOSITORY / ".ci" / "run"]).returncode == 0
