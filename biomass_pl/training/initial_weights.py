"""Weights of another run to start from: fold k from fold k's encoder, where both hold out the same items."""

from pathlib import Path

import pandas as pd
from torch import Tensor

from biomass_pl.errors import FoldError, RunError
from biomass_pl.runs import Run
from biomass_pl.training.callbacks.checkpoint import read_checkpoint

_ENCODER = "network.backbone.network."
"""How the names of an encoder's weights begin in a checkpoint of a task on pictures."""


def check_origin(run: Path, fold: int, folds: pd.Series) -> None:
    """Refuses a run that fold k cannot start from: its fold k may have learned from what is held out here.

    Args:
        run: Folder of the run.
        fold: The fold that is to start from the run's fold of this number.
        folds: The fold in which each item is held out, indexed by its name.

    Raises:
        RunError: There is no such run, or it has not finished this fold.
        FoldError: It has other items, or holds them out in other folds.
    """
    origin = Run(run)
    try:
        known = origin.asked_folds()
    except RunError as error:
        raise RunError(f"model.init_from: {error}") from error
    if fold not in known or not origin.is_finished(fold):
        raise RunError(
            f"model.init_from: fold {fold} of {run} is not finished, from which fold {fold} is to start. Finish it: "
            f"biomass fit --resume {run}"
        )
    theirs, ours = _read_folds(origin), folds.astype(int)
    ours.index = ours.index.astype(str)
    others = theirs.index.symmetric_difference(ours.index)
    if len(others):
        raise FoldError(
            f"model.init_from: {run} was trained on other items, such as {others[0]}, so that it is not known what its "
            f"fold {fold} has learned from. Train it again on these data."
        )
    moved = ours[theirs.loc[ours.index] != ours]
    if len(moved):
        name = moved.index[0]
        raise FoldError(
            f"model.init_from: {run} has other folds, such as {theirs[name]} for {name}, which is in fold "
            f"{ours[name]} here; its encoders may have learned from what is held out here. Give both runs the same "
            f"folds: data.fold_csv {origin.folds_csv}"
        )


def initial_encoder(run: Path, fold: int) -> dict[str, Tensor]:
    """Weights of the backbone's network of a fold, by name, as its best checkpoint has them.

    Args:
        run: Folder of a run of any task on pictures.
        fold: The fold.

    Raises:
        RunError: The checkpoint is not there, damaged, or of a task without a backbone.
    """
    path = Run(run).best_checkpoint(fold)
    weights = read_checkpoint(path)["state_dict"]
    encoder = {name.removeprefix(_ENCODER): value for name, value in weights.items() if name.startswith(_ENCODER)}
    if not encoder:
        raise RunError(f"model.init_from: {path} holds no backbone. Name a run of a task on pictures, such as SimCLR.")
    return encoder


def _read_folds(run: Run) -> pd.Series:
    """The fold of each item, indexed by its name."""
    try:
        table = pd.read_csv(run.folds_csv, dtype=str, keep_default_na=False)
        names, numbers = (table.iloc[:, column] for column in (0, 1))
        folds = numbers.astype(int).set_axis(names)
    except (OSError, ValueError, IndexError) as error:  # ValueError includes what pandas cannot parse
        raise RunError(f"model.init_from: {run.folds_csv} is not there or damaged. Restore it.") from error
    if folds.index.has_duplicates:
        raise RunError(f"model.init_from: {run.folds_csv} names an item twice. Restore it.")
    return folds
