"""Fills the feature bank before frozen epochs read from it, and tells what a prediction can read."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from biomass_pl.data.bank import BankConfig, FeatureSet, photo_key
from biomass_pl.data.stored_features import FeatureViews, StoredFeatures
from biomass_pl.terminal import progress
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.embedder import Embedder
from biomass_pl.training.image_task import ImageTask

logger = logging.getLogger(__name__)


def check_bank(task: ImageTask, data: FeatureViews, bank: BankConfig) -> None:
    """Refuses a bank that could not hold the features of the data module's fold, before any training.

    Raises:
        ConfigError: Its limit is too low.
    """
    feature_set = bank.bank.feature_set({}, (*data.view_shape(), *task.backbone.feature_shape))
    bank.bank.check_limit(feature_set, sum(map(len, data.wanted_views(training=True).values())))


class FeatureBankFill(Callback):
    """Has a frozen backbone compute each feature once, for all epochs, folds and later runs.

    Does nothing where the data module has no bank.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Computes what is missing, and hands the features over before any loader exists.

        Weights are those to train from by now, also in a resumed run; one past its frozen epochs reads pixels.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data.bank is None or not isinstance(pl_module, ImageTask):
            return
        frozen = math.inf if pl_module.frozen_epochs == "all" else pl_module.frozen_epochs
        if data.first_epoch >= frozen:
            return
        wanted = data.wanted_views(training=True)
        keys = {path: photo_key(path) for path in wanted}
        feature_set = _feature_set(pl_module.backbone, data, data.bank, str(trainer.precision))
        # Another run may fill the bank meanwhile: all processes go by what the first one found.
        missing = trainer.strategy.broadcast(feature_set.missing(_by_key(keys, wanted)))
        if missing:
            count = sum(len(views) for views in missing.values())
            if trainer.is_global_zero:
                data.bank.bank.make_room(feature_set, count)
                logger.info("Feature bank: computing %d views of %d photos", count, len(missing))
            trainer.strategy.barrier()
            # Processes that train together share the photos out.
            share = sorted(missing)[trainer.global_rank :: trainer.world_size]
            backbone = pl_module.backbone
            was_training = backbone.training
            _fill(trainer, backbone.eval(), data, feature_set, keys, {key: missing[key] for key in share})
            backbone.train(was_training)
            trainer.strategy.barrier()
        data.use_features(StoredFeatures(feature_set=feature_set, keys=keys, views=data.bank.views, epochs=frozen))


def stored_predictions(task: ImageTask, data: FeatureViews, bank: BankConfig, precision: str) -> StoredFeatures | None:
    """The features of what was selected for prediction, where the bank has them all.

    It has them after a training that never thawed the backbone.

    Args:
        task: The task with the weights that predict.
        data: The data module.
        bank: Its bank.
        precision: That of the prediction.
    """
    wanted = data.wanted_views(training=False)
    feature_set = _feature_set(task.backbone, data, bank, precision)
    if not wanted or not feature_set.folder.is_dir():
        return None
    keys = {path: photo_key(path) for path in wanted}
    if feature_set.missing(_by_key(keys, wanted)):
        return None
    return StoredFeatures(feature_set=feature_set, keys=keys, views=bank.views, epochs=math.inf)


def bank_embeddings(encoder: Backbone | Embedder, data: FeatureViews, bank: BankConfig, trainer: Trainer) -> None:
    """Has what was selected for prediction read the features of an encoder, which the bank keeps.

    Args:
        encoder: Of pictures; those of a backbone are those that its frozen training reads.
        data: The data module; photos are selected as they are.
        bank: Its bank.
        trainer: Knows the precision.

    Raises:
        ConfigError: The bank is too small.
        DataError: The disk is.
    """
    wanted = data.wanted_views(training=False)
    keys = {path: photo_key(path) for path in wanted}
    feature_set = _feature_set(encoder, data, bank, str(trainer.precision))
    missing = feature_set.missing(_by_key(keys, wanted))
    if missing:
        bank.bank.make_room(feature_set, len(missing))
        _fill(trainer, encoder, data, feature_set, keys, missing)
    data.use_features(StoredFeatures(feature_set=feature_set, keys=keys, views=0, epochs=math.inf))


def _by_key(keys: Mapping[Path, str], wanted: Mapping[Path, list[int]]) -> dict[str, list[int]]:
    """The wanted views by the photo's name in the bank; two photos of equal bytes share one."""
    merged: dict[str, set[int]] = {}
    for path, views in wanted.items():
        merged.setdefault(keys[path], set()).update(views)
    return {key: sorted(views) for key, views in merged.items()}


def _feature_set(encoder: Backbone | Embedder, data: FeatureViews, bank: BankConfig, precision: str) -> FeatureSet:
    backbone = encoder.backbone if isinstance(encoder, Embedder) else encoder
    depends_on = {
        "backbone": backbone.name,
        "tile_size": backbone.tile_size,
        "weights": backbone.fingerprint(),
        "precision": precision,
        **(encoder.description() if isinstance(encoder, Embedder) else {}),
        **data.view_description(),
    }
    return bank.bank.feature_set(depends_on, (*data.view_shape(), *encoder.feature_shape))


def _fill(
    trainer: Trainer,
    encoder: Backbone | Embedder,
    data: FeatureViews,
    feature_set: FeatureSet,
    keys: Mapping[Path, str],
    missing: Mapping[str, list[int]],
) -> None:
    """Computes what is missing, by an encoder in eval mode."""
    photos = {key: path for path, key in keys.items()}
    device = trainer.strategy.root_device
    with (
        torch.inference_mode(),
        trainer.precision_plugin.forward_context(),
        progress("Feature bank", len(missing)) as advance,
    ):
        for key, views, tiles in data.view_loader(photos, missing):
            # All views of a photo at once would need more memory than a training batch.
            parts = tiles.split(data.batch_size)
            features = torch.cat([encoder(part.to(device)).float().cpu() for part in parts])
            for view, feature in zip(views, features.numpy(), strict=True):
                feature_set.write(key, view, feature)
            advance()
