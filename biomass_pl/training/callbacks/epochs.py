"""One row per epoch in `metrics.csv`, one line per epoch for the user."""

import math
import time
from pathlib import Path

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from biomass_pl.files import write_table
from biomass_pl.terminal import say
from biomass_pl.training.task import Objective


class EpochTable(Callback):
    """Writes what every epoch logged, and keeps the rows of the epochs before a resume.

    Lightning's CSV logger writes several half-empty rows per epoch and starts its file anew on resuming.

    Args:
        path: The CSV file.
        objective: What the line shows, with the best so far.
        title: Printed before each epoch's line.
    """

    def __init__(self, *, path: Path, objective: Objective, title: str) -> None:
        self.path = path
        self.objective = objective
        self.title = title
        self._rows: list[dict[str, float]] = []
        self._started = 0.0
        self._validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the rows of the epochs before a resume."""
        if self.path.is_file():
            known = pd.read_csv(self.path)
            earlier = known[known["epoch"] < trainer.current_epoch]
            self._rows = [dict(zip(known.columns, row, strict=True)) for row in earlier.itertuples(index=False)]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._started = time.perf_counter()
        self._validated = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that the scores that Lightning keeps are of this epoch."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the row of the epoch."""
        if not trainer.is_global_zero:
            return
        seconds = round(time.perf_counter() - self._started, 2)
        scores = {
            name: float(value)
            for name, value in sorted(trainer.callback_metrics.items())
            if self._validated or not name.startswith("val/")
        }
        self._rows.append({"epoch": trainer.current_epoch, "seconds": seconds, **scores})
        write_table(pd.DataFrame(self._rows), self.path)
        bar = trainer.progress_bar_callback
        say(self._line(trainer, scores, seconds), through=_printed if bar is None else bar.print)

    def _line(self, trainer: Trainer, scores: dict[str, float], seconds: float) -> str:
        names = ("train/loss", "val/loss", self.objective.name)
        values = [f"{name} {_number(scores[name])}" for name in dict.fromkeys(names) if name in scores]
        best = self._best(trainer, scores)
        values += [] if best is None else [f"best {_number(best)}"]
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        return "  ".join([self.title, epoch, *values, f"{seconds:.1f} s"])

    def _best(self, trainer: Trainer, scores: dict[str, float]) -> float | None:
        """The best so far of the stage: that of the checkpoint, which this epoch may be about to beat."""
        found = [scores[self.objective.name]] if self.objective.name in scores else []
        for checkpoint in trainer.checkpoint_callbacks:
            if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor == self.objective.name:
                found += [] if checkpoint.best_model_score is None else [float(checkpoint.best_model_score)]
        known = [value for value in found if not math.isnan(value)]
        return (max if self.objective.mode == "max" else min)(known, default=None)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _printed(line: str) -> None:
    print(line, flush=True)  # noqa: T201
