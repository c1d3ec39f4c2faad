"""The light commands, which need no torch."""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from biomass_pl.errors import ConfigError
from biomass_pl.packaged_recipes import about, copy_recipes, recipe_names, recipes_folder
from biomass_pl.systems import System, all_systems, resolved


def sample(arguments: Sequence[str]) -> None:
    """`biomass sample`: renders labelled data of a system."""
    systems = {system.name: system for system in all_systems()}
    options = {option.name: option for system in systems.values() for option in system.sample.options}
    parser = argparse.ArgumentParser(
        prog="biomass sample",
        description=f"Render {', or '.join(system.sample.about for system in systems.values())}.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist or be empty")
    parser.add_argument("--kind", choices=tuple(systems), default=next(iter(systems)), help="(default: %(default)s)")
    for name, option in options.items():
        parser.add_argument(
            f"--{name}",
            type=type(option.default),
            choices=option.choices or None,
            help=f"{option.help} (default: {_defaults(name, systems)})",
        )
    parser.add_argument("--seed", type=int, default=0, help="another seed, another sample (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    rendered = systems[chosen.kind].sample
    values = {option.name: option.default for option in rendered.options}
    given = {name: getattr(chosen, name) for name in options if getattr(chosen, name) is not None}
    for name in given.keys() - values.keys():
        raise ConfigError(
            f"--{name} is not for --kind {chosen.kind}, but for {_kinds_with(name, systems)}. Leave it out."
        )
    values |= given
    resolved(rendered.render)(out=chosen.out, seed=chosen.seed, **values)
    told = [option.told(values[option.name]) for option in rendered.options]
    print(f"{', '.join(told)}: {chosen.out}")  # noqa: T201


def _defaults(name: str, systems: Mapping[str, System]) -> str:
    """What an option is for each kind that has it."""
    return ", ".join(
        f"{option.default} of {kind}"
        for kind, system in systems.items()
        for option in system.sample.options
        if option.name == name
    )


def _kinds_with(name: str, systems: Mapping[str, System]) -> str:
    found = [kind for kind, system in systems.items() if name in {option.name for option in system.sample.options}]
    return ", ".join(f"--kind {kind}" for kind in found)


def bank(arguments: Sequence[str]) -> None:
    """`biomass bank`: shows what the feature bank holds, and prunes it."""
    parser = argparse.ArgumentParser(
        prog="biomass bank",
        description="Show the features that frozen backbones have computed, or remove those not used for longest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--dir", type=Path, default=Path("lightning_logs/feature_bank"), help="the bank (default: %(default)s)"
    )
    parser.add_argument(
        "--prune", type=float, metavar="GB", help="keep at most this much; 0 empties the bank. Not while a run trains"
    )
    options = parser.parse_args(arguments)
    if options.prune is not None and not 0 <= options.prune < math.inf:
        raise ConfigError(f"--prune {options.prune:g} is no size. Give the gigabytes to keep, 0 or more.")
    from rich.console import Console
    from rich.table import Table

    from biomass_pl.data.bank import GIGABYTE, FeatureBank

    console = Console()
    bank = FeatureBank(folder=options.dir, limit_gb=math.inf)
    if options.prune is not None:
        freed = bank.prune(options.prune)
        console.print(f"{freed / GIGABYTE:.3g} GB freed", highlight=False)
    feature_sets = bank.summary()
    if not feature_sets:
        console.print(f"{options.dir} holds no features. data.bank_views fills it.", highlight=False, soft_wrap=True)
        return
    table = Table("backbone", "tile", "precision", "entries", "MB", "last used", "folder", box=None)
    for feature_set in feature_sets:
        description = feature_set.description
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(feature_set.last_used))
        size = f"{feature_set.size / 1e6:.1f}"
        tile = str(description.get("tile_size", "-"))
        table.add_row(
            description["backbone"],
            tile,
            description["precision"],
            str(feature_set.entries),
            size,
            used,
            feature_set.folder.name[:8],
        )
    console.print(table)
    total = sum(feature_set.size for feature_set in feature_sets) / GIGABYTE
    console.print(f"{total:.3g} GB in {options.dir}", highlight=False, soft_wrap=True)


def recipes(arguments: Sequence[str]) -> None:
    """`biomass recipes`: lists the recipes of the package, or copies them."""
    parser = argparse.ArgumentParser(
        prog="biomass recipes",
        description="List the recipes that come with the package; biomass fit --config NAME trains one as it is.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="copy them here, to be edited; files that are there stay as they are"
    )
    folder = parser.parse_args(arguments).out
    if folder is None:
        width = max(map(len, recipe_names()))
        for name in recipe_names():
            print(f"{name:{width}}  {about(recipes_folder() / f'{name}.yaml')}")  # noqa: T201
        return
    copied, kept = copy_recipes(folder)
    print(f"{len(copied)} recipes copied: {folder}")  # noqa: T201
    if kept:
        print(f"Already there and left as they are: {', '.join(kept)}")  # noqa: T201
