"""Packages that only some settings need, and that an installation may be without."""

import importlib
from typing import Any

from biomass_pl.errors import ConfigError


def imported(module: str, *, title: str, package: str) -> Any:
    """A module of a package that may be missing.

    Args:
        module: Its import name.
        title: How the package calls itself, for the message.
        package: What pip installs it by.

    Raises:
        ConfigError: It is not installed. What an installed one lacks itself is no error of the user's.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ConfigError(f"{title} is not installed. Install it: pip install {package}") from error
