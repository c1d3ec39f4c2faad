"""Whether a stored configuration may be handed to the parser: a run folder from elsewhere is data, never code.

The parser imports the classes that a configuration names, calls functions by their import path, and reads further
configurations from files and addresses. Here the content is walked before, and only what this package and Lightning
offer is imported.
"""

import importlib
import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from biomass_pl.errors import RunError
from biomass_pl.harness.parameter_types import Parameter, parameters_of

_PACKAGE = "biomass_pl."
_LIGHTNING = tuple(
    f"lightning.pytorch.{part}." for part in ("callbacks", "loggers", "plugins", "profilers", "strategies")
)
_OF_LIGHTNING = (Callback, Logger, Precision, Profiler, Strategy)

_SECTIONS = ("seed_everything", "trainer", "model", "data")
_SPECIFICATION = {"class_path", "init_args", "dict_kwargs"}
_WORD = re.compile(r"(?!.{200})(\w+(([ ,-]+|:)\w+)*)?", re.ASCII)
"""`16-mixed`, `cuda:0`, `ddp_find_unused_parameters_true`: no import path, file or address."""
_NAMES_OF_PATHS = ("dir", "directory", "path", "uri", "url", "remote")
"""How parameters end that are paths or addresses, although some classes declare them as text."""
_ADDRESS = re.compile(r"\w[\w+.-]*:.*/|.*::")
"""`https://...`, `sqlite:///...`, `memory::...`."""


_TEXTS = {"notes": Parameter(text=True)}
"""Keywords that a logger hands on as the texts that they are, such as those of Weights & Biases."""

_UNKNOWN = Parameter(names_code=True)
"""A parameter that no constructor declares: what it is handed on to may import what it names."""


def require_safe_config(config: Path, *, run: Path, trusted: Collection[str] = ()) -> None:
    """Refuses a stored configuration that could run code of its own or write outside its run.

    Short class names are looked up among the classes imported so far, as the parser does: import the run's system
    before. `trainer.default_root_dir` is not judged: the caller must override it.

    Args:
        config: The stored configuration.
        run: Folder of its run, in which callbacks, loggers and profilers may write.
        trusted: Classes, functions and paths that the user allows, as the configuration writes them.

    Raises:
        RunError: It cannot be read, or holds something else than known classes with plain values; names file, key and
            value.
    """
    check = _Check(config=config, run=run.resolve(), trusted=frozenset(trusted))
    try:
        content = _read(config)
        for key in content:
            if key not in _SECTIONS:
                check.refuse(str(key), "is no section of a stored configuration")
        check.section("trainer", content.get("trainer"))
        check.root("model", content.get("model"), LightningModule)
        check.root("data", content.get("data"), LightningDataModule)
        check.value("seed_everything", content.get("seed_everything"), Parameter(), writes=False)
    except RecursionError as error:
        raise RunError(f"{config} is nested without end. Restore it from a copy of the run.") from error


def _read(config: Path) -> dict[Any, Any]:
    """The content as the parser will see it: same loader, same encoding."""
    try:
        content = get_loader("yaml")(config.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{config} cannot be read: {reason}. Restore it from a copy of the run.") from error
    if not isinstance(content, dict):
        raise RunError(f"{config} holds no configuration. Restore it from a copy of the run.")
    return content


@dataclass(frozen=True, kw_only=True)
class _Check:
    """Walks a configuration and refuses what is not plain.

    Args:
        config: The file.
        run: Folder of the run, resolved.
        trusted: What the user allows.
    """

    config: Path
    run: Path
    trusted: frozenset[str]

    def refuse(self, key: str, what: str, *, trust: str | None = None) -> NoReturn:
        """Ends the check.

        Args:
            key: Where, with dots.
            what: What is wrong there.
            trust: What the user can allow.
        """
        advice = "" if trust is None else f" If the run is your own: --trust {shlex.quote(trust)}"
        raise RunError(f"{self.config}: {key} {what}. A stored configuration must be plain data.{advice}")

    def section(self, key: str, section: Any) -> None:
        """Checks the settings of the trainer."""
        if not isinstance(section, dict):
            self.refuse(key, "is no mapping of settings")
        settings = {
            name: value
            for name, value in section.items()
            if not (name == "default_root_dir" and isinstance(value, str))
        }
        self._arguments(key, settings, parameters_of(Trainer), writes=True)

    def root(self, key: str, value: Any, base: type) -> None:
        """Checks the model or the data, whose paths are read and may lie anywhere."""
        if not isinstance(value, dict) or "class_path" not in value:
            self.refuse(key, "does not name its class as class_path")
        self._specification(key, value, Parameter(classes=(base,), names_code=True), writes=False)

    def value(self, key: str, value: Any, parameter: Parameter, *, writes: bool) -> None:
        """Checks what a parameter is given.

        Args:
            key: Where it stands, with dots.
            value: What is given.
            parameter: What the parser would make of it.
            writes: Whether its paths are written to, and must lie in the run.
        """
        if parameter.is_default(value):
            return
        if isinstance(value, str):
            self._text(key, value, parameter, writes=writes)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.value(f"{key}.{index}", item, replace(parameter, default=None), writes=writes)
        elif isinstance(value, dict) and not _SPECIFICATION.isdisjoint(value):
            self._specification(key, value, parameter, writes=writes)
        elif isinstance(value, dict):
            # Without a class it gives the parameters of the declared one, or is a plain dictionary.
            for declared in parameter.classes or (object,):
                unknown = replace(parameter, default=None)
                self._arguments(key, value, parameters_of(declared), writes=writes, unknown=unknown)
        elif not isinstance(value, bool | int | float | None):
            self.refuse(key, f"is a {type(value).__name__}")

    def _arguments(
        self,
        key: str,
        arguments: dict[Any, Any],
        known: dict[str, Parameter],
        *,
        writes: bool,
        unknown: Parameter = _UNKNOWN,
    ) -> None:
        for name, value in arguments.items():
            # `a.b` would reach into other settings, `a+` appends, and `__path__` says from which file values come.
            if isinstance(name, str) and ("." in name or name.endswith("+") or name.startswith("__")):
                self.refuse(key, f"has the key {name!r}, which is no name of a setting")
            parameter = known.get(name, unknown)
            if str(name).endswith(_NAMES_OF_PATHS):
                parameter = replace(parameter, is_path=True)
            self.value(f"{key}.{name}", value, parameter, writes=writes)

    def _specification(self, key: str, value: dict[str, Any], parameter: Parameter, *, writes: bool) -> None:
        name = value.get("class_path")
        if not isinstance(name, str) or not _SPECIFICATION.issuperset(value):
            self.refuse(key, f"has the keys {', '.join(map(str, value))} instead of class_path and init_args")
        chosen = self._trusted(key, name) if name in self.trusted else self._class(key, name, parameter)
        for part in ("init_args", "dict_kwargs"):
            arguments = value.get(part, {})
            if not isinstance(arguments, dict):
                self.refuse(f"{key}.{part}", f"is {arguments!r} and no mapping of settings")
            texts = _TEXTS if isinstance(chosen, type) and issubclass(chosen, Logger) else {}
            self._arguments(f"{key}.{part}", arguments, texts | parameters_of(chosen), writes=writes)

    def _class(self, key: str, name: str, parameter: Parameter) -> type:
        """The class of this name, which is this package's or one of Lightning's."""
        found = _imported(name) if "." in name else _known(name, parameter.classes)
        if not found or not all(_permitted(known) and issubclass(known, parameter.classes) for known in found):
            self.refuse(
                f"{key}.class_path",
                f"names {name!r}, which is neither of biomass_pl nor a callback, logger, number format, strategy or "
                "profiler of Lightning that fits here",
                trust=name,
            )
        return found[0]

    def _trusted(self, key: str, name: str) -> Any:
        module, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute) if module else None
        except (ImportError, AttributeError) as error:
            self.refuse(f"{key}.class_path", f"names {name!r}, which cannot be imported ({error})")

    def _text(self, key: str, value: str, parameter: Parameter, *, writes: bool) -> None:
        if value in self.trusted:
            return
        if parameter.names_code and (not _WORD.fullmatch(value) or self._is_file(value)):
            self.refuse(key, f"is {value!r}, which may name code or a file to load", trust=value)
        if not all(map(_permitted, _known(value, parameter.classes))):
            self.refuse(key, f"is {value!r}, a class of neither biomass_pl nor Lightning", trust=value)
        if writes and self._leads_outside(value, parameter):
            self.refuse(key, f"is {value!r}, which leads out of the run folder {self.run}", trust=value)
        if not parameter.text:  # the parser takes mappings and lists from text as well
            try:
                content = get_loader("yaml")(value)
            except yaml.YAMLError:
                return
            if isinstance(content, dict | list):
                self.value(key, content, parameter, writes=writes)

    def _is_file(self, value: str) -> bool:
        """Whether the parser would find a further configuration, which it looks for beside this one first."""
        return any((folder / value).is_file() for folder in (self.config.parent, Path()))

    def _leads_outside(self, value: str, parameter: Parameter) -> bool:
        path = PurePath(value)
        # Lightning replaces ~ and $VARIABLES in paths, and takes addresses of storage on the network.
        if ".." in path.parts or value.startswith("~") or "$" in value or _ADDRESS.match(value):
            return True
        if not parameter.is_path and not path.is_absolute():
            return False
        return not value.isprintable() or not Path(value).resolve().is_relative_to(self.run)


def _permitted(found: type) -> bool:
    """Whether a stored configuration may name a class."""
    module = f"{found.__module__}."
    return module.startswith(_PACKAGE) or (module.startswith(_LIGHTNING) and issubclass(found, _OF_LIGHTNING))


def _known(name: str, bases: tuple[type, ...]) -> list[type]:
    """The classes that a short name may mean, as the parser looks for them."""
    return [known for known in _subclasses(bases) if known.__name__ == name]


def _imported(name: str) -> list[type]:
    """The class with an import path inside this package or Lightning's public parts; none anywhere else."""
    if not name.startswith((_PACKAGE, *_LIGHTNING)) or any(part.startswith("_") for part in name.split(".")):
        return []
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return []
    return [found] if isinstance(found, type) else []


def _subclasses(bases: Collection[type]) -> Iterator[type]:
    for base in bases:
        yield base
        yield from _subclasses(type.__subclasses__(base))
