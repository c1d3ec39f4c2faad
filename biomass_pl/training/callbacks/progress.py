"""The progress bar of a fold."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class FoldProgressBar(TQDMProgressBar):
    """A bar that names the fold and counts epochs from 1.

    Args:
        title: Names the fold.
    """

    def __init__(self, *, title: str) -> None:
        super().__init__(refresh_rate=1)
        self.title = title

    def init_predict_tqdm(self) -> Tqdm:
        """The bar of a prediction."""
        bar = super().init_predict_tqdm()
        bar.leave = False  # a fold is predicted more than once
        return bar

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Starts the bar of an epoch."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(
            f"{self.title}, epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        )

    def on_predict_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Keeps the title, which Lightning would replace by the number of a loader."""
        super().on_predict_batch_start(trainer, *args, **kwargs)
        self.predict_progress_bar.set_description(f"{self.title}, predicting")

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """None: every epoch leaves a line with its losses and scores."""
        return {}
