"""The light commands, which need no torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path


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
