"""Settings of Lightning's trainer that a cross-validation cannot serve, refused before any training."""

from typing import Any

from biomass_pl.errors import ConfigError

_EPOCHS = "Rates and schedules count epochs: set trainer.max_epochs, and trainer.limit_train_batches for short ones."


def check_trainer(trainer: Any) -> None:
    """Refuses what would end in no score, or in another training than asked for.

    Args:
        trainer: The trainer section of a parsed configuration.

    Raises:
        ConfigError: Names the setting and what to set instead.
    """
    if trainer.max_steps not in (None, -1):
        raise ConfigError(f"trainer.max_steps {trainer.max_steps} may end within an epoch. {_EPOCHS}")
    epochs = trainer.max_epochs
    if epochs is None or epochs < 1:
        raise ConfigError(f"trainer.max_epochs is {epochs}; a training of every fold needs 1 or more.")
    if trainer.limit_train_batches == 0:
        raise ConfigError("trainer.limit_train_batches 0 trains nothing. Give 1 or more, or leave it out.")
    if trainer.limit_val_batches == 0:
        raise ConfigError(
            "trainer.limit_val_batches 0 leaves no score by which the best epoch could be told. "
            "Give 1 or more, or leave it out."
        )
    if trainer.overfit_batches:
        raise ConfigError(
            f"trainer.overfit_batches {trainer.overfit_batches} would validate on training photos. "
            "To see whether a few batches are learned: --trainer.limit_train_batches 2 --trainer.max_epochs 50."
        )
    if trainer.enable_checkpointing is False:
        raise ConfigError("trainer.enable_checkpointing false would leave nothing to predict with. Leave it out.")
    every = trainer.check_val_every_n_epoch
    if every is None or every > epochs:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch {every} never validates within trainer.max_epochs {epochs}. Lower it."
        )
