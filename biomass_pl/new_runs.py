"""New run folders: what a run begins with, made or joined. No torch."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from biomass_pl.errors import ConfigError, RunError
from biomass_pl.files import write_json, write_json_once, write_text
from biomass_pl.runs import ASPECT_RATIOS, RECORD, Run

_DIFFERS_BETWEEN_JOBS = frozenset(
    {
        "trainer.accelerator",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.strategy",
        "trainer.default_root_dir",
        "trainer.enable_progress_bar",
        "data.init_args.num_workers",
        "data.init_args.prefetch_factor",
    }
)
"""Settings of the machine a job runs on."""


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """What a run begins with.

    Args:
        name: Name of the run.
        folds: Folds to train.
        command: The command line, for the record.
        fingerprint: Hashes of the label table and the folds.
        settings: Digest of the configuration, by `settings_digest`.
        oof: Whether out-of-fold predictions were asked for.
        aspect_ratios: The least and the greatest width by height of the photos; none where shapes say nothing.
        files: Texts to write, by path within the run folder; the same for all jobs that share the run.
        configurations: What each fold that this job trains is trained with, by its number.
        learner: What is fitted in place of networks, such as `gp` or `blend`; None where networks are trained.
    """

    name: str
    folds: list[int]
    command: list[str]
    fingerprint: dict[str, str]
    settings: str
    oof: bool
    aspect_ratios: tuple[float, float] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    configurations: Mapping[int, str] = field(default_factory=dict)
    learner: str | None = None

    def record(self) -> dict[str, Any]:
        """The content of `run.json`."""
        shapes = {} if self.aspect_ratios is None else {ASPECT_RATIOS: list(self.aspect_ratios)}
        return {
            "name": self.name,
            "created": datetime.now(UTC).isoformat(),
            "command": self.command,
            "versions": {package: version(package) for package in ("biomass-pl", "torch", "lightning", "timm")},
            "git_commit": _git_commit(),
            "data": self.fingerprint,
            "settings": self.settings,
            "folds": self.folds,
            "oof": self.oof,
            **shapes,
            "status": "running",
            **({} if self.learner is None else {"learner": self.learner}),
        }


def settings_digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration without what may differ between the jobs of one run, such as devices and workers.

    Args:
        configuration: Nested sections; the order of their keys does not matter. Values other than numbers, texts
            and lists count as what `str` makes of them.

    Returns:
        Hexadecimal digits.
    """
    text = json.dumps(_comparable(configuration, prefix=""), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _comparable(value: Any, *, prefix: str) -> Any:
    """A value as JSON can hold it, less what differs between jobs; `prefix` begins the dotted keys within it."""
    if isinstance(value, Mapping):
        return {
            str(key): _comparable(content, prefix=f"{prefix}{key}.")
            for key, content in value.items()
            if f"{prefix}{key}" not in _DIFFERS_BETWEEN_JOBS
        }
    if isinstance(value, list | tuple):
        return [_comparable(item, prefix=prefix) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def check_run_name(name: str) -> None:
    """Refuses a name that would leave the folder of all runs, or hide in it.

    Raises:
        ConfigError: It is one.
    """
    if not name or name.startswith(".") or any(character in name for character in "/\\\0"):
        raise ConfigError(
            f"{name!r} cannot name a run; give a name without slashes and without a dot in front, such as "
            "--name two_stage."
        )


def create_run(logs: Path, start: RunStart) -> Run:
    """Makes the next `version_N` of a name.

    Args:
        logs: The folder of all runs.
        start: What the run begins with.

    Raises:
        ConfigError: The name cannot be a folder's.
    """
    check_run_name(start.name)
    parent = logs / start.name
    parent.mkdir(parents=True, exist_ok=True)
    number = max((_number(folder) for folder in parent.glob("version_*")), default=-1) + 1
    while True:
        path = parent / f"version_{number}"
        try:
            path.mkdir()
            break
        except FileExistsError:  # another process took it just now
            number += 1
    run = Run(path)
    for name, text in start.files.items():
        write_text(text, path / name)
    for fold, text in start.configurations.items():
        write_text(text, run.config(fold))
    # The record comes last: a folder without one is no run.
    write_json(start.record(), path / RECORD)
    return run


def join_run(path: Path, start: RunStart) -> Run:
    """The run in a given folder, made when missing; several jobs may join one, each for folds of its own.

    Args:
        path: The run folder.
        start: What the run begins with; jobs may differ in the settings of their machines, such as devices.

    Raises:
        RunError: The folder holds something else, or a run with other data, folds or settings.
    """
    # Jobs that start together write the record first, under a name with a dot until it is whole.
    if any(not file.name.startswith(".") for file in path.glob("*")) and not (path / RECORD).is_file():
        raise RunError(f"{path} holds something that is no run. Name a new folder.")
    write_json_once(start.record(), path / RECORD)
    run = Run(path)
    record = run.record()
    if record.get("data") != start.fingerprint:
        raise RunError(f"{path} was made from other labels or folds. Name a new folder.")
    if "settings" not in record:
        raise RunError(f"{path} was started by an older version, which recorded no settings. Name a new folder.")
    if record["settings"] != start.settings:
        raise RunError(f"{path} was started with other settings. Name a new folder, or use the run's own.")
    for name, text in start.files.items():
        target = path / name
        if target.is_file() and target.read_text(encoding="utf-8") != text:
            raise RunError(f"{target} says something else: the run in {path} is another one. Name a new folder.")
        write_text(text, target)
    for fold, text in start.configurations.items():
        # What a finished fold was trained with stays; another goes on with this job's devices.
        if not (run.is_finished(fold) or run.is_being_trained(fold)):
            write_text(text, run.config(fold))
    return run


def _number(folder: Path) -> int:
    digits = folder.name.removeprefix("version_")
    return int(digits) if digits.isdigit() else -1


def _git_commit() -> str | None:
    """Commit of the working folder, if it is under git."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
