"""An unfinished run is found again, and goes on only if it is safe and its data are what they were."""

from collections.abc import Sequence
from pathlib import Path

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.splits import read_folds
from biomass_pl.errors import RunError
from biomass_pl.files import write_text
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.predictor import fingerprint, require_data
from biomass_pl.harness.processes import made_once
from biomass_pl.harness.recipes import logs_folder, named_systems
from biomass_pl.harness.stored_config import require_safe_config
from biomass_pl.runs import LOGS, Run, find_run


def unfinished_run(folder: Path | None, arguments: Sequence[str], *, trusted: Sequence[str]) -> tuple[Run, RunCLI]:
    """Finds a run that can go on.

    Args:
        folder: Its folder; none takes the newest one that is unfinished.
        arguments: Settings of Lightning's form that may differ from the run's own, such as where its data lie.
        trusted: Classes and paths that its stored configurations may name beside ours and Lightning's.

    Returns:
        The run, and the objects of its configuration.

    Raises:
        RunError: There is none, it is not safe, or its labels, folds or photos changed.
    """
    run = find_run(logs_folder(arguments), folder, unfinished=True)
    shared = run.config_of_any_fold()
    for fold in run.asked_folds():
        if fold not in run.begun_folds():  # a job of a shared run that never started: all have the same settings
            write_text(shared.read_text(encoding="utf-8"), run.config(fold))
        for system in named_systems(["--config", str(run.config(fold))]):
            system.imported()
        require_safe_config(run.config(fold), run=run.path, trusted=trusted)
    cli = RunCLI(["--config", str(shared), *arguments])
    # All processes have found the run before the first of them takes a lock, which would hide it from the others.
    run = made_once(cli.trainer, lambda: run)
    _require_same_data(run, cli.datamodule, arguments)
    _require_bank_among_logs(run, cli.datamodule, trusted)
    known = shared.read_text(encoding="utf-8")
    for config in map(run.config, run.asked_folds()):
        if config.read_text(encoding="utf-8") != known:  # as that of another job, or as somebody changed it
            _require_bank_among_logs(run, RunCLI(["--config", str(config), *arguments]).datamodule, trusted)
    return run, cli


def _require_same_data(run: Run, data: FoldDataModule, arguments: Sequence[str]) -> None:
    """Refuses labels, folds or, where the data were moved, photos that are not those the run began with."""
    require_data(run, data)
    folds = read_folds(run.folds_csv, data.names())
    compared = ["labels", "folds"]
    if any(argument.startswith("--data.root") for argument in arguments):
        data.check()  # names what is broken, before other photos are only told to be others
        compared.append("contents")
    now, then = fingerprint(data, folds), run.record()["data"]
    if any(now.get(name) != then[name] for name in compared if name in then):
        raise RunError(
            f"The label table, the folds or the photos changed since {run.path} began. "
            "Restore them, or start a new run."
        )


def _require_bank_among_logs(run: Run, data: FoldDataModule, trusted: Sequence[str]) -> None:
    """Refuses a stored configuration that would have features written to any place."""
    if data.bank is None:
        return
    folder = data.bank.bank.folder
    known = (Path(LOGS).resolve(), run.path.resolve().parents[1])
    if str(folder) not in trusted and not any(folder.resolve().is_relative_to(logs) for logs in known):
        raise RunError(
            f"The configuration of {run.path} keeps features in {folder}, outside the logs. If the run is your own: "
            f"--trust {folder}"
        )
