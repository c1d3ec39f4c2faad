"""The light commands, which need no torch."""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

from biomass_pl.errors import ConfigError

SAMPLE_NUMBERS = {
    "pasture": {"photos": 120, "test_photos": 10, "width": 2000},
    "lesion": {"photos": 600, "test_photos": 12},
}
"""What `biomass sample` renders of each kind when not told otherwise."""


def sample(arguments: Sequence[str]) -> None:
    """`biomass sample`: renders a labelled pasture, or labelled skin lesions."""
    parser = argparse.ArgumentParser(
        prog="biomass sample",
        description="Render a labelled pasture in the layout of CSIRO Image2Biomass, or skin lesions as in ISIC 2024.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist or be empty")
    parser.add_argument(
        "--kind", choices=("pasture", "lesion"), default="pasture", help="what to render (default: %(default)s)"
    )
    pasture, lesion = SAMPLE_NUMBERS["pasture"], SAMPLE_NUMBERS["lesion"]
    either = "(default: {} of a pasture, {} of lesions)".format
    parser.add_argument("--photos", type=int, help=f"labelled photos {either(pasture['photos'], lesion['photos'])}")
    parser.add_argument(
        "--test_photos",
        type=int,
        help=f"photos without labels {either(pasture['test_photos'], lesion['test_photos'])}",
    )
    parser.add_argument(
        "--width", type=int, help=f"pixels across a photo of a pasture (default: {pasture['width']}); not for lesions"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, another sample (default: %(default)s)")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in pasture if getattr(options, name) is not None}
    numbers = SAMPLE_NUMBERS[options.kind] | given
    if options.kind == "pasture":
        from biomass_pl.pasture.sample.render import render_sample

        render_sample(out=options.out, seed=options.seed, **numbers)
    elif "width" in given:
        raise ConfigError(
            "--width is for a pasture: photos of lesions differ in width, as the real ones. Leave it out."
        )
    else:
        from biomass_pl.lesion.sample.render import render_lesions

        render_lesions(out=options.out, seed=options.seed, **numbers)
    print(f"{numbers['photos']} labelled and {numbers['test_photos']} test photos: {options.out}")  # noqa: T201


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
