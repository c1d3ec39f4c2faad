"""The options of `biomass stack`. Quick to import: help needs nothing else."""

import argparse
from pathlib import Path

from biomass_pl.evaluation.learner_settings import LEARNERS

DESCRIPTION = """\
Learn from numbers and predict out of fold, without opening a photo: over the
folds of a run, from what it predicted and the tables of its data; or, without
a run, over the folds of a recipe, from files of features that any network made.
With --blend, weigh the out-of-fold predictions of several runs.
"""

_EXAMPLES = """\
examples:
  biomass stack --run RUN --features tabular predictions
  biomass stack --config head_only.yaml --data.root DIR --embeddings FILE [FILE ...] --learner gp
  biomass stack --blend RUN RUN
"""


def stack_epilog() -> str:
    """What suits each learner, and examples."""
    lines = ["learners, and what they do unless told otherwise:"]
    for name, learner in LEARNERS.items():
        components = "embeddings as they are" if learner.pca is None else f"--pca {learner.pca}"
        settings = [components, f"--seeds {learner.seeds}"] if learner.draws else [components]
        if "regression" in learner.kinds:
            settings.append(f"--target_transform {learner.target_transform}")
        lines.append(f"  {name:9} {learner.name}: {', '.join(settings)}")
    return "\n".join(lines) + f"\n\n{_EXAMPLES}"


def add_stack_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options; what is not given has the value None."""
    parser.add_argument("--run", type=Path, help="run folder (default: the newest of biomass fit)")
    parser.add_argument(
        "--features",
        nargs="+",
        choices=("tabular", "predictions", "embeddings"),
        help="what to learn from (default: --embeddings; of a run: tabular where the data have it, and predictions)",
    )
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="columns of the tables (default: all usable)")
    parser.add_argument(
        "--embeddings",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="with --config: files of features, side by side; .npz or .parquet with image_id and features",
    )
    parser.add_argument("--learner", choices=tuple(LEARNERS), help="(default: lightgbm)")
    parser.add_argument(
        "--target_transform", choices=("sqrt", "log1p", "none"), help="what is learned of a number (default: see below)"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="fits to average (default: see below)")
    parser.add_argument(
        "--pca", type=int, metavar="K", help="principal components of each file of embeddings (default: see below)"
    )
    parser.add_argument(
        "--sums",
        choices=("project", "add"),
        help="where targets are sums of others: learn all and take the nearest that add up, or learn the parts and add "
        "(default: project)",
    )
    parser.add_argument(
        "--negatives_per_positive",
        type=float,
        metavar="N",
        help="draw so many for each fit (default: all)",
    )
    parser.add_argument(
        "--blend",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="weigh these runs; the weights for a fold come from the other folds",
    )
    parser.add_argument("--name", help="name of a new run (default: that of the recipe and the learner, or blend)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: in the run folder)")
