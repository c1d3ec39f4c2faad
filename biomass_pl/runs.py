"""Run folders: create, find, read, and what is complete in them. No torch.

lightning_logs/<name>/version_N/
  run.json  folds.csv  log.txt
  fold_K/{config.yaml metrics.csv checkpoints/{best,last}.ckpt oof.csv oof_last.csv fold.json .training.lock}
  oof_predictions.csv  oof_metrics.json
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from biomass_pl.errors import RunError
from biomass_pl.files import write_json

LOGS = "lightning_logs"
FOLDS_CSV = "folds.csv"
RECORD = "run.json"
ASPECT_RATIOS = "aspect_ratios"
_FOLD_RECORD = "fold.json"
_NEEDED = {"created", "folds", "status"}
_LOCK_SECONDS = 0.2
"""How long to try for a lock: a process that only looks whether a fold is being trained holds it for less."""


@dataclass(frozen=True)
class Run:
    """A run folder.

    Args:
        path: The folder, `lightning_logs/<name>/version_N`.
    """

    path: Path

    @property
    def folds_csv(self) -> Path:
        """The fold of every photo, as used."""
        return self.path / FOLDS_CSV

    @property
    def log(self) -> Path:
        """What was printed while the run was trained."""
        return self.path / "log.txt"

    @property
    def oof_predictions(self) -> Path:
        """The pooled out-of-fold table."""
        return self.path / "oof_predictions.csv"

    @property
    def test_predictions(self) -> Path:
        """Predictions of the test photos, the mean of the folds."""
        return self.path / "test_predictions.csv"

    def fold_dir(self, fold: int) -> Path:
        """Folder of one fold."""
        return self.path / f"fold_{fold}"

    def config(self, fold: int) -> Path:
        """What a fold was trained with; a configuration that loads again."""
        return self.fold_dir(fold) / "config.yaml"

    def metrics_csv(self, fold: int) -> Path:
        """What a fold logged, a row per epoch."""
        return self.fold_dir(fold) / "metrics.csv"

    def checkpoints(self, fold: int) -> Path:
        """Folder of a fold's checkpoints."""
        return self.fold_dir(fold) / "checkpoints"

    def best_checkpoint(self, fold: int) -> Path:
        """Checkpoint of a fold's best epoch."""
        return self.checkpoints(fold) / "best.ckpt"

    def last_checkpoint(self, fold: int) -> Path:
        """Checkpoint of a fold's newest epoch."""
        return self.checkpoints(fold) / "last.ckpt"

    def oof_csv(self, fold: int) -> Path:
        """Predictions of a fold's held-out items, by the best epoch's weights."""
        return self.fold_dir(fold) / "oof.csv"

    def oof_last_csv(self, fold: int) -> Path:
        """Predictions of a fold's held-out items, by the last epoch's weights."""
        return self.fold_dir(fold) / "oof_last.csv"

    def _lock_file(self, fold: int) -> Path:
        return self.fold_dir(fold) / ".training.lock"

    def record(self) -> dict[str, Any]:
        """What `run.json` says.

        Raises:
            RunError: The folder is no run, or its record cannot be read.
        """
        try:
            record = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._no_run() from error
        if not isinstance(record, dict) or not record.keys() >= _NEEDED:
            raise self._no_run()
        if not isinstance(record["folds"], list) or not all(isinstance(fold, int) for fold in record["folds"]):
            raise self._no_run()
        return record

    @property
    def learner(self) -> str | None:
        """What was fitted in place of networks, such as `gp` or `blend`; None where networks were trained."""
        learner = self.record().get("learner")
        return None if learner is None else str(learner)

    def _no_run(self) -> RunError:
        return RunError(
            f"{self.path} is not a run folder: it has no readable {RECORD}. Name one such as {LOGS}/NAME/version_0."
        )

    def aspect_ratios(self) -> tuple[float, float] | None:
        """The least and the greatest width by height of the photos that the run was made from; none where not kept.

        Raises:
            RunError: The record cannot be read.
        """
        found = self.record().get(ASPECT_RATIOS)
        if found is None:
            return None
        if not isinstance(found, list) or [type(ratio) for ratio in found] != [float, float]:
            raise self._no_run()
        return found[0], found[1]

    def update_record(self, **changes: Any) -> None:
        """Changes entries of `run.json`."""
        write_json(self.record() | changes, self.path / RECORD)

    def asked_folds(self) -> list[int]:
        """Folds the run is to train."""
        return list(self.record()["folds"])

    def begun_folds(self) -> list[int]:
        """Asked folds that have a configuration; in a shared run, others may not have begun yet."""
        return [fold for fold in self.asked_folds() if self.config(fold).is_file()]

    def config_of_any_fold(self) -> Path:
        """The configuration of the first fold that began.

        Raises:
            RunError: None began.
        """
        begun = self.begun_folds()
        if not begun:
            raise RunError(
                f"No fold of {self.path} has a config.yaml. Begin one: biomass fit --config RECIPE --run {self.path}"
            )
        return self.config(begun[0])

    def finished_folds(self) -> list[int]:
        """Folds whose training is complete."""
        return [fold for fold in self.asked_folds() if self.is_finished(fold)]

    def is_finished(self, fold: int) -> bool:
        """Whether a fold's training is complete."""
        return (self.fold_dir(fold) / _FOLD_RECORD).is_file()

    def is_complete(self) -> bool:
        """Whether everything asked of the run was done."""
        return bool(self.record()["status"] == "complete")

    def finish_fold(self, fold: int, record: dict[str, Any]) -> None:
        """Marks a fold's training as complete."""
        write_json(record, self.fold_dir(fold) / _FOLD_RECORD)

    @contextmanager
    def training(self, fold: int) -> Iterator[None]:
        """Keeps a fold to this process while the block runs; the lock vanishes with the process, however it ends.

        Raises:
            RunError: Another process trains the fold.
        """
        self.fold_dir(fold).mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_file(fold), timeout=_LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunError(
                f"Fold {fold} of {self.path} is being trained by another process. Wait for it to end, or stop it."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def is_being_trained(self, fold: int) -> bool:
        """Whether a process, this one or another, trains a fold right now."""
        if not self._lock_file(fold).is_file():
            return False
        try:
            with FileLock(self._lock_file(fold), timeout=_LOCK_SECONDS):
                return False
        except Timeout:
            return True

    def is_in_use(self) -> bool:
        """Whether any fold is being trained right now."""
        return any(self.is_being_trained(fold) for fold in self.asked_folds())


def find_run(logs: Path, path: Path | None = None, *, unfinished: bool = False, trained: bool = False) -> Run:
    """The named run, or the newest.

    Args:
        logs: The folder of all runs.
        path: A run folder.
        unfinished: Only a run in which something is left to do; unless it is named, one that no process trains now.
        trained: Only a run of networks, unless it is named.

    Raises:
        RunError: There is none.
    """
    if path is not None:
        return _named_run(path, unfinished=unfinished)
    runs = [Run(record.parent) for record in logs.glob(f"*/version_*/{RECORD}")]
    if trained or unfinished:
        runs = [run for run in runs if run.learner is None]
    if unfinished:
        runs = [run for run in runs if not run.is_complete()]
    if not runs:
        kind, option = ("unfinished run", "--resume") if unfinished else ("run", "--run")
        raise RunError(
            f"There is no {kind} in {logs}; train one with biomass fit --config quickstart, "
            f"or name one elsewhere with {option} DIR."
        )
    runs.sort(key=lambda run: str(run.record()["created"]), reverse=True)
    if not unfinished:
        return runs[0]
    for run in runs:
        if not run.is_in_use():
            return run
    raise RunError(
        f"The unfinished run {runs[0].path} is being trained right now; wait for it or name another: "
        "biomass fit --resume DIR"
    )


def _named_run(path: Path, *, unfinished: bool) -> Run:
    if not path.is_dir():
        raise RunError(f"Run folder {path} does not exist. Name one such as {LOGS}/NAME/version_0.")
    run = Run(path)
    if unfinished and run.is_complete():
        raise RunError(f"Run {path} is complete; there is nothing to resume.")
    run.record()
    return run
