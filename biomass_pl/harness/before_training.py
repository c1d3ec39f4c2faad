"""What is checked before any training, each thing by itself: `fit` stops at the first fault, `check` names all."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pandas as pd

from biomass_pl.data.splits import Split, fold_numbers, require_one_fold_per_content
from biomass_pl.errors import ConfigError, FoldError
from biomass_pl.harness.parser import RunCLI
from biomass_pl.training.callbacks.feature_bank import check_bank
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.image_task import ImageTask

Attempt = Callable[[], AbstractContextManager[None]]
"""Makes the context in which one check runs: it decides whether a fault ends all of them."""


@dataclass(frozen=True, kw_only=True)
class Folds:
    """The folds of a new run.

    Args:
        assigned: The fold in which each item is held out.
        asked: Those to train now.
    """

    assigned: pd.Series
    asked: list[int]


def check_data(cli: RunCLI, asked: list[int] | None = None, *, attempt: Attempt = nullcontext) -> Folds | None:
    """Checks the items and deals them into folds.

    Args:
        cli: The objects of the recipe; what its settings ask to be made of the data is made.
        asked: Folds to train; none trains all.
        attempt: What each check runs in.

    Returns:
        The folds; none where they cannot be made.

    Raises:
        BiomassError: Something is wrong, and `attempt` lets it through.
    """
    data, folds = cli.datamodule, None
    with attempt():
        data.prepare()
    with attempt():
        data.check()
    with attempt():
        assigned = data.make_folds()
        folds = Folds(assigned=assigned, asked=_asked_folds(asked, assigned))
        contents = data.contents()
        if contents is not None:
            require_one_fold_per_content(assigned, contents)
    return folds


def check_settings(cli: RunCLI, folds: Folds | None, *, attempt: Attempt = nullcontext) -> None:
    """Checks that recipe, data and folds go together, and builds the network.

    Args:
        cli: The objects of the recipe.
        folds: As `check_data` gives them; none checks only what needs none.
        attempt: What each check runs in.

    Raises:
        BiomassError: Something does not, and `attempt` lets it through.
    """
    data, model = cli.datamodule, cli.model
    with attempt():
        _check_freezing(cli)
    if folds is None:
        return
    data.use(Split(fold=folds.asked[0], folds=folds.assigned))  # what a task takes from data may be the fold's
    is_set_up = False
    with attempt():
        model.set_up_for(data)
        is_set_up = True
    for fold in folds.asked:
        data.use(Split(fold=fold, folds=folds.assigned))
        with attempt():
            data.check_split()
        with attempt():
            model.check_data(data)
    if is_set_up:
        with attempt():
            model.configure_model()


def check_feature_bank(cli: RunCLI) -> None:
    """Refuses a feature bank that could not hold what the network, which is built, computes.

    Raises:
        ConfigError: Its limit is too low.
    """
    if cli.datamodule.bank is not None and isinstance(cli.model, ImageTask):
        data: Any = cli.datamodule
        check_bank(cli.model, data, data.bank)


def _check_freezing(cli: RunCLI) -> None:
    freezes = [callback for callback in cli.configured_callbacks() if isinstance(callback, BackboneFreeze)]
    for freeze in freezes:
        freeze.check(cli.trainer, cli.model)
    if cli.datamodule.bank is not None and not freezes:
        raise ConfigError(
            "data.bank_views keeps the features of a frozen backbone, and nothing freezes it. Add the callback "
            "BackboneFreeze, or set data.bank_views to 0."
        )


def _asked_folds(asked: list[int] | None, folds: pd.Series) -> list[int]:
    known = fold_numbers(folds)
    chosen = known if asked is None else sorted(set(asked))
    unknown = [str(fold) for fold in chosen if fold not in known]
    if unknown:
        raise FoldError(f"There is no fold {', '.join(unknown)}; choose --folds among {known[0]} to {known[-1]}.")
    return chosen
