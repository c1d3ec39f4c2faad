"""The light commands, which need no torch."""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

from biomass_pl.errors import ConfigError


def sample(arguments: Sequence[str]) -> None:
    """`biomass sample`: renders a labelled pasture."""
    parser = argparse.ArgumentParser(
        prog="biomass sample",
        description="Render a labelled pasture in the layout of CSIRO Image2Biomass.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist or be empty")
    parser.add_argument("--photos", type=int, default=120, help="labelled photos (default: %(default)s)")
    parser.add_argument("--test_photos", type=int, default=10, help="photos without labels (default: %(default)s)")
    parser.add_argument("--width", type=int, default=2000, help="width of a photo in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another pasture (default: %(default)s)")
    options = parser.parse_args(arguments)
    from biomass_pl.data.sample import render_sample

    render_sample(
        out=options.out,
        photos=options.photos,
        test_photos=options.test_photos,
        width=options.width,
        seed=options.seed,
    )
    print(f"{options.photos} labelled and {options.test_photos} test photos: {options.out}")  # noqa: T201


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
    shelves = bank.summary()
    if not shelves:
        console.print(f"{options.dir} holds no features. data.bank_views fills it.", highlight=False, soft_wrap=True)
        return
    table = Table("backbone", "tile", "precision", "entries", "MB", "last used", "folder", box=None)
    for shelf in shelves:
        about = shelf.about
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(shelf.last_used))
        size = f"{shelf.size / 1e6:.1f}"
        tile = str(about["geometry"]["tile_size"])
        table.add_row(
            about["backbone"], tile, about["precision"], str(shelf.entries), size, used, shelf.folder.name[:8]
        )
    console.print(table)
    total = sum(shelf.size for shelf in shelves) / GIGABYTE
    console.print(f"{total:.3g} GB in {options.dir}", highlight=False, soft_wrap=True)
