"""The options of `biomass embed`. Quick to import: help needs nothing else."""

import argparse
from pathlib import Path

DESCRIPTION = (
    "Write what a recipe's backbone says of photos, as it is before any training, to a file for biomass stack "
    "--embeddings or data.features."
)


def add_embed_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file (.npz), which must not be there yet")
    parser.add_argument(
        "--split", choices=("labelled", "test"), default="labelled", help="which photos (default: labelled)"
    )
    parser.add_argument("--images", type=Path, nargs="+", metavar="PATH", help="any photos or folders, instead")
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="layers of the network side by side, counted from 0, or from its end: -1 -4 (default: what it gives)",
    )
    parser.add_argument(
        "--pool",
        nargs="+",
        default=[],
        choices=("mean", "max", "gem", "class_token"),
        help="how a tile's patches become a vector, side by side; gem: generalised mean (default: as the network does; "
        "of --layers: mean)",
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0],
        metavar="S",
        help="tiles along each side as a share of data.grid's: 0.5 of 2 x 2 shows a view in one tile; each tile of the "
        "finest grid carries the vectors of the others over its middle (default: 1)",
    )
