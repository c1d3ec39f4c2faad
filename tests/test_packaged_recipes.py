"""The recipes of the package: found by name, listed, copied, and offered where one is missing."""

from pathlib import Path

import pytest

from biomass_pl.cli import main
from biomass_pl.packaged_recipes import about, copy_recipes, find_recipe, recipe_names, recipes_folder

CONFIGS = Path(__file__).parents[1] / "configs"


def test_the_recipes_are_those_of_the_repository():
    assert recipes_folder() == CONFIGS  # a wheel has copies of them
    assert recipe_names() == sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml"])
def test_a_name_finds_the_recipe_of_the_package_unless_there_is_such_a_file(name, workdir):
    assert find_recipe(name) == CONFIGS / "quickstart.yaml"
    Path(name).mkdir()  # no recipe
    assert find_recipe(name) == CONFIGS / "quickstart.yaml"
    Path(name).rmdir()
    Path(name).write_text("")
    assert find_recipe(name) == Path(name)


@pytest.mark.parametrize(
    "path", ["other", "other.yaml", "configs/quickstart.yaml", "quickstart.yml", "here/quickstart"]
)
def test_what_is_no_name_of_a_recipe_stays_a_path(path, workdir):
    assert find_recipe(path) == Path(path)


@pytest.mark.parametrize("command", ["fit", "bench"])
@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("quikstart", "quickstart"),
        ("two-stage.yaml", "two_stage"),
        ("configs/head_only.yaml", "head_only"),
        ("qqqq", None),
    ],
)
def test_a_recipe_that_is_not_there_gets_a_suggestion_and_the_list(command, named, meant, workdir, capsys):
    assert main([command, "--config", named]) == 2
    error = capsys.readouterr().err
    assert f"Recipe {named} does not exist" in error and error.count("\n") == 1
    assert ("Did you mean" in error) == (meant is not None)
    assert meant is None or f"Did you mean --config {meant}?" in error
    assert all(name in error for name in recipe_names())


def test_a_recipe_of_the_package_trains_by_its_name_in_any_folder(rendered, workdir):
    tiny = ["--model.backbone", "test_vit.r160_in1k", "--model.pretrained", "false", "--data.tile_size", "32"]
    short = ["--trainer.max_epochs", "1", "--folds", "0", "--data.root", str(rendered)]
    assert main(["fit", "--config", "quickstart", *tiny, *short]) == 0
    assert Path("lightning_logs/quickstart/version_0/fold_0/checkpoints/best.ckpt").is_file()


def test_help_takes_the_name_of_a_recipe(workdir, capsys):
    assert main(["fit", "--config", "quickstart", "--help"]) == 0
    assert "--data PastureDataModule" in capsys.readouterr().out


def test_the_recipes_are_listed_each_in_a_line(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert all(len(line.split()) > 5 and max(map(len, lines)) <= 140 for line in lines)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# One thing. And more.\n#   biomass fit\nmodel: x\n", "One thing"),
        ("# A long one that\n# goes on:\n#   biomass fit\n", "A long one that goes on"),
        ("# Ends here.\nmodel: x\n", "Ends here"),
        ("model: x\n", ""),
    ],
)
def test_a_recipe_is_about_what_its_first_sentence_says(text, sentence, tmp_path):
    (tmp_path / "recipe.yaml").write_text(text)
    assert about(tmp_path / "recipe.yaml") == sentence


def test_recipes_are_copied_and_nothing_is_overwritten(workdir, capsys):
    Path("mine").mkdir()
    Path("mine/quickstart.yaml").write_text("edited")
    assert main(["recipes", "--out", "mine"]) == 0
    assert f"{len(recipe_names()) - 1} recipes copied: mine" in (told := capsys.readouterr().out)
    assert "left as they are: quickstart.yaml" in told
    assert Path("mine/quickstart.yaml").read_text() == "edited"
    assert Path("mine/two_stage.yaml").read_bytes() == (CONFIGS / "two_stage.yaml").read_bytes()


def test_recipes_are_copied_into_a_folder_that_is_made(tmp_path):
    copied, kept = copy_recipes(tmp_path / "new" / "recipes")
    assert copied == [f"{name}.yaml" for name in recipe_names()] and kept == []
    assert sorted(path.name for path in (tmp_path / "new" / "recipes").iterdir()) == copied


def test_a_copy_wins_over_the_recipe_of_the_package(workdir):
    copy_recipes(Path())
    assert find_recipe("quickstart.yaml") == Path("quickstart.yaml")
