"""`biomass fit --help` and `biomass predict --help`: the settings of what a recipe names, from their docstrings."""

import argparse
from argparse import SUPPRESS
from collections.abc import Sequence

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from biomass_pl.errors import ConfigError
from biomass_pl.harness.recipes import named_class, named_systems
from biomass_pl.systems import all_systems, class_name, resolved
from biomass_pl.training.callbacks.freeze import BackboneFreeze

_TRAINER = {
    "max_epochs": "epochs of every fold",
    "accelerator": "auto, cpu, cuda or mps",
    "devices": "number of devices",
    "precision": "32-true, 16-mixed or bf16-mixed, or as published: fp32, amp, amp_bf16",
    "accumulate_grad_batches": "batches per optimizer step",
    "gradient_clip_val": "largest norm of the gradient",
    "callbacks": "list of callbacks, such as EarlyStopping and BackboneFreeze",
    "default_root_dir": "where lightning_logs/ is made",
}
"""The settings of Lightning's trainer that matter most here; it has some forty more."""

_LINKED = ("model.tile_size", "model.given_width", "data.seed")
"""Follow data.tile_size, data.features and seed_everything; nothing to set."""


def print_help(own: argparse.ArgumentParser, *, training: bool, arguments: Sequence[str]) -> None:
    """Prints the options of a command: its own, then the settings of what a recipe names.

    Args:
        own: The parser of the command's own options.
        training: Whether to show what only a training uses.
        arguments: The recipes and other settings of Lightning's form; without any, the first system's usual classes
            are shown.
    """
    console = Console(highlight=False)
    console.print(own.format_help().rstrip(), markup=False)
    console.print("\nSettings: in the YAML file, or here as --section.key VALUE, which wins", markup=False)
    console.print("  --config FILE            the recipe; --help shows the settings of its classes", markup=False)
    console.print("  --seed_everything N      seed of folds, order, augmentation and weights (42)", markup=False)
    _print_section(console, "Lightning's trainer (all: lightning.pytorch.Trainer)", "--trainer.", _TRAINER)
    system = next(iter(named_systems(arguments)), all_systems()[0])
    data, *_ = _named_first("data", system.data_modules, arguments)
    _print_class(console, "data", data)
    if not training:
        return
    task, *others = _named_first("model", system.tasks, arguments)
    _print_class(console, "model", task)
    if others:
        console.print(f"\nOther models: {', '.join(map(class_name, others))}; --model.help NAME shows theirs")
    _print_section(console, "Callback BackboneFreeze", "", _settings(_actions(BackboneFreeze, ""), ""))


def _named_first(section: str, references: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Classes of a system, the one first that is named; that one alone where it is the user's own."""
    name = named_class(section, arguments)
    if name is None:
        return list(references)
    if class_name(name) not in map(class_name, references):
        return [name]
    return sorted(references, key=lambda reference: class_name(reference) != class_name(name))


def _print_class(console: Console, section: str, reference: str) -> None:
    try:
        described = resolved(reference)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{section}: there is no class '{reference}' ({error}). Correct class_path.") from error
    actions = _actions(described, section)
    _print_section(console, f"--{section} {described.__name__}", "--", _settings(actions, section))
    nested = [action.option_strings[0] for action in actions if action.dest.endswith(".help")]
    for flag in nested:
        console.print(f"  {flag} NAME shows what it takes", markup=False)


def _actions(described: type, section: str) -> list[argparse.Action]:
    """The settings of a class, as jsonargparse finds them along its bases."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(described, section or None)
    return list(parser._actions)


def _settings(actions: Sequence[argparse.Action], section: str) -> dict[str, str]:
    """Description and default of every setting."""
    settings = {}
    for action in actions:
        name = action.dest
        if name in ("help", section, *_LINKED) or name.endswith(".help") or action.default == SUPPRESS:
            continue
        settings[name] = f"{(action.help or '').rstrip('.')}{'' if action.required else _default(action.default)}"
    return settings


def _default(value: object) -> str:
    if value is None:
        return " (none)"
    return f" ({str(value).lower() if isinstance(value, bool) else value})"


def _print_section(console: Console, title: str, prefix: str, settings: dict[str, str]) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, min_width=26)
    table.add_column()
    for name, text in settings.items():
        table.add_row(f"  {prefix}{name}", text)
    console.print(f"\n{title}", markup=False)
    console.print(table, markup=False)
