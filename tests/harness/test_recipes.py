"""Recipes as files: mistakes in their YAML are named, and what they name is found."""

import re
from pathlib import Path

import pytest

from biomass_pl.errors import ConfigError
from biomass_pl.harness.recipes import (
    given,
    logs_folder,
    named_class,
    named_classes,
    read_recipe,
    recipe_name,
    refuse_recipe,
    texts,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer:\n\tmax_epochs: 1\n", "line 2: a tab stands where YAML needs spaces"),
        ("trainer: {max_epochs: 1\nmodel: X\n", "line 2: this is not YAML"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- trainer\n", "holds no sections"),
    ],
)
def test_a_mistake_is_named_with_its_place(text, message, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read_recipe(path)
    assert str(caught.value).startswith((f"{path}", f"Recipe {path}"))


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ConfigError, match=r"picture\.yaml cannot be read"):
        read_recipe(tmp_path / "picture.yaml")


@pytest.fixture
def recipes(tmp_path) -> list[str]:
    """Two recipes, as arguments; the second has a class of its own as model."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("model: {class_path: a.First}\ndata: Bags\n")
    second.write_text("model: {class_path: a.Second, init_args: {loss: {class_path: a.Loss}}}\n")
    return ["--config", str(first), "--config", str(second)]


@pytest.mark.parametrize(
    ("more", "model", "data"),
    [
        ([], "a.Second", "Bags"),
        (["--model", "b.Third"], "b.Third", "Bags"),
        (["--model=b.Third", "--data", "b.Bags", "--data.root", "x"], "b.Third", "b.Bags"),
        (["--model.width", "3"], "a.Second", "Bags"),
    ],
)
def test_the_class_of_a_section_is_the_one_named_last_and_the_command_line_wins(more, model, data, recipes):
    assert named_class("model", [*recipes, *more]) == model
    assert named_class("data", [*recipes, *more]) == data


def test_a_section_that_nothing_names_has_no_class():
    assert named_class("model", ["--trainer.max_epochs", "3"]) is None


def test_classes_are_found_however_deep():
    section = {"class_path": "A", "init_args": {"parts": [{"class_path": "B"}, 3], "class_path": 4}}
    assert list(named_classes(section)) == ["A", "B"]


def test_all_texts_of_a_section_are_found():
    section = {"a": "one", "b": [{"c": ["two", 3, None]}, "four"], "d": {"e": {"f": "five"}, "g": True}}
    assert list(texts(section)) == ["one", "two", "four", "five"]


def test_a_run_is_called_after_the_last_recipe():
    assert recipe_name(["--config", "a/first.yaml", "--config", "b/second.yaml", "--x", "y.yaml"]) == "second"
    assert recipe_name([]) == "run"


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ([], "lightning_logs"),
        (["--trainer.default_root_dir", "there"], "there/lightning_logs"),
        (["--trainer.default_root_dir=there"], "there/lightning_logs"),
    ],
)
def test_runs_are_looked_for_where_the_trainer_puts_them(arguments, folder):
    assert logs_folder(arguments) == Path(folder)


@pytest.mark.parametrize("argument", ["--config", "--config=x.yaml", "-c"])
def test_a_recipe_is_refused_where_the_run_has_its_own(argument):
    refuse_recipe(["--data.root", "x"], "predict")
    with pytest.raises(ConfigError, match="Leave --config out"):
        refuse_recipe([argument], "predict")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], None),
        (["--data.root", "a"], "a"),
        (["--data.root=a b"], "a b"),
        (["--data.root", "a", "--data.root=b"], "b"),
        (["--data.roots", "a", "--name", "--data"], None),
    ],
)
def test_the_last_value_of_a_flag_counts(arguments, found):
    assert given("--data.root", arguments) == found
