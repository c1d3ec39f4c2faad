"""`biomass check`: reads everything of the data, shows what was understood and names all that is wrong with it."""

import logging
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.photos import broken_photos, check_photos, is_photo
from biomass_pl.errors import BiomassError, ConfigError, DataError
from biomass_pl.harness.before_training import check_data, check_feature_bank, check_settings
from biomass_pl.harness.check_photos import draw_thumbnails, photo_shapes, warn_of_unusual_shapes
from biomass_pl.harness.check_tables import class_table, fold_table, heading_table, item_table, shape_table
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.recipes import given, logs_folder, recipe_files, recipe_name
from biomass_pl.harness.trainer_settings import check_trainer
from biomass_pl.new_runs import check_run_name
from biomass_pl.packaged_recipes import find_recipe, shortest_name
from biomass_pl.systems import all_systems, resolved
from biomass_pl.terminal import say

logger = logging.getLogger(__name__)


class _Faults:
    """What is wrong, each thing once, as where it is wrong in every fold."""

    def __init__(self) -> None:
        self.found: list[BiomassError] = []
        self._alike: defaultdict[str, set[str]] = defaultdict(set)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Notes a fault, after which the checks go on."""
        try:
            yield
        except BiomassError as error:
            self._note(error)

    @contextmanager
    def attempt_to_read(self) -> Iterator[None]:
        """As `attempt`, but for data that a later step cannot read either: the first step has named all of them."""
        try:
            yield
        except DataError as error:
            if not any(isinstance(fault, DataError) for fault in self.found):
                self._note(error)
        except BiomassError as error:
            self._note(error)

    def _note(self, error: BiomassError) -> None:
        alike = self._alike[_without_numbers(error)]
        if not alike:
            self.found.append(error)
        alike.add(str(error))

    def refuse(self) -> None:
        """Ends the command where something is wrong.

        Raises:
            BiomassError: All that was found; the error itself where it is one.
        """
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            listed = "\n\n".join(
                f"{number}. {error}{self._more_like(error)}" for number, error in enumerate(self.found, start=1)
            )
            raise DataError(f"{len(self.found)} things are wrong; a training would be refused:\n\n{listed}")

    def _more_like(self, error: BiomassError) -> str:
        more = len(self._alike[_without_numbers(error)]) - 1
        return f" The same with other numbers: {more} more." if more else ""


def _without_numbers(error: BiomassError) -> str:
    return re.sub(r"\d+", "", str(error))


def check(arguments: Sequence[str]) -> None:
    """Reads labels, photos, folds and test items, and shows them; nothing is trained.

    Args:
        arguments: Settings of Lightning's form. Without a recipe, the system that knows the data folder gives its own.

    Raises:
        BiomassError: A training would be refused; names everything that is wrong.
    """
    settings = _with_recipe(arguments)
    cli = RunCLI(settings, command="check")
    data, faults = cli.datamodule, _Faults()
    if not data.root.exists():
        data.check()  # says so, where preparing might make the folder
    folds = check_data(cli, attempt=faults.attempt_to_read)
    items: pd.DataFrame | None = None
    with faults.attempt_to_read():
        items = data.items()
    with faults.attempt_to_read():
        _show_headings(data)
    if items is not None:
        _show_items(data, items)
        _show_photos(data, items, settings)
        if folds is not None:
            say(fold_table(data, items, folds.assigned))
    else:
        _check_photos_in(data, faults)
    _check_test_items(data, faults)
    check_settings(cli, folds, attempt=faults.attempt)
    with faults.attempt():
        check_run_name(recipe_name(settings))
    with faults.attempt():
        check_trainer(cli.config.trainer)
    if not faults.found:
        with faults.attempt():
            check_feature_bank(cli)
    faults.refuse()
    files = set(map(str, recipe_files(settings)))
    command = [shortest_name(part) if part in files else part for part in settings]
    say(f"Nothing is wrong. To train:\n  {shlex.join(['biomass', 'fit', *command])}")


def _with_recipe(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the recipe of the system that knows the data folder where they name none.

    Raises:
        ConfigError: No system knows it, or several do.
    """
    if recipe_files(arguments) or given("--data", arguments) is not None:
        return list(arguments)
    named = given("--data.root", arguments)
    if named is None:
        raise ConfigError("Nothing says what to check. Give --data.root DIR, or --config RECIPE.")
    root = Path(named)
    if not root.is_dir():
        raise DataError(f"{root} is no folder. Correct --data.root.")
    systems = [system for system in all_systems() if resolved(system.recognises)(root)]
    if len(systems) != 1:
        found = "may be for several of them" if systems else "is not laid out as any of them expects"
        choices = "; ".join(f"--config {system.recipe} for {system.about}" for system in systems or all_systems())
        raise ConfigError(f"{root} does not tell which recipe reads it: it {found}. Name one: {choices}.")
    recipe = systems[0].recipe
    say(f"{root} is read for {systems[0].about}, as the recipe {recipe} does it; --config names another.")
    return ["--config", str(find_recipe(recipe)), *arguments]


def _show_headings(data: FoldDataModule) -> None:
    headings = data.headings()
    if headings:
        say(heading_table(headings))


def _show_items(data: FoldDataModule, items: pd.DataFrame) -> None:
    say(item_table(data, items))
    if data.truth is not None and data.truth.kind == "classes":
        say(class_table(data, items))


def _show_photos(data: FoldDataModule, items: pd.DataFrame, settings: Sequence[str]) -> None:
    """Shows the sizes of the photos, warns of unusual ones, and draws some of them."""
    if data.tile_size is None:
        return
    names = items[data.id_columns[0]].tolist()
    shapes = photo_shapes(data.photos(), names)
    if not shapes:
        return
    say(shape_table(data, shapes))
    warn_of_unusual_shapes(shapes)
    path = logs_folder(settings) / "check" / f"{data.root.resolve().name or 'data'}.png"
    count = draw_thumbnails(data, items[items[data.id_columns[0]].isin(shapes.keys())], path)
    say(f"{count} {data.item_noun}s with their values: {path}")


def _check_photos_in(data: FoldDataModule, faults: _Faults) -> None:
    """Decodes all photos of the data folder, where what tells of them cannot be read."""
    if data.tile_size is None:
        return
    photos = sorted(path for path in data.root.rglob("*") if is_photo(path.relative_to(data.root)))
    told = "\n".join(map(str, faults.found))
    with faults.attempt():
        check_photos(path for path in broken_photos(photos) if str(path) not in told)
    say(f"{len(photos)} {data.item_noun}s were found in {data.root}; which of them count, the labels do not tell yet.")


def _check_test_items(data: FoldDataModule, faults: _Faults) -> None:
    """Reads the test items; what is wrong with them does not hinder a training."""
    if not data.has_test_items():
        return
    try:
        data.select("test")
        count = len(data.predict_dataloader().dataset)
        broken = data.broken_items()
    except BiomassError as error:
        if str(error) not in map(str, faults.found):
            logger.warning("A training goes without, but biomass predict --split test will be refused: %s", error)
        return
    for name, reason in list(broken.items())[:10]:
        logger.warning("Test %s %s cannot be used: %s", data.item_noun, name, reason)
    say(f"{count} test {data.item_noun}s, {len(broken)} of which cannot be used.")
