"""`biomass fit --help` and `biomass predict --help`: every setting in a line, from the docstrings."""

import argparse
import inspect

import docstring_parser
from rich.console import Console
from rich.table import Table

from biomass_pl.callbacks.freeze import BackboneFreeze
from biomass_pl.data.pasture import PastureDataModule
from biomass_pl.losses.pasture import DeadAware, FocalMSE, WeightedLoss
from biomass_pl.optim import OptimConfig
from biomass_pl.tasks.five_head import AuxiliaryConfig, FiveHead
from biomass_pl.tasks.pasture import PastureTask, SoftmaxRatio

_TRAINER = {
    "max_epochs": "epochs of every fold",
    "accelerator": "auto, cpu, cuda or mps",
    "devices": "number of devices",
    "precision": "32-true, 16-mixed or bf16-mixed",
    "accumulate_grad_batches": "batches per optimizer step",
    "gradient_clip_val": "largest norm of the gradient",
    "callbacks": "list of callbacks, such as EarlyStopping and BackboneFreeze",
    "default_root_dir": "where lightning_logs/ is made",
}
"""The settings of Lightning's trainer that matter most here; it has some forty more."""

_LINKED = ("--model.tile_size", "--data.seed")
"""Follow data.tile_size and seed_everything; nothing to set."""

_TRAINING: tuple[tuple[str, str, type], ...] = (
    ("--model HierarchicalRatio | SoftmaxRatio | FiveHead", "--model.", PastureTask),
    ("--model SoftmaxRatio only", "--model.", SoftmaxRatio),
    ("--model FiveHead only", "--model.", FiveHead),
    ("--model.auxiliary", "--model.auxiliary.", AuxiliaryConfig),
    ("Rates", "--model.optim.", OptimConfig),
    ("--model.loss WeightedLoss", "--model.loss.", WeightedLoss),
    ("--model.loss FocalMSE", "--model.loss.", FocalMSE),
    ("--model.loss DeadAware", "--model.loss.", DeadAware),
    ("Callback BackboneFreeze", "", BackboneFreeze),
)


def print_help(own: argparse.ArgumentParser, *, training: bool) -> None:
    """Prints the options of a command: its own, then the settings that a configuration holds.

    Args:
        own: The parser of the command's own options.
        training: Whether to show what only a training uses.
    """
    console = Console(highlight=False)
    console.print(own.format_help().rstrip(), markup=False)
    console.print("\nSettings: in the YAML file, or here as --section.key VALUE, which wins", markup=False)
    console.print("  --config FILE            the recipe, such as configs/two_stage.yaml", markup=False)
    console.print("  --seed_everything N      seed of folds, order, augmentation and weights (42)", markup=False)
    _print_section(console, "Lightning's trainer (all: lightning.pytorch.Trainer)", "--trainer.", _TRAINER)
    _print_section(console, "--data PastureDataModule", "--data.", _settings(PastureDataModule))
    if training:
        for title, prefix, described in _TRAINING:
            _print_section(console, title, prefix, _settings(described))


def _settings(described: type) -> dict[str, str]:
    """Description and default of each constructor argument that the docstring tells of."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(described).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    texts = {}
    for argument in docstring_parser.parse(described.__doc__ or "").params:
        if argument.arg_name in defaults:
            text = (argument.description or "").rstrip(".").replace("\n", " ")
            texts[argument.arg_name] = text + _default(defaults[argument.arg_name])
    return texts


def _default(value: object) -> str:
    if value is inspect.Parameter.empty or isinstance(value, OptimConfig):
        return ""
    if value is None:
        return " (none)"
    return f" ({str(value).lower() if isinstance(value, bool) else value})"


def _print_section(console: Console, title: str, prefix: str, settings: dict[str, str]) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, min_width=26)
    table.add_column()
    for name, text in settings.items():
        if prefix + name in _LINKED:
            continue
        table.add_row(f"  {prefix}{name}", text)
    console.print(f"\n{title}", markup=False)
    console.print(table, markup=False)
