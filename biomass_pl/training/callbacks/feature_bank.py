"""Fills the feature bank before frozen epochs read from it."""

import logging
import math
import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import track

from biomass_pl.data.bank import BankedFeatures, Shelf, photo_key

logger = logging.getLogger(__name__)


def check_bank(task: LightningModule, data: Any) -> None:
    """Refuses a bank that could not hold the features of the data module's fold, before any training.

    Raises:
        ConfigError: Its limit is too low.
    """
    backbone: Any = task.backbone
    shelf = data.banked.bank.shelf({}, (*data.view_shape(), backbone.num_features))
    data.banked.bank.check_limit(shelf, sum(map(len, data.wanted_views(training=True).values())))


class FeatureBankFill(Callback):
    """Has a frozen backbone compute each feature once, for all epochs, folds and later runs.

    Does nothing where the data module has no bank.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tells the data for how many epochs the backbone is frozen, before loaders are made."""
        banked = _banked(trainer)
        if banked is not None:
            frozen: Any = pl_module.frozen_epochs if stage == "fit" else "all"
            banked.epochs = math.inf if frozen == "all" else frozen

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Computes what is missing, unless a resumed run is past the frozen epochs."""
        banked = _banked(trainer)
        if banked is None or trainer.current_epoch >= banked.epochs:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        wanted = _by_key(banked, data.wanted_views(training=True))
        shelf = _shelf(trainer, pl_module, banked)
        # Another run may fill the shelf meanwhile: all processes go by what the first one found.
        missing: dict[str, list[int]] = trainer.strategy.broadcast(shelf.missing(wanted))
        if missing:
            count = sum(len(views) for views in missing.values())
            if trainer.is_global_zero:
                banked.bank.make_room(shelf, count)
                logger.info("Feature bank: computing %d views of %d photos", count, len(missing))
            trainer.strategy.barrier()
            # Processes that train together share the photos out.
            share = sorted(missing)[trainer.global_rank :: trainer.world_size]
            _fill(trainer, pl_module, shelf, {key: missing[key] for key in share})
            trainer.strategy.barrier()
        banked.use(shelf)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads features where the bank has them all, as after a training that never thawed the backbone."""
        banked = _banked(trainer)
        if banked is None:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        banked.use(None)
        shelf = _shelf(trainer, pl_module, banked)
        if shelf.folder.is_dir() and not shelf.missing(_by_key(banked, data.wanted_views(training=False))):
            banked.use(shelf)


def _banked(trainer: Trainer) -> BankedFeatures | None:
    banked: BankedFeatures | None = trainer.datamodule.banked  # type: ignore[attr-defined]
    return banked


def _by_key(banked: BankedFeatures, wanted: dict[Any, list[int]]) -> dict[str, list[int]]:
    """The wanted views by the photo's name in the bank; two photos of equal bytes share one."""
    banked.keys = {path: photo_key(path) for path in wanted}
    merged: dict[str, set[int]] = {}
    for path, views in wanted.items():
        merged.setdefault(banked.keys[path], set()).update(views)
    return {key: sorted(views) for key, views in merged.items()}


def _shelf(trainer: Trainer, pl_module: LightningModule, banked: BankedFeatures) -> Shelf:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    backbone: Any = pl_module.backbone
    about = {
        "backbone": backbone.name,
        "weights": backbone.fingerprint(),
        "precision": trainer.precision,
        **data.view_description(),
    }
    return banked.bank.shelf(about, (*data.view_shape(), backbone.num_features))


def _fill(trainer: Trainer, pl_module: LightningModule, shelf: Shelf, missing: dict[str, list[int]]) -> None:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    backbone: Any = pl_module.backbone
    was_training = backbone.training
    backbone.eval()
    loader = track(
        data.view_loader(missing), "Feature bank", total=len(missing), disable=not sys.stdout.isatty(), transient=True
    )
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for key, views, tiles in loader:
            # All views of a photo at once would need more memory than a training batch.
            parts = tiles.split(data.batch_size)
            features = torch.cat([backbone(part.to(pl_module.device)).float().cpu() for part in parts])
            for view, feature in zip(views, features.numpy(), strict=True):
                shelf.write(key, view, feature)
    backbone.train(was_training)
