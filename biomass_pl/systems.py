"""Which systems there are, and what each tells of itself. Light: a system's own code is imported when it is needed."""

import importlib
from dataclasses import dataclass
from typing import Any

NAMES = ("pasture", "lesion", "leaf", "slide", "trait")
"""Folders of this package with a `system.py` that holds a `SYSTEM`."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A number, or one of several words, that a renderer takes.

    Args:
        name: Name of the option, and of the renderer's argument.
        default: Its value when it is not given.
        help: What it is, for the help of `biomass sample`; of a number, what is counted.
        choices: The words to choose from; none of a number.
    """

    name: str
    default: int | str
    help: str
    choices: tuple[str, ...] = ()

    def told(self, value: int | str) -> str:
        """A value of it, in words."""
        return f"{self.name} {value}" if self.choices else f"{value} {self.help}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What `biomass sample` renders.

    Args:
        render: Reference to the function; it takes `out`, `seed` and the options.
        about: What is rendered, in a few words.
        options: What else it takes.
    """

    render: str
    about: str
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True)
class PredictionStep:
    """Something that can be done to a table of predictions, as an option of `biomass predict`.

    Args:
        name: Name of the option.
        apply: Reference to the function, from table to table.
        help: What it does.
    """

    name: str
    apply: str
    help: str


@dataclass(frozen=True, kw_only=True)
class System:
    """What a system tells of itself.

    Args:
        name: Its folder.
        about: What it predicts, in a few words.
        data_modules: References to its data modules, the usual one first.
        tasks: References to its tasks, the usual one first.
        recognises: Reference to a function that says of a data folder whether it is laid out as its recipe expects.
        recipe: Name of the recipe to begin with.
        sample: What `biomass sample` renders for it.
        prediction_steps: What its predictions can be put through.
    """

    name: str
    about: str
    data_modules: tuple[str, ...]
    tasks: tuple[str, ...]
    recognises: str
    recipe: str
    sample: Sample
    prediction_steps: tuple[PredictionStep, ...] = ()

    def class_names(self) -> set[str]:
        """Names by which a recipe may call its data modules and tasks."""
        return {class_name(reference) for reference in (*self.data_modules, *self.tasks)}

    def imported(self) -> None:
        """Imports its classes, so that recipes may name them without their module."""
        for reference in (*self.data_modules, *self.tasks):
            resolved(reference)


def all_systems() -> list[System]:
    """All systems, in the order of `NAMES`."""
    return [importlib.import_module(f"biomass_pl.{name}.system").SYSTEM for name in NAMES]


def system_of(name: str) -> System | None:
    """The system whose data module or task has this class name, with or without its module; none where none has."""
    return next((system for system in all_systems() if class_name(name) in system.class_names()), None)


def resolved(reference: str) -> Any:
    """The function or class of a reference such as `biomass_pl.room.module.name`."""
    module, _, name = reference.rpartition(".")
    return getattr(importlib.import_module(module), name)


def class_name(reference: str) -> str:
    """The last part of a reference."""
    return reference.rpartition(".")[2]
