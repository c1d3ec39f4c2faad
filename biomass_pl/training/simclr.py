"""SimCLR: a backbone learns from pairs of views without labels, and a linear probe tells how well."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biomass_pl.data.base import FoldDataModule, Truth
from biomass_pl.data.near_duplicates import closest_originals
from biomass_pl.data.pairs import PairAugmentation, PairDataset, without_copies
from biomass_pl.data.photos import check_photos, find_photos
from biomass_pl.errors import ConfigError, FoldError
from biomass_pl.evaluation.probe_report import ClassProbeReport, ValueProbeReport, probability_column, probe_column
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.contrastive import alignment, nt_xent, uniformity
from biomass_pl.training.epoch_scores import EpochOutputs
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.linear_probe import ROW, VECTOR, KnownItems, ProbeState, known_items, mean_vectors
from biomass_pl.training.optim import OptimConfig
from biomass_pl.training.task import Objective, StepOutput

logger = logging.getLogger(__name__)

torch.serialization.add_safe_globals([PairAugmentation])  # checkpoints of tasks made in Python hold one

_PROBE = "linear_probe"
"""Where a checkpoint keeps the linear probe."""


class SimCLRNetwork(nn.Module):
    """Backbone and projection head of SimCLR.

    Args:
        backbone: What is trained to be used elsewhere.
        projection_dim: Length of the vectors that are compared.
    """

    def __init__(self, *, backbone: Backbone, projection_dim: int) -> None:
        super().__init__()
        width = backbone.num_features
        self.backbone = backbone
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_dim))


class SimCLR(ImageTask):
    """Learns without labels that two views of a photo are alike (Chen et al. 2020), with the data of any system.

    A linear model on the features of the training photos, scored on those held out, chooses the best checkpoint:
    after the first epoch, every `probe_every` epochs and after the last one. In between the score stands still.

    Args:
        backbone: Name of any timm network.
        temperature: Divides the cosine similarities of views.
        projection_dim: Length of the vectors that are compared.
        chunk: Views that the backbone takes at once, for small memories, with the same gradient; 0 takes all.
        pairs: How views are made of a photo.
        unlabelled: Folders of photos to learn from as well; those that are or nearly are labelled ones are left out.
        probe_every: Epochs from one linear probe to the next.
        optim: Rates of the optimizer; head_lr is that of the projection.
        **kwargs: Settings of every image model.
    """

    network: SimCLRNetwork

    def __init__(
        self,
        *,
        backbone: str,
        temperature: float = 0.07,
        projection_dim: int = 128,
        chunk: int = 0,
        pairs: PairAugmentation = PairAugmentation(),
        unlabelled: list[Path] | None = None,
        probe_every: int = 10,
        optim: OptimConfig = OptimConfig(head_lr=3e-4, backbone_lr=3e-4, weight_decay=1e-4, warmup_epochs=10),
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, optim=optim, tile_batch=0, **kwargs)
        if temperature <= 0:
            raise ConfigError(f"model.temperature is {temperature}; give more than 0.")
        for name, number, least in (
            ("projection_dim", projection_dim, 1),
            ("chunk", chunk, 0),
            ("probe_every", probe_every, 1),
        ):
            if number < least:
                raise ConfigError(f"model.{name} is {number}; give {least} or more.")
        # Paths are no plain values, which is all that a checkpoint may hold.
        self.save_hyperparameters(ignore=["unlabelled"])
        self.temperature = temperature
        self.projection_dim = projection_dim
        self.chunk = chunk
        self.pairs = pairs
        self.unlabelled = unlabelled or []
        self.probe_every = probe_every
        self.probe = ProbeState()
        self._truth: Truth | None = None
        self._columns: tuple[str, ...] = ()
        self._of_classes = False
        self._files: Sequence[Path] = ()
        self._are_checked = False
        self._items = KnownItems(rows={}, values=np.empty(0))
        self._trained: dict[str, np.ndarray] = {}

    @property
    def truth(self) -> Truth | None:
        """What the linear probe predicts; it decides on the objective and the report."""
        return self._truth

    @truth.setter
    def truth(self, truth: Truth | None) -> None:
        if truth is None:
            raise ConfigError("SimCLR is probed by what is known of labelled items, and these data tell nothing of it.")
        self._truth, self._columns, self._of_classes = truth, truth.columns, truth.kind == "classes"
        if self._of_classes:
            self.objective = Objective(name="val/probe_accuracy")
            self.report = ClassProbeReport(column=truth.columns[0])
        else:
            self.objective = Objective(name="val/probe_r2")
            self.report = ValueProbeReport(columns=truth.columns)

    def set_up_for(self, data: FoldDataModule) -> None:
        """Takes the truth of the items, for the probe, and has training loaders yield pairs.

        Raises:
            ConfigError: Unlabelled photos cannot be told from those held out.
            DataError: There is no such folder of unlabelled photos.
        """
        self.truth = data.truth
        self._items = known_items(data, self._columns, classes=self._of_classes)
        self._files = self._unlabelled_photos(data)
        data.use_pairs(partial(PairDataset, files=self._files, augmentation=self.pairs, tile_size=self.tile_size))

    def check_data(self, data: FoldDataModule) -> None:
        """Refuses what leaves nothing to contrast or to probe, and unlabelled photos that cannot be read.

        Raises:
            ConfigError: A setting of the data does not go with pairs.
            FoldError: All training photos are of one class.
            DataError: Unlabelled photos cannot be read; lists them.
        """
        super().check_data(data)
        if data.batch_size < 2:
            raise ConfigError("data.batch_size 1 leaves a photo nothing to be told from. Give 2 or more.")
        if data.given is not None:
            raise ConfigError("SimCLR learns from pixels, which data.features replaces. Leave data.features out.")
        if data.bank is not None:
            raise ConfigError(
                "SimCLR learns from pixels, which the feature bank does not keep. Set data.bank_views: 0."
            )
        trained = self._items.values[~data.split.held_out(data.names())]
        if self._of_classes and len(np.unique(trained)) < 2:
            raise FoldError(
                f"Fold {data.split.fold} trains on photos of one class only, which leaves a linear probe nothing to "
                "learn. Give other folds."
            )
        if not self._are_checked:
            check_photos(self._files)
            self._are_checked = True

    def start_from(self, data: FoldDataModule) -> None:
        """Tells how many unlabelled photos there are."""
        super().start_from(data)
        if self.unlabelled and self.trainer.is_global_zero:
            copies = len(find_photos(self.unlabelled)) - len(self._files)
            logger.info(
                "Learning from %d unlabelled photos as well; %d copies of labelled photos among them are left out",
                len(self._files),
                copies,
            )

    def make_network(self, backbone: Backbone) -> SimCLRNetwork:
        """Backbone and projection head.

        Raises:
            ConfigError: Chunks would change what the backbone learns.
        """
        if self.chunk and backbone.has_batch_statistics():
            raise ConfigError(
                f"model.chunk {self.chunk} would cut the batches whose statistics '{self.backbone_name}' learns from "
                "(batch normalisation). Set model.chunk: 0 and lower data.batch_size, or choose another backbone."
            )
        backbone.tile_batch = self.chunk
        return SimCLRNetwork(backbone=backbone, projection_dim=self.projection_dim)

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Loss of a batch of pairs, with the alignment and uniformity of what is compared."""
        first, second = self.network.projection(self.backbone(batch["tiles"])).unbind(dim=1)
        measures = {"alignment": alignment(first, second)}
        if len(first) > 1:
            measures["uniformity"] = (uniformity(first) + uniformity(second)) / 2
        return StepOutput(losses={"contrastive": nt_xent(first, second, self.temperature)}, measures=measures)

    def predict_columns(self, features: Tensor) -> dict[str, Tensor]:
        """What the linear probe says: `prob_<class>`, or `probe_<column>` of values."""
        outputs = self.probe.outputs(mean_vectors(features))
        if self._of_classes:
            names = [probability_column(name) for name in self.probe.classes]
            outputs = outputs.softmax(dim=1)
        else:
            names = [probe_column(column) for column in self._columns]
        return dict(zip(names, outputs.unbind(dim=1), strict=True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the linear probe."""
        checkpoint[_PROBE] = self.probe.to_checkpoint()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the linear probe.

        Raises:
            RunError: The checkpoint has none.
        """
        self.probe = ProbeState.from_checkpoint(checkpoint.get(_PROBE))

    def on_train_start(self) -> None:
        """Scores the network before any training; a resumed run has that already."""
        if self.current_epoch == 0:
            held_out = self._vectors_of(self._data.plain_loader(held_out=True))
            self.probe.untrained = self.probe.fitted_score(self._training_vectors(), held_out, self._items)

    def kept_names(self) -> tuple[str, ...]:
        """Feature vectors, and the rows of the items in their table."""
        return VECTOR, ROW

    def on_validation_epoch_start(self) -> None:
        """Computes the features of training photos where a probe is due, by the weights that are validated."""
        super().on_validation_epoch_start()
        # Not at the end of the epoch: there averaged weights, of which the held-out features are, have been taken out.
        if self._probe_is_due():
            self._trained = self._training_vectors()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keeps the features of held-out photos where a probe is due."""
        if self._probe_is_due():
            self.kept.update(self._vectors(batch))

    def on_validation_epoch_end(self) -> None:
        """Logs the score of a new probe, or of the newest one, and that of the untrained network."""
        if self._probe_is_due():
            super().on_validation_epoch_end()
        else:
            self.log_dict({f"val/{name}": score for name, score in self._scores().items()})

    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Fits a new linear probe and scores it: `probe_accuracy` or `probe_r2`, and `probe_untrained`."""
        self.probe.score = self.probe.fitted_score(self._trained, kept, self._items)
        self.probe.epochs = self.current_epoch + 1
        return self._scores()

    def _scores(self) -> dict[str, float]:
        return {self.objective.name.removeprefix("val/"): self.probe.score, "probe_untrained": self.probe.untrained}

    def _probe_is_due(self) -> bool:
        if self.trainer.sanity_checking:
            return False
        finished, probed = self.current_epoch + 1, self.probe.epochs
        periods = finished // self.probe_every - probed // self.probe_every
        return probed == 0 or periods > 0 or finished == self.trainer.max_epochs

    def _training_vectors(self) -> dict[str, np.ndarray]:
        """Feature vectors and rows of the training photos as they are."""
        return self._vectors_of(self._data.plain_loader(held_out=False))

    def _vectors_of(self, batches: Iterable[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Feature vectors and rows of all items of a loader, also of the share of other processes."""
        kept = EpochOutputs(names=self.kept_names()).to(self.device)
        was_training = self.network.training
        self.network.eval()
        with torch.inference_mode(), self.trainer.precision_plugin.forward_context():
            for batch in batches:
                kept.update(self._vectors({**batch, "tiles": batch["tiles"].to(self.device)}))
        self.network.train(was_training)
        return kept.compute()

    def _vectors(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        rows = self._items.rows_of(batch["id"]).to(self.device)
        return {VECTOR: mean_vectors(self.features(batch)), ROW: rows}

    def _unlabelled_photos(self, data: FoldDataModule) -> list[Path]:
        """Unlabelled photos that do not show what labelled ones show: of those some are held out, the rest is seen."""
        if not self.unlabelled:
            return []
        contents = data.contents()
        if contents is None:
            raise ConfigError(
                "model.unlabelled cannot be used with these data: nothing tells whether a photo is a copy of one that "
                "is held out. Leave it out."
            )
        files = without_copies(find_photos(self.unlabelled), contents.values())
        closest = closest_originals(files, data.photos(), list(data.names()))
        return [path for path, labelled in zip(files, closest, strict=True) if labelled < 0]

    @property
    def _data(self) -> FoldDataModule:
        data: FoldDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data
