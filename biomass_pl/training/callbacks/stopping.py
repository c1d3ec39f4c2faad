"""Around Lightning's early stopping: what it watches exists, and what it ended stays ended."""

from lightning.pytorch import Callback, LightningModule, Trainer

from biomass_pl.errors import ConfigError


class StayStopped(Callback):
    """Keeps a training that early stopping had ended, and that was cut off just then, from going on when resumed."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Callbacks have their state back by now."""
        if any(stopping.stopped_epoch > 0 for stopping in trainer.early_stopping_callbacks):
            trainer.should_stop = True


class KnownMonitors(Callback):
    """Refuses early stopping on a score that the training does not log, such as that of another task."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation scores are known by now."""
        if not trainer.sanity_checking:
            _check(trainer, of_validation=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All others are known by now; an epoch may be without validation."""
        _check(trainer, of_validation=False)


def _check(trainer: Trainer, *, of_validation: bool) -> None:
    """Refuses what is watched and not logged.

    Raises:
        ConfigError: There is such a score; names those of the validation.
    """
    logged = trainer.callback_metrics
    for stopping in trainer.early_stopping_callbacks:
        is_due = stopping.monitor.startswith("val/") == of_validation
        if is_due and stopping.monitor not in logged:
            scores = ", ".join(sorted(name for name in logged if name.startswith("val/")))
            raise ConfigError(
                f"EarlyStopping watches '{stopping.monitor}', which this training does not log. Set its monitor to one "
                f"of {scores}, or leave it out."
            )
