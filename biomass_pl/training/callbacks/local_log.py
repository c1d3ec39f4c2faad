"""A text log of every machine that trains."""

from contextlib import ExitStack

from lightning.pytorch import Callback, LightningModule, Trainer

from biomass_pl.terminal import logging_to
from biomass_pl.training.callbacks.run_folder import run_folder


class LocalLog(Callback):
    """Keeps what the first process of each machine says while it trains, as `log_N.txt`, N being its rank.

    The run's own `log.txt` is that of the first process of all.
    """

    def __init__(self) -> None:
        self._open = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the log, or goes on with that of an earlier training."""
        if trainer.local_rank == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._open.enter_context(logging_to(run_folder(trainer) / f"log_{trainer.global_rank}.txt"))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the log."""
        self._open.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the log by what ended the training."""
        self._open.__exit__(type(exception), exception, exception.__traceback__)
