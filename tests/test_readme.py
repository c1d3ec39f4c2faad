"""Every `biomass` command that the READMEs show works, and what their tables say of the settings is so."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import yaml

from biomass_pl.cli import main
from biomass_pl.harness.parser import RunCLI
from biomass_pl.pasture.tables import read_labels
from tests.leaf.test_published_keys import NO
from tests.leaf.test_published_keys import ROWS as LEAF_ROWS
from tests.leaf.test_published_keys import Row as LeafRow
from tests.pasture.test_published_arguments import ROWS, Row
from tests.slide.published_rows import NOTHING
from tests.slide.published_rows import ROWS as SLIDE_ROWS
from tests.slide.tiny_biogpt import tiny_biogpt

REPOSITORY = Path(__file__).parents[1]
READMES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("biomass_pl/*/README.md"))]
"""The main one first: the others use what its commands made."""


def shell_lines(readme: Path) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", readme.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


COMMANDS = [line for readme in READMES for line in shell_lines(readme) if line.startswith("biomass ")]

SMALL = {
    "pasture": ["--model.backbone", "test_vit.r160_in1k", "--data.tile_size", "32", "--data.batch_size", "8"],
    # A batch takes no more malignant lesions than there are.
    "lesion": ["--model.backbone", "test_vit.r160_in1k", "--data.image_size", "32", "--data.batch_size", "8"],
    "leaf": [
        *("--model.backbone", "hvit_tiny"),
        *("--model.backbone_args", '{"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}'),
        *("--data.image_size", "32"),
        *("--data.batch_size", "8"),
    ],
    "slide": [
        *("--data.batch_size", "8"),
        *("--model.eval.bootstraps", "1"),
        *("--model.captions.every_n_epochs", "1"),
        *("--trainer.check_val_every_n_epoch", "1"),
    ],
    "trait": ["--model.backbone", "test_vit.r160_in1k", "--data.tile_size", "32", "--data.batch_size", "8"],
}
"""Stand in for large pretrained networks, of which a test can only check that the command is right."""

SMALL_TEXTS = [
    *("--model.name", "coca_stage_1"),
    *("--model.generation.max_seq_len", "12"),
    *("--model.eval.grace_period", "0"),
]
"""The same for the recipe of the published sizes."""

SMALL_SAMPLE = {
    "pasture": ["--width", "128"],
    "lesion": ["--photos", "120"],
    "leaf": ["--photos", "70"],
    "slide": ["--specimens", "60"],
    "trait": ["--photos", "40", "--width", "80"],
}

RECIPES = {"lesion": "configs/lesion", "leaf": "configs/leaf", "slide": "configs/slide", "trait": "configs/regression"}
"""How the names of recipes begin, by their system; the others are pasture's."""


@pytest.fixture(scope="module")
def user_folder(rendered, tmp_path_factory) -> Path:
    """A folder as the README's reader has it: recipes, data, photos of one's own."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    two_stage = folder / "configs" / "two_stage.yaml"
    two_stage.write_text(re.sub(r"epochs: 5\b", "epochs: 1", two_stage.read_text()))  # an epoch of each stage
    shutil.copytree(rendered, folder / "data")
    shutil.copytree(rendered / "test", folder / "field_photos")
    labels = read_labels(folder / "data")
    shutil.copytree(rendered / "train", folder / "survey" / "photos")
    survey = labels.assign(photo=labels["image_path"].str.replace("train", "photos"), total=labels["Dry_Total_g"])
    survey[["photo", "total"]].to_csv(folder / "survey" / "weights.csv", index=False)
    ids = labels["image_id"]
    folds = pd.DataFrame({"sample_id_prefix": ids, "fold": range(len(ids))}).assign(
        fold=lambda table: table["fold"] % 5
    )
    folds.to_csv(folder / "data" / "trainfold.csv", index=False)
    tiny_biogpt(folder / "biogpt")
    values = np.random.default_rng(0).normal(size=(len(ids), 8))
    np.savez(folder / "features.npz", image_id=ids.to_numpy(dtype=str), features=values)
    return folder


def shortened(command: str) -> list[str]:
    """The arguments of a command, with those that make it quick."""
    name, *arguments = shlex.split(command)[1:]
    system = next((kind for kind, begin in RECIPES.items() if begin in command), "pasture")
    if name == "sample":
        arguments += SMALL_SAMPLE[arguments[arguments.index("--kind") + 1] if "--kind" in arguments else "pasture"]
        arguments += ["--unlabelled", "8"] * ("--unlabelled" in arguments)
    if name == "check":
        arguments += [*SMALL[system], "--model.pretrained", "false"]
    is_fit = name == "fit" and "--resume" not in arguments
    if name == "embed":
        arguments += [*SMALL[system], "--model.pretrained", "false", "--data.num_workers", "0"]
    if is_fit or name == "bench":
        epochs = "2" if "configs/two_stage.yaml" in arguments and "SimCLR" not in arguments else "1"
        scratch = [] if system == "slide" else ["--model.pretrained", "false"]
        quick = [*scratch, "--data.num_workers", "0", "--trainer.max_epochs", epochs]
        arguments += [*SMALL[system], *quick]
    if is_fit and "slide_perceiver" in command:
        arguments += SMALL_TEXTS
    if is_fit:
        is_stacked = command.endswith(("lesion_quick.yaml --data.root lesions", "two_stage.yaml --data.root data"))
        arguments += ["--folds", "0", "1"] if is_stacked else ["--folds", "0"]  # boosters need two
    if name == "bench":
        arguments += ["--steps", "1"]
    return [name, *arguments]


def test_the_commands_run_one_after_another(user_folder, monkeypatch, capsys, quick_pictures):
    monkeypatch.chdir(user_folder)
    for command in COMMANDS:
        arguments = shortened(command)
        expected = 2 if "--resume" in arguments else 0  # nothing was interrupted here
        assert main(arguments) == expected, command
    assert "no unfinished run" in capsys.readouterr().err
    assert Path("predictions.csv").is_file()


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if " --model" in command and "configs/slide" not in command]
)
def test_a_command_with_another_model_has_a_network_that_there_is(command):
    """Small ones stand in for it when the commands run."""
    settings = re.sub(r" --(name|folds) \S+", "", command.removeprefix("biomass fit "))
    assert timm.is_model(RunCLI(shlex.split(settings)).model.backbone_name.partition(".")[0])


def test_there_are_commands_of_every_kind():
    assert {command.split()[1] for command in COMMANDS} == {
        "check",
        "fit",
        "predict",
        "embed",
        "stack",
        "export",
        "sample",
        "bench",
        "bank",
        "recipes",
    }


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


def leaf_rows() -> list[tuple[str, str, str, str]]:
    """Published key, key, and its values in the recipes of both phases; empty where a recipe has no such key."""
    return [(row[0], row[1], row[2], row[3]) for row in argument_rows("leaf", columns=4)]


def test_the_leaf_keys_that_are_listed_are_those_that_are_tested():
    """Each with the value that its test expects, which a test there compares with the recipes."""

    def is_listed(row: LeafRow) -> bool:
        values = [None if value is NO else [value] for value in (row.simclr, row.hvit)]
        found = [
            rest for published, key, *rest in leaf_rows() if key == row.key and published.startswith(row.published)
        ]
        return values in [[[yaml.safe_load(text)] if text else None for text in texts] for texts in found]

    assert [f"{row.published}: {row.key}" for row in LEAF_ROWS if not is_listed(row)] == []
    tested = {(row.published, row.key) for row in LEAF_ROWS}
    assert len(leaf_rows()) == len(set(leaf_rows())) == len(tested)


@pytest.mark.parametrize(("column", "recipe"), [(2, "leaf_simclr.yaml"), (3, "leaf_hvit.yaml")])
def test_a_leaf_recipe_has_the_listed_values(column, recipe):
    rows = [row for row in leaf_rows() if row[column] and row[1].partition(".")[0] in ("model", "data", "trainer")]
    assert len(rows) > 25
    base = ["--config", str(REPOSITORY / "configs" / recipe)]
    # What the recipe leaves to timm's name of the network stands in no configuration.
    named = [row for row in rows if not row[1].startswith("model.backbone_args.") or row[1].endswith("drop_path_rate")]
    assert_nothing_changes(base, [f"--{row[1]}={row[column]}" for row in named])


def test_the_slide_arguments_are_listed_in_their_order_with_key_and_default():
    """Each with the value that its test expects; what is not there is named apart."""
    listed = [
        (
            published.removeprefix("--").partition(" ")[0].rstrip(","),
            key,
            yaml.safe_load(default) if default else NOTHING,
        )
        for published, key, default in argument_rows("slide", columns=3)
    ]
    assert listed == [(row.published, row.key, row.default) for row in SLIDE_ROWS]


def test_ci_runs_the_test_command_of_the_readme():
    """The script takes the line out of the README; a change of the README's form must not break that."""
    script = (REPOSITORY / ".ci" / "run").read_text()
    wanted = re.findall(r"readme_command '([^']+)'", script)
    assert len(wanted) == 2
    for text in wanted:
        assert sum(text in line for line in shell_lines(READMES[0])) == 1, text
    assert subprocess.run(["bash", "-n", REPOSITORY / ".ci" / "run"]).returncode == 0
