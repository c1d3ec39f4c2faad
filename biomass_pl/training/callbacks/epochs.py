"""One row per epoch in `metrics.csv`, one line per epoch where there is no progress bar."""

import math
import time
from pathlib import Path

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer

from biomass_pl.files import write_table


class EpochTable(Callback):
    """Writes what every epoch logged, and keeps the rows of the epochs before a resume.

    Lightning's CSV logger writes several half-empty rows per epoch and starts its file anew on resuming.

    Args:
        path: The CSV file.
        score: The logged score that the line shows.
        title: Printed before each epoch's line; nothing is printed when it is empty.
    """

    def __init__(self, *, path: Path, score: str, title: str = "") -> None:
        self.path = path
        self.score = score
        self.title = title
        self._rows: list[dict[str, float]] = []
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the rows of the epochs before a resume."""
        if self.path.is_file():
            known = pd.read_csv(self.path)
            earlier = known[known["epoch"] < trainer.current_epoch]
            self._rows = [dict(zip(known.columns, row, strict=True)) for row in earlier.itertuples(index=False)]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the row of the epoch."""
        if not trainer.is_global_zero:
            return
        seconds = round(time.perf_counter() - self._started, 2)
        scores = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self._rows.append({"epoch": trainer.current_epoch, "seconds": seconds, **scores})
        write_table(pd.DataFrame(self._rows), self.path)
        if self.title:
            print(self._line(trainer, scores, seconds), flush=True)  # noqa: T201

    def _line(self, trainer: Trainer, scores: dict[str, float], seconds: float) -> str:
        shown = {name: scores[name] for name in ("train/loss", "val/loss", self.score) if name in scores}
        values = "  ".join(
            f"{name} {'-' if math.isnan(value) else format(value, '.4g')}" for name, value in shown.items()
        )
        return f"{self.title}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}  {seconds:.1f} s"
