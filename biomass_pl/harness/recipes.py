"""Recipes as files: what is wrong with their YAML, and which classes and systems they name."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from biomass_pl.errors import ConfigError
from biomass_pl.packaged_recipes import missing_recipe_advice
from biomass_pl.runs import LOGS
from biomass_pl.systems import System, system_of

_SECTIONS = ("data", "model")
_SECTIONS_ADVICE = (
    "A recipe has the sections model, data and trainer; biomass recipes --out DIR gives some to start from."
)


def read_recipe(path: Path) -> dict[str, Any]:
    """The content of a recipe, as YAML says it.

    Raises:
        ConfigError: There is no such file, or it is not YAML with sections.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"Recipe {path} does not exist. {missing_recipe_advice(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Recipe {path} cannot be read ({error}). Name a text file.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line[: len(line) - len(line.lstrip())].count("\t"):
            raise ConfigError(f"{path}, line {number}: a tab stands where YAML needs spaces. Replace it by spaces.")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}{place}: this is not YAML ({problem}). Correct it.") from error
    if content is None:
        raise ConfigError(f"{path} is empty. {_SECTIONS_ADVICE}")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no sections. {_SECTIONS_ADVICE}")
    return content


def recipe_files(arguments: Sequence[str]) -> list[Path]:
    """The recipes among arguments of Lightning's form."""
    return [Path(value) for flag, value in pairwise(arguments) if flag == "--config"]


def recipe_name(arguments: Sequence[str]) -> str:
    """Stem of the last recipe; `run` without one."""
    return next((path.stem for path in reversed(recipe_files(arguments))), "run")


def named_classes(section: object) -> Iterator[str]:
    """Every class that a part of a recipe names, however deep."""
    if isinstance(section, dict):
        if isinstance(section.get("class_path"), str):
            yield section["class_path"]
        for value in section.values():
            yield from named_classes(value)
    elif isinstance(section, list):
        for value in section:
            yield from named_classes(value)


def texts(section: object) -> Iterator[str]:
    """Every text that stands for a value in a part of a recipe, however deep."""
    if isinstance(section, str):
        yield section
    elif isinstance(section, dict | list):
        for value in section.values() if isinstance(section, dict) else section:
            yield from texts(value)


def recipe_classes(arguments: Sequence[str]) -> list[str]:
    """What the recipes or the command line name as data module or model, the last named first.

    Args:
        arguments: Arguments of Lightning's form.

    Raises:
        ConfigError: A recipe cannot be read.
    """
    names: list[str] = []
    for path in recipe_files(arguments):
        recipe = read_recipe(path)
        for section in _SECTIONS:
            content = recipe.get(section)
            names += [content] if isinstance(content, str) else list(named_classes(content))
    names += [argument.rpartition("=")[2] for argument in arguments]
    return names[::-1]


def named_class(section: str, arguments: Sequence[str]) -> str | None:
    """The class that the recipes or, before them, the command line name for a section; none where they name none.

    Args:
        section: `data` or `model`.
        arguments: Arguments of Lightning's form.

    Raises:
        ConfigError: A recipe cannot be read.
    """
    found = None
    for path in recipe_files(arguments):
        content = read_recipe(path).get(section)
        name = content.get("class_path") if isinstance(content, dict) else content
        found = name if isinstance(name, str) else found
    return given(f"--{section}", arguments) or found


def given(flag: str, arguments: Sequence[str]) -> str | None:
    """The last value that the command line gives for a flag; none where it gives none.

    Args:
        flag: Such as `--data.root`.
        arguments: Arguments of Lightning's form.
    """
    found = None
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = argument.partition("=")
        if name == flag:
            found = value if equals else following
    return found


def named_systems(arguments: Sequence[str]) -> list[System]:
    """The systems whose data module or task the recipes or the command line name, the last named first.

    Args:
        arguments: Arguments of Lightning's form.

    Raises:
        ConfigError: A recipe cannot be read.
    """
    systems = [system for system in map(system_of, recipe_classes(arguments)) if system is not None]
    return list({system.name: system for system in systems}.values())


def logs_folder(arguments: Sequence[str]) -> Path:
    """Where runs are: in `lightning_logs`, under `--trainer.default_root_dir` where that is among the arguments."""
    return Path(given("--trainer.default_root_dir", arguments) or "") / LOGS


def refuse_recipe(arguments: Sequence[str], command: str) -> None:
    """Refuses a recipe where the run's own configuration counts.

    Raises:
        ConfigError: There is one among the arguments.
    """
    if any(argument.partition("=")[0] in ("--config", "-c") for argument in arguments):
        raise ConfigError(f"biomass {command} uses the run's own configuration. Leave --config out, or give --run.")
