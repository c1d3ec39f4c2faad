"""Every `biomass` command that the READMEs show works, and what their tables say of the settings is so."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.harness.parser import RunCLI
from biomass_pl.pasture.tables import read_labels
from tests.pasture.test_published_arguments import ROWS, Row

REPOSITORY = Path(__file__).parents[1]
READMES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("biomass_pl/*/README.md"))]
"""The main one first: the others use what its commands made."""


def shell_lines(readme: Path) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", readme.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


COMMANDS = [line for readme in READMES for line in shell_lines(readme) if line.startswith("biomass ")]

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


def test_the_commands_run_one_after_another(user_folder, monkeypatch, capsys, quick_pictures):
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
    assert Path("predictions.csv").is_file()


def test_there_are_commands_of_every_kind():
    assert {command.split()[1] for command in COMMANDS} == {"fit", "predict", "stack", "sample", "bench", "bank"}


def links(readme: Path) -> list[str]:
    return re.findall(r"\]\((?!https?:)([^)]+)\)", readme.read_text())


def headings(readme: Path) -> set[str]:
    """The names by which links lead to them."""
    lines = re.findall(r"^#+ (.+)$", readme.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(readme.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(readme):
    assert links(readme)
    for link in links(readme):
        file, _, heading = link.partition("#")
        target = readme.parent / file if file else readme
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_every_recipe_is_explained_once():
    listed = [
        recipe for readme in READMES for recipe in re.findall(r"\(\.\./\.\./configs/([^)]+)\)", readme.read_text())
    ]
    assert sorted(listed) == sorted(path.name for path in (REPOSITORY / "configs").glob("*.yaml"))


def argument_rows(system: str, *, columns: int) -> list[list[str]]:
    """Cells of the rows of those tables of arguments that have so many columns, without the code marks."""
    readme = (REPOSITORY / "biomass_pl" / system / "README.md").read_text()
    found, is_table = [], False
    for line in readme.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_table = False
        elif cells[0] == "published argument":
            is_table = True
        elif is_table and len(cells) == columns and not line.startswith("|---"):
            found.append(cells)
    return found


def pasture_rows() -> list[tuple[str, str, str]]:
    """Published argument, key and default; what follows a key, such as the class of a callback, is left out."""
    return [
        (published, re.split("[,:]", key)[0], default)
        for published, key, default in argument_rows("pasture", columns=3)
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.published)
def test_a_published_pasture_argument_is_listed_with_its_key_and_default(row: Row):
    key = row.key.removeprefix("--")
    listed = [rest for published, *rest in pasture_rows() if published.startswith(row.published)]
    default = list(row.default) if isinstance(row.default, tuple) else row.default
    # `off` would be False in YAML.
    assert [key, default] in [[name, text if text == "off" else yaml.safe_load(text)] for name, text in listed]


def test_the_other_pasture_keys_exist_and_have_the_listed_defaults(capsys):
    tested = {row.key.removeprefix("--") for row in ROWS}
    others = {key: default for _, key, default in pasture_rows() if key not in tested}
    options = {key for key in others if " " in key}
    assert len(options) > 5 and {"data.root", "model.context_adjustment"} <= others.keys()
    for command, option in map(str.split, options):
        assert main([command, "--help"]) == 0
        assert re.search(rf"{option}\b", capsys.readouterr().out), option
    base = ["--config", str(REPOSITORY / "configs" / "five_head.yaml")]
    assert_nothing_changes(base, [f"--{key}={default}" for key, default in others.items() if key not in options])


def assert_nothing_changes(base: list[str], settings: list[str]) -> None:
    """What a table says is what there is already."""
    before, after = (RunCLI(arguments).config_text().splitlines() for arguments in (base, [*base, *settings]))
    assert before == after


@pytest.mark.parametrize(("column", "recipe"), [(2, "lesion_quick.yaml"), (3, "lesion_eva02.yaml")])
def test_a_lesion_recipe_has_the_listed_values(column, recipe):
    rows = argument_rows("lesion", columns=4)
    assert len(rows) > 20
    base = ["--config", str(REPOSITORY / "configs" / recipe), "--model.loss", "FocalLoss"]
    assert_nothing_changes(base, [f"--{row[1]}={row[column]}" for row in rows])


def test_ci_runs_the_test_command_of_the_readme():
    """The script takes the line out of the README; a change of the README's form must not break that."""
    script = (REPOSITORY / ".ci" / "run").read_text()
    wanted = re.findall(r"readme_command '([^']+)'", script)
    assert len(wanted) == 2
    for text in wanted:
        assert sum(text in line for line in shell_lines(READMES[0])) == 1, text
    assert subprocess.run(["bash", "-n", REPOSITORY / ".ci" / "run"]).returncode == 0
