"""The run folder, copied to another place while it grows."""

import logging
import math
import threading
import time
from pathlib import Path
from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from biomass_pl.errors import ConfigError, RunError, listed
from biomass_pl.runs import RECORD
from biomass_pl.training.callbacks.run_folder import run_folder
from biomass_pl.training.remote_folder import RemoteFolder

logger = logging.getLogger(__name__)

_FIRST_WAIT = 1.0
"""Seconds after which files that could not be copied are tried again; each further wait is twice as long."""

_LAST_TRIES = 5
"""How often the copy at the end is tried."""


class RemoteSync(Callback):
    """Copies new and changed files of the run folder to another place, in the background and at the end.

    The end may also be an error, Ctrl-C or SIGTERM. Files that cannot be copied are told and tried again after growing
    waits, by a resumed training as well. Runs lie at the other place as they do among the logs: `<name>/version_N`.

    Args:
        remote: Where runs go: a URL that fsspec knows, such as `s3://bucket/path`, or a path.
        frequency: Seconds from one copy in the background to the next.
        protocol: `s3` expects an `s3://` URL, and `fsspec` any; both go through fsspec, `s3` by the package s3fs.

    Raises:
        ConfigError: The frequency is not above 0, or the URL is of another protocol.
    """

    def __init__(self, *, remote: str, frequency: float = 300, protocol: Literal["s3", "fsspec"] = "s3") -> None:
        if not (math.isfinite(frequency) and frequency > 0):
            raise ConfigError(f"RemoteSync.frequency is {frequency}; give more than 0 seconds.")
        if protocol not in ("s3", "fsspec"):
            raise ConfigError(f"RemoteSync.protocol is '{protocol}'; give s3 or fsspec.")
        if protocol == "s3" and not remote.startswith("s3://"):
            raise ConfigError(
                f"RemoteSync.remote {remote} is no s3:// URL. Give one, or set RemoteSync.protocol: fsspec."
            )
        self.remote = remote
        self.frequency = frequency
        self._copy: RemoteFolder | None = None
        self._thread: threading.Thread | None = None
        self._ends = threading.Event()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds out whether the other place can be reached, and starts copying.

        Raises:
            ConfigError: It cannot.
        """
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._copy = self._copy_of(run_folder(trainer))
        self._ends.clear()
        self._thread = threading.Thread(target=self._copy_often, args=(self._copy,), name="RemoteSync", daemon=True)
        self._thread.start()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copies what is left.

        Raises:
            RunError: Files could not be copied; names them.
        """
        error = self._finish(trainer)
        if error is not None:
            raise error

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Copies what is left; what ended the training remains the error."""
        error = self._finish(trainer)
        if error is not None:
            logger.error("%s", error)

    def copy_run(self, folder: Path) -> None:
        """Copies what was written after the training, such as the tables of all folds.

        Args:
            folder: The run folder.

        Raises:
            ConfigError: The other place cannot be reached.
            RunError: Files could not be copied; names them.
        """
        error = _copy_at_last(self._copy_of(folder))
        if error is not None:
            raise error

    def _copy_of(self, folder: Path) -> RemoteFolder:
        path = folder.resolve()
        place = f"{path.parent.name}/{path.name}" if (path / RECORD).is_file() else path.name
        slash = "" if self.remote.endswith("/") else "/"
        return RemoteFolder(folder=folder, url=f"{self.remote}{slash}{place}")

    def _finish(self, trainer: Trainer) -> RunError | None:
        """Ends the copying in the background and copies what is left; once, unless it was interrupted."""
        if self._copy is None or self._thread is None:
            return None
        self._ends.set()
        self._thread.join()
        for log in trainer.loggers:
            log.save()  # what is still in memory
        error = _copy_at_last(self._copy)
        self._copy = self._thread = None
        return error

    def _copy_often(self, copy: RemoteFolder) -> None:
        wait, failed = 0.0, 0
        while not self._ends.wait(wait):
            failures = copy.copy_changes()
            failed = failed + 1 if failures else 0
            wait = min(self.frequency, _FIRST_WAIT * 2 ** (failed - 1)) if failures else self.frequency
            if failures and not self._ends.is_set():
                _warn(copy, failures, wait)


def _copy_at_last(copy: RemoteFolder) -> RunError | None:
    """Copies what is left, several times if need be; gives the error that remains."""
    for number in range(1, _LAST_TRIES + 1):
        failures = copy.copy_changes()
        if not failures:
            return None
        if number < _LAST_TRIES:
            wait = _FIRST_WAIT * 2 ** (number - 1)
            _warn(copy, failures, wait)
            time.sleep(wait)
    names = [f"{name} ({reason})" for name, reason in failures.items()]
    return RunError(
        f"{len(names)} files of {copy.folder} could not be copied to {copy.url}:\n{listed(names)}\n"
        "They are whole where they are. When the place can be written again: biomass fit --resume"
    )


def _warn(copy: RemoteFolder, failures: dict[str, str], wait: float) -> None:
    name, reason = next(iter(failures.items()))
    logger.warning(
        "%d files could not be copied to %s, such as %s (%s); next try in %g s",
        len(failures),
        copy.url,
        name,
        reason,
        wait,
    )
