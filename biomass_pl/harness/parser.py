"""LightningCLI without its subcommands: a configuration and overrides in; task, data and trainer out."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import biomass_pl.training.callbacks.averaging
import biomass_pl.training.callbacks.freeze
import biomass_pl.training.callbacks.local_log
import biomass_pl.training.callbacks.periodic_checkpoint
import biomass_pl.training.callbacks.remote_sync
import biomass_pl.training.callbacks.source_copy
import biomass_pl.training.distributed
import biomass_pl.training.simclr  # noqa: F401  (what a recipe of any system can name without the module)
from biomass_pl.data.base import FoldDataModule
from biomass_pl.errors import ConfigError
from biomass_pl.harness.parse_errors import constructor_error, plain
from biomass_pl.harness.recipes import named_systems
from biomass_pl.harness.trainer_settings import (
    RunTrainer,
    check_device_stats,
    check_plugins,
    check_strategy,
    trainer_precision,
)
from biomass_pl.training.callbacks.progress import FoldProgressBar
from biomass_pl.training.task import Task

DEFAULT_SEED = 42


class RunCLI(LightningCLI):
    """Parses and makes the objects of one fold. A fresh one is needed for every fold.

    Lightning caches the parsed configuration in the object, so that a second fold would save the first one's.

    Args:
        arguments: Command line arguments of Lightning's form (`--config FILE`, `--data.root DIR`, ...).
        command: The subcommand, for help and messages.

    Raises:
        ConfigError: A key, a value or a combination is wrong, or the accelerator is not there.
    """

    model: Task
    datamodule: FoldDataModule

    def __init__(self, arguments: Sequence[str], *, command: str = "fit") -> None:
        for system in named_systems(arguments):
            system.imported()
        try:
            super().__init__(
                model_class=Task,
                datamodule_class=FoldDataModule,
                trainer_class=RunTrainer,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                save_config_callback=None,
                seed_everything_default=DEFAULT_SEED,
                parser_kwargs={
                    "prog": f"biomass {command}",
                    "usage": f"biomass {command} --config FILE [options]",
                    "allow_abbrev": False,
                    "exit_on_error": False,
                },
                args=list(arguments),
                run=False,
            )
        except argparse.ArgumentError as error:
            raise ConfigError(f"{plain(str(error))}. See biomass {command} --help.") from error
        except MisconfigurationException as error:
            raise ConfigError(f"{error} Change the trainer.* settings.") from error
        except ValueError as error:
            raise constructor_error(error) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what two sections must agree on."""
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.tile_size", "model.init_args.tile_size", apply_on="instantiate")
        parser.link_arguments("data.given_width", "model.init_args.given_width", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the given arguments; what `sys.argv` holds belongs to the command around this one."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """Makes the trainer; `settings` win over the configuration.

        What the configuration leaves open is set as suits runs of many folds.
        """
        self.model.truth = self.datamodule.truth
        if torch.cuda.is_available():
            # Products of what stays float32 beside autocast: TF32 has its range, and bits enough for features.
            torch.set_float32_matmul_precision("high")
        configured = self.config_init["trainer"]
        check_strategy(configured.get("strategy"))
        check_plugins(as_list(configured.get("plugins")), configured.get("precision"))
        defaults = {
            "enable_progress_bar": self.shows_progress(),
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,  # the data were checked as a whole
        }
        unset = {name: value for name, value in defaults.items() if configured.get(name) is None}
        precision = trainer_precision(configured.get("precision"), self.model)
        trainer = super().instantiate_trainer(**(unset | settings | {"precision": precision}))
        check_device_stats(trainer)
        return trainer

    def configured_callbacks(self) -> list[Any]:
        """The callbacks of the configuration."""
        return as_list(self.config_init["trainer"].get("callbacks"))

    def shows_progress(self) -> bool:
        """Whether there is a progress bar: as the configuration says, else in a terminal."""
        configured = self.config_init["trainer"].get("enable_progress_bar")
        return sys.stdout.isatty() if configured is None else bool(configured)

    def progress_bar(self, title: str) -> list[Callback]:
        """Our own progress bar, where one is shown and the configuration has none."""
        own = [callback for callback in self.configured_callbacks() if isinstance(callback, ProgressBar)]
        return [FoldProgressBar(title=title)] if self.shows_progress() and not own else []

    def config_text(self) -> str:
        """What was used, as YAML that loads again."""
        return str(self.parser.dump(self.config, skip_none=False))


def as_list(configured: Any) -> list[Any]:
    """What a key holds of which a configuration may give none, one or a list."""
    if configured is None:
        return []
    return list(configured) if isinstance(configured, list) else [configured]
