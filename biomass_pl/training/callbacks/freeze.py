"""Two-stage training: the backbone stands still first, then everything learns."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from biomass_pl.errors import ConfigError
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.optim import FrozenEpochs


class BackboneFreeze(Callback):
    """Freezes the backbone for the first epochs, or for all.

    A frozen backbone has no gradients and runs in eval mode. When it thaws, patience and the best
    checkpoint start anew: a head that peaks early in stage 1 neither ends the run nor stays its best.

    Args:
        epochs: Number of frozen epochs, or `all`.
    """

    def __init__(self, *, epochs: FrozenEpochs) -> None:
        if epochs != "all" and epochs < 1:
            raise ConfigError(f"BackboneFreeze.epochs is {epochs}; give 1 or more, 'all', or leave the callback out.")
        self.epochs: FrozenEpochs = epochs

    def check(self, trainer: Trainer, task: LightningModule) -> None:
        """Refuses a training that ends before the backbone ever learns, or in which its processes would drift apart.

        Raises:
            ConfigError: There is no backbone, no epoch after the frozen ones, or the strategy expects all gradients.
        """
        if _image_task(task).given_width is not None and self.epochs != "all":
            raise ConfigError(
                f"data.features are those of a network that stays as it is; BackboneFreeze.epochs {self.epochs} would "
                "have it learn later. Set BackboneFreeze.epochs to 'all', or take a recipe that does: head_only."
            )
        # DDP fixes at its start which gradients it waits for; only this setting makes it look in every step.
        waits = isinstance(trainer.strategy, DDPStrategy) and not trainer.strategy._ddp_kwargs.get(
            "find_unused_parameters", False
        )
        if self.epochs != "all" and waits:
            raise ConfigError(
                "A backbone that thaws later needs --trainer.strategy ddp_find_unused_parameters_true; "
                "plain ddp would wait for its gradients. Or set BackboneFreeze.epochs to 'all'."
            )
        is_trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        if is_trial or trainer.max_epochs is None:
            return
        if self.epochs != "all" and 0 <= trainer.max_epochs <= self.epochs:
            raise ConfigError(
                f"BackboneFreeze.epochs {self.epochs} leaves no epoch of trainer.max_epochs {trainer.max_epochs} "
                "for the backbone. Raise trainer.max_epochs, or set BackboneFreeze.epochs to 'all'."
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tells the task how long stage 1 lasts, for its rates."""
        if stage == "fit":
            self.check(trainer, pl_module)
            _image_task(pl_module).frozen_epochs = self.epochs

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the stage of the epoch; a resumed run comes through here as well."""
        frozen = self._is_frozen(trainer.current_epoch)
        backbone = _image_task(pl_module).backbone
        backbone.requires_grad_(not frozen)
        backbone.train(not frozen)
        if trainer.current_epoch == self.epochs:
            _forget_scores(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps stage 1 from ending the run."""
        if self.epochs != "all" and self._is_frozen(trainer.current_epoch):
            trainer.should_stop = False
            for stopping in trainer.early_stopping_callbacks:
                _forget_patience(stopping)

    def _is_frozen(self, epoch: int) -> bool:
        return self.epochs == "all" or epoch < self.epochs


def _image_task(task: LightningModule) -> ImageTask:
    if not isinstance(task, ImageTask):
        raise ConfigError(
            f"{type(task).__name__} has no backbone to freeze. Leave BackboneFreeze out of the callbacks."
        )
    return task


def _forget_scores(trainer: Trainer) -> None:
    for stopping in trainer.early_stopping_callbacks:
        _forget_patience(stopping)
    for checkpoint in trainer.checkpoint_callbacks:
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor is not None:
            _forget_best(checkpoint)


def _forget_patience(stopping: EarlyStopping) -> None:
    stopping.wait_count = 0
    stopping.stopped_epoch = 0
    stopping.best_score = torch.tensor(float("-inf") if stopping.mode == "max" else float("inf"))


def _forget_best(checkpoint: ModelCheckpoint) -> None:
    checkpoint.best_model_score = None
    checkpoint.best_model_path = ""
    checkpoint.best_k_models = {}
    checkpoint.kth_best_model_path = ""
    checkpoint.kth_value = torch.tensor(float("-inf") if checkpoint.mode == "max" else float("inf"))
