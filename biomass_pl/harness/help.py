"""`biomass fit --help` and `biomass predict --help`: every setting in a line, from the docstrings."""

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import docstring_parser
import yaml
from rich.console import Console
from rich.table import Table

from biomass_pl.data.base import FoldDataModule
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.lesion.losses import FocalLoss
from biomass_pl.lesion.task import LesionClassifier
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.five_head import AuxiliaryConfig, FiveHead
from biomass_pl.pasture.losses import DeadAware, FocalMSE, WeightedLoss
from biomass_pl.pasture.task import PastureTask, SoftmaxRatio
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.optim import OptimConfig
from biomass_pl.training.task import BaseTask

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


@dataclass(frozen=True)
class _Section:
    """Settings under one heading.

    Args:
        title: The heading.
        prefix: What comes before the name of a setting.
        described: The classes that take them.
    """

    title: str
    prefix: str
    described: tuple[type, ...]


_RATES = _Section("Rates", "--model.optim.", (OptimConfig,))
_FREEZE = _Section("Callback BackboneFreeze", "", (BackboneFreeze,))

_TRAINING: dict[type[FoldDataModule], tuple[_Section, ...]] = {
    PastureDataModule: (
        _Section("--model HierarchicalRatio | SoftmaxRatio | FiveHead", "--model.", (PastureTask, BaseTask)),
        _Section("--model SoftmaxRatio only", "--model.", (SoftmaxRatio,)),
        _Section("--model FiveHead only", "--model.", (FiveHead,)),
        _Section("--model.auxiliary", "--model.auxiliary.", (AuxiliaryConfig,)),
        _RATES,
        _Section("--model.loss WeightedLoss", "--model.loss.", (WeightedLoss,)),
        _Section("--model.loss FocalMSE", "--model.loss.", (FocalMSE,)),
        _Section("--model.loss DeadAware", "--model.loss.", (DeadAware,)),
        _FREEZE,
    ),
    LesionDataModule: (
        _Section("--model LesionClassifier", "--model.", (LesionClassifier, BaseTask)),
        _RATES,
        _Section("--model.loss FocalLoss", "--model.loss.", (FocalLoss,)),
        _FREEZE,
    ),
}
"""What a training on each kind of data takes."""


def print_help(own: argparse.ArgumentParser, *, training: bool, configurations: Sequence[str]) -> None:
    """Prints the options of a command: its own, then the settings that a configuration holds.

    Args:
        own: The parser of the command's own options.
        training: Whether to show what only a training uses.
        configurations: Configuration files, whose data say which settings are shown; without any, a pasture's.
    """
    data = _data_class(configurations)
    console = Console(highlight=False)
    console.print(own.format_help().rstrip(), markup=False)
    console.print("\nSettings: in the YAML file, or here as --section.key VALUE, which wins", markup=False)
    console.print("  --config FILE            the recipe; with --help: the settings of its data", markup=False)
    console.print("  --seed_everything N      seed of folds, order, augmentation and weights (42)", markup=False)
    _print_section(console, "Lightning's trainer (all: lightning.pytorch.Trainer)", "--trainer.", _TRAINER)
    _print_section(console, f"--data {data.__name__}", "--data.", _settings(data))
    if training:
        for section in _TRAINING[data]:
            settings = {name: text for described in section.described for name, text in _settings(described).items()}
            _print_section(console, section.title, section.prefix, settings)


def _data_class(configurations: Sequence[str]) -> type[FoldDataModule]:
    named = {data.__name__: data for data in _TRAINING}
    for file in reversed(configurations):
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8")) if Path(file).is_file() else None
        data = content.get("data") if isinstance(content, dict) else None
        name = str(data.get("class_path") if isinstance(data, dict) else data).rpartition(".")[2]
        if name in named:
            return named[name]
    return PastureDataModule


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
