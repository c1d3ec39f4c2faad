"""The models of a run as predictors of held-out and other items."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.splits import Split, read_folds
from biomass_pl.errors import RunError
from biomass_pl.evaluation.maps import MakesMaps
from biomass_pl.harness.interrupts import passing_on_interrupts
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.processes import on_its_own
from biomass_pl.harness.recipes import named_systems
from biomass_pl.harness.stored_config import require_safe_config
from biomass_pl.runs import Run
from biomass_pl.training.callbacks.checkpoint import read_checkpoint
from biomass_pl.training.callbacks.feature_bank import stored_predictions
from biomass_pl.training.callbacks.predictions import PredictionTable
from biomass_pl.training.image_task import ImageTask

ALONE = (
    "--trainer.callbacks=null",
    "--trainer.devices=1",
    "--trainer.strategy=auto",
    "--trainer.num_nodes=1",
    "--trainer.logger=false",
    "--trainer.profiler=null",
)
"""Settings of a command that trains nothing."""

Weights = Literal["best", "last"]
"""Those of the best epoch, or of the last one."""

LabelledSource = Literal["held_out", "test"]
"""Items whose truth is known: those of the fold, or those to test on where the data tell it."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of items.

    Args:
        table: A row per item.
        arrays: Arrays of the same rows by name, where asked for.
    """

    table: pd.DataFrame
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


class PredictCLI(RunCLI):
    """Makes the objects that predict with one fold of a run.

    Args:
        run: The run.
        fold: The fold.
        overrides: Settings of Lightning's form that differ from the training's.
        arrays: Whether to collect the arrays, such as embeddings, as well.
        maps: Whether the maps of photos are among them, of a task that makes some.
        trusted: Classes of one's own that the run's configuration may name.

    Raises:
        BiomassError: The configuration is not safe, not valid, or the data are not where it says.
    """

    def __init__(
        self,
        run: Run,
        fold: int,
        overrides: Sequence[str] = (),
        *,
        arrays: bool = False,
        maps: bool = False,
        trusted: Collection[str] = (),
    ) -> None:
        self.run = run
        self.fold = fold
        self.arrays = arrays
        self.maps = maps
        stored = ["--config", str(run.config(fold))]
        for system in named_systems(stored):
            system.imported()
        require_safe_config(run.config(fold), run=run.path, trusted=trusted)
        # The checkpoint holds the backbone: nothing is to be fetched for it.
        alone = [*ALONE, f"--trainer.default_root_dir={run.path}"]
        with on_its_own():
            super().__init__([*stored, *alone, *overrides], command="predict")

    def instantiate_classes(self) -> None:
        """Leaves out what a checkpoint brings: nothing is to be fetched."""
        settings = self.config["model"]["init_args"]
        for name in ("pretrained", "backbone_weights", "init_from"):
            if name in settings:
                settings[name] = False if isinstance(settings[name], bool) else None
        super().instantiate_classes()

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """A trainer that writes nothing and collects the predictions."""
        self.collected = PredictionTable(id_column=self.datamodule.id_columns[0], arrays=self.arrays)
        bar = self.progress_bar(f"fold {self.fold}")
        # Without checkpoints the trainer refuses what saves some.
        configured = [callback for callback in self.configured_callbacks() if not isinstance(callback, Checkpoint)]
        return super().instantiate_trainer(
            callbacks=[*configured, *bar, self.collected],
            logger=False,
            enable_checkpointing=False,
            **settings,
        )

    def load(self, weights: Weights = "best") -> None:
        """Builds the network with the weights of a checkpoint of the fold."""
        path = self.run.best_checkpoint(self.fold) if weights == "best" else self.run.last_checkpoint(self.fold)
        checkpoint = read_checkpoint(path)
        self.model.on_load_checkpoint(checkpoint)
        self.model.configure_model()
        try:
            self.model.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            raise RunError(f"{path} does not fit {self.run.config(self.fold)}: one of them was changed.") from error

    def predict(self, weights: Weights = "best") -> Predictions:
        """Predicts what the data module selected, by a checkpoint of the fold."""
        self.load(weights)
        data: Any = self.datamodule
        if self.maps and isinstance(self.model, MakesMaps):
            self.model.make_maps(data.photo_grid())
        if data.bank is not None and isinstance(self.model, ImageTask):
            data.use_features(stored_predictions(self.model, data, data.bank, str(self.trainer.precision)))
        with on_its_own(), passing_on_interrupts():
            self.trainer.predict(self.model, self.datamodule, return_predictions=False)
        return Predictions(table=self.model.report.finished(self.collected.table()), arrays=self.collected.arrays())


def predict_labelled(
    run: Run,
    fold: int,
    overrides: Sequence[str] = (),
    *,
    source: LabelledSource = "held_out",
    flips: bool = False,
    arrays: bool = False,
    maps: bool = False,
    weights: Sequence[Weights] = ("best",),
    trusted: Collection[str] = (),
    illustrate: bool = False,
) -> list[Predictions]:
    """Predicts the held-out items of one fold, or the test items, once by each of the weights.

    Args:
        run: The run.
        fold: The fold.
        overrides: Settings of Lightning's form that differ from the training's.
        source: Which items.
        flips: Whether to average each item over its views.
        arrays: Whether to collect the arrays, such as embeddings, as well.
        maps: Whether the maps of photos are among them, of a task that makes some.
        weights: Which weights predict.
        trusted: Classes of one's own that the run's configuration may name.
        illustrate: Whether the task draws its pictures of the fold by the first of the weights.

    Returns:
        For each weights, a row per item: what names it, `fold`, metadata, truth and predictions.
    """
    cli = PredictCLI(run, fold, overrides, arrays=arrays, maps=maps, trusted=trusted)
    data = cli.datamodule
    require_data(run, data)
    split = Split(fold=fold, folds=read_folds(run.folds_csv, data.names()))
    data.use(split)
    data.select(source, views=data.views if flips else ("plain",))
    labelled = data.items()[split.held_out(data.names())] if source == "held_out" else data.test_items()
    if labelled is None:
        msg = f"{type(data).__name__} does not know the truth of its test items"
        raise RuntimeError(msg)
    found = []
    for which in weights:
        found.append(_joined(cli.predict(which), labelled, run, fold, data.id_columns))
        if illustrate and which == weights[0]:
            cli.model.illustrate(data, found[0].table, found[0].arrays, run.fold_dir(fold))
    return found


def fingerprint(data: FoldDataModule, folds: pd.Series, *, opens_items: bool = True) -> dict[str, str]:
    """Hashes of the labels, of the folds and, where there are such things, of given features or the items' contents.

    Args:
        data: The data module.
        folds: The fold in which each item is held out.
        opens_items: Whether the items may be opened for the hashes of their contents.
    """
    texts = {"labels": data.items().to_csv(index=False), "folds": folds.reset_index().to_csv(index=False)}
    contents = data.contents() if opens_items else None
    if contents is not None:
        texts["contents"] = json.dumps(dict(sorted(contents.items())))
    if data.given is not None:
        texts["features"] = data.given.content()
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def require_data(run: Run, data: FoldDataModule) -> None:
    """Refuses a run whose data folder is not where the run says.

    Raises:
        RunError: It is not there.
    """
    if not data.root.exists():
        raise RunError(
            f"The data of {run.path} are not in '{data.root}' as seen from {Path.cwd()}. "
            "Say where they are now: --data.root DIR"
        )


def _joined(
    predicted: Predictions, labelled: pd.DataFrame, run: Run, fold: int, id_columns: Sequence[str]
) -> Predictions:
    """Predictions beside what is known of the items, in the order of the labels."""
    id_column, *others = id_columns
    if sorted(predicted.table[id_column]) != sorted(labelled[id_column]):
        msg = f"fold {fold} of {run.path} predicted {len(predicted.table)} items for {len(labelled)} labelled ones"
        raise RuntimeError(msg)
    table = labelled.merge(predicted.table, on=id_column, validate="one_to_one")
    table.insert(1 + len(others), "fold", fold)
    places = pd.Index(predicted.table[id_column]).get_indexer(pd.Index(table[id_column]))
    return Predictions(table=table, arrays={name: array[places] for name, array in predicted.arrays.items()})
