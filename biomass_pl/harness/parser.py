"""LightningCLI without its subcommands: a configuration and overrides in; task, data and trainer out."""

import argparse
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from biomass_pl.data.base import FoldDataModule
from biomass_pl.errors import BiomassError, ConfigError
from biomass_pl.training.task import BaseTask

DEFAULT_SEED = 42


_PRECISIONS = ("None", "32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")
"""Those in which labels keep their 32 bits."""

_NOISE = (
    "Does not validate against",
    "Subtypes:",
    "Errors:",
    "Given value",
    "- Expected a <class 'NoneType'>",
    "- Expected a path but",
    "- Does not validate against",
)
"""Lines of jsonargparse's messages that tell of its types, not of the mistake."""

_REPHRASED = (
    (r"the following arguments are required: (.+)", r"nothing says what \1 is; give a recipe: --config FILE"),
    (r"Parser key \"([^\"]+)\":", r"\1:"),
    (r"Problem with given class_path '(?:\w+\.)*(\w+)':", r"\1:"),
    (r"Option '([^']+)' is not accepted", r"there is no setting '\1'"),
    (r"Expected a dot import path string: (\S+)", r"there is no class '\1'"),
    (r"Expected a typing\.Literal\[(.+?)\]\. Got value: (.+)", r"expected one of \1, got '\2'"),
    (r"Expected an? <class '(\w+)'>\. Got value: (.+)", r"expected \1, got '\2'"),
)


class RunCLI(LightningCLI):
    """Parses and makes the objects of one fold. A fresh one is needed for every fold.

    Lightning caches the parsed configuration in the object, so that a second fold would save the first one's.

    Args:
        arguments: Command line arguments of Lightning's form (`--config FILE`, `--data.root DIR`, ...).
        command: The subcommand, for help and messages.

    Raises:
        ConfigError: A key, a value or a combination is wrong, or the accelerator is not there.
    """

    model: BaseTask
    datamodule: FoldDataModule

    def __init__(self, arguments: Sequence[str], *, command: str = "fit") -> None:
        try:
            super().__init__(
                model_class=BaseTask,
                datamodule_class=FoldDataModule,
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
            raise ConfigError(f"{_plain(str(error))}. See biomass {command} --help.") from error
        except MisconfigurationException as error:
            raise ConfigError(f"{error} Change the trainer.* settings.") from error
        except ValueError as error:
            raise _constructor_error(error) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what two sections must agree on."""
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.tile_size", "model.init_args.tile_size", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the given arguments; what `sys.argv` holds belongs to the command around this one."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """Makes the trainer; `settings` win over the configuration.

        What the configuration leaves open is set as suits runs of many folds.
        """
        if torch.cuda.is_available():
            # Products of what stays float32 beside autocast: TF32 has its range, and bits enough for features.
            torch.set_float32_matmul_precision("high")
        configured = self.config_init["trainer"]
        if str(configured.get("precision")) not in _PRECISIONS:
            raise ConfigError(
                f"trainer.precision {configured['precision']} would round or widen the labels with the pictures. "
                "Use 32-true, 16-mixed or bf16-mixed."
            )
        defaults = {
            "enable_progress_bar": sys.stdout.isatty(),
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,  # the data were checked as a whole
            "log_every_n_steps": 1,
        }
        unset = {name: value for name, value in defaults.items() if configured.get(name) is None}
        return super().instantiate_trainer(**(unset | settings))

    def configured_callbacks(self) -> list[Any]:
        """The callbacks of the configuration."""
        callbacks = self.config_init["trainer"].get("callbacks") or []
        return list(callbacks) if isinstance(callbacks, list) else [callbacks]

    def config_text(self) -> str:
        """What was used, as YAML that loads again."""
        return str(self.parser.dump(self.config, skip_none=False))


def config_name(arguments: Sequence[str]) -> str:
    """Stem of the last configuration file among arguments; `run` without one."""
    names = [Path(value).stem for flag, value in pairwise(arguments) if flag == "--config"]
    return names[-1] if names else "run"


def _constructor_error(error: ValueError) -> BiomassError:
    """What a class of the configuration refused, out of the wrapping that jsonargparse gives it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BiomassError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return ConfigError(f"{_plain(str(error))}. Change the configuration.")


def _plain(message: str) -> str:
    """A message of jsonargparse in one line, without what only its programmer needs."""
    given = re.search(r"Given value: (.+)", message)
    if given:  # told once, below the types of a union
        message = re.sub(
            r"- (Expected a typing\.Literal.+)", lambda line: f"- {line[1]}. Got value: {given[1]}", message
        )
    kept = [
        re.sub(r"^- ", "", line.strip())
        for line in message.splitlines()
        if line.strip() and not line.strip().startswith(_NOISE)
    ]
    text = " ".join(kept).rstrip(".")
    for pattern, replacement in _REPHRASED:
        text = re.sub(pattern, replacement, text)
    return text
