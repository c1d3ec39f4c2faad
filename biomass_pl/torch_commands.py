"""The commands that train or predict: their options. Torch is imported once these are read."""

import argparse
from pathlib import Path
from typing import NoReturn

from biomass_pl.errors import ConfigError
from biomass_pl.packaged_recipes import find_recipe
from biomass_pl.systems import all_systems


def fit_command(arguments: list[str]) -> None:
    """`biomass fit`: trains the folds of a recipe, or goes on with a run."""
    parser = _parser("fit", "Train every fold of a recipe, predict the held-out photos, print the score.")
    parser.add_argument("--folds", type=int, nargs="+", metavar="K", help="folds to train (default: all)")
    parser.add_argument("--name", help="name of the run (default: that of the configuration file)")
    parser.add_argument(
        "--oof", type=_yes_or_no, metavar="{true,false}", help="predict the held-out photos at the end (default: true)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=True,
        metavar="RUN",
        help="go on with the newest unfinished run, or the named one; takes only --data.root and --data.features",
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="put a new run here instead; jobs for single folds may share it"
    )
    _add_trust(parser)
    options, rest = _parse(parser, arguments)
    if options.run is not None and options.resume is not None:
        raise ConfigError("--resume names its run itself: biomass fit --resume RUN. Leave --run out.")
    from biomass_pl.harness.fit import FitOptions, fit
    from biomass_pl.harness.quiet import quiet_libraries

    resumed = options.resume if isinstance(options.resume, Path) else None
    chosen = FitOptions(
        folds=options.folds,
        name=options.name,
        oof=options.oof,
        resume=options.resume is not None,
        run=options.run or resumed,
        trust=options.trust,
    )
    with quiet_libraries():
        fit(chosen, rest)


def check_command(arguments: list[str]) -> None:
    """`biomass check`: shows what a data folder holds, and what is wrong with it."""
    parser = _parser(
        "check", "Read labels, photos, folds and test items; show them, what is wrong, and what to do next."
    )
    _, rest = _parse(parser, arguments)
    from biomass_pl.harness.check import check
    from biomass_pl.harness.quiet import quiet_libraries

    with quiet_libraries():
        check(rest)


def predict_command(arguments: list[str]) -> None:
    """`biomass predict`: predicts with a trained run."""
    parser = _parser("predict", "Predict with a trained run; by default its held-out photos, scored.")
    parser.add_argument("--run", type=Path, help="run folder (default: the newest)")
    parser.add_argument("--folds", type=int, nargs="+", metavar="K", help="folds to predict with (default: all)")
    parser.add_argument(
        "--split", choices=("oof", "test"), default="oof", help="held-out photos, or the test table (default: oof)"
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", metavar="PATH", help="any photos or folders, instead of a split"
    )
    parser.add_argument("--tta", action="store_true", help="average each photo with its flips")
    parser.add_argument(
        "--skip_broken", action="store_true", help="with --images: leave out what cannot be read, and say why"
    )
    steps = {step.name: (system, step) for system in all_systems() for step in system.prediction_steps}
    for name, (system, step) in steps.items():
        parser.add_argument(f"--{name}", action="store_true", help=f"{system.name}: {step.help}")
    parser.add_argument("--out", type=Path, help="table to write (default: one in the run folder)")
    parser.add_argument(
        "--maps",
        type=Path,
        metavar="DIR",
        help="also write where in each photo its prediction lies, where a model knows it",
    )
    _add_trust(parser)
    options, rest = _parse(parser, arguments)
    chosen = vars(options)
    chosen["steps"] = [step for name, (_, step) in steps.items() if chosen.pop(name)]
    from biomass_pl.harness.predict import PredictOptions, predict
    from biomass_pl.harness.quiet import quiet_libraries

    with quiet_libraries():
        predict(PredictOptions(**chosen), rest)


def stack_command(arguments: list[str]) -> None:
    """`biomass stack`: learns from predictions, tables or files of features, or blends runs."""
    from biomass_pl.harness.stack_arguments import DESCRIPTION, add_stack_arguments, stack_epilog

    parser = _Parser(
        prog="biomass stack",
        description=DESCRIPTION,
        epilog=stack_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_stack_arguments(parser)
    _add_trust(parser)
    options, rest = _parse(parser, arguments)
    chosen = {name: value for name, value in vars(options).items() if value is not None}
    from biomass_pl.harness.quiet import quiet_libraries
    from biomass_pl.harness.stack import run_stack
    from biomass_pl.harness.stack_fit import StackOptions

    with quiet_libraries():
        run_stack(StackOptions(**chosen), rest)


def export_command(arguments: list[str]) -> None:
    """`biomass export`: writes a fold's network for torch alone."""
    parser = _Parser(
        prog="biomass export",
        description="Write the part of a network that is of use alone, by a fold's best weights.",
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, help="run folder (default: the newest)")
    parser.add_argument("--fold", type=int, metavar="K", help="the fold (default: the first finished one)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, and FILE.json about it")
    parser.add_argument(
        "--format",
        choices=("trace", "export"),
        default="trace",
        help="what reads it: torch.jit.load a trace, torch.export.load the other (default: %(default)s)",
    )
    _add_trust(parser)
    options, rest = parser.parse_known_args(arguments)
    from biomass_pl.harness.export import ExportOptions, export
    from biomass_pl.harness.quiet import quiet_libraries

    with quiet_libraries():
        export(ExportOptions(**vars(options)), rest)


def embed_command(arguments: list[str]) -> None:
    """`biomass embed`: writes the features of photos."""
    from biomass_pl.harness.embed_arguments import DESCRIPTION, add_embed_arguments

    parser = _parser("embed", DESCRIPTION)
    add_embed_arguments(parser)
    options, rest = _parse(parser, arguments)
    if options.out is None:
        raise ConfigError("biomass embed needs a file to write. Give --out FILE.npz.")
    from biomass_pl.harness.embed import EmbedOptions, embed
    from biomass_pl.harness.quiet import quiet_libraries

    with quiet_libraries():
        embed(EmbedOptions(**vars(options)), rest)


def bench_command(arguments: list[str]) -> None:
    """`biomass bench`: times a recipe."""
    parser = _parser("bench", "Time a recipe on this machine: loading, steps by part, memory, the whole run.")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="steps to time (default: 10)")
    parser.add_argument("--out", type=Path, help="JSON file (default: lightning_logs/NAME/bench.json)")
    options, rest = _parse(parser, arguments)
    from biomass_pl.harness.quiet import quiet_libraries

    with quiet_libraries():
        from biomass_pl.harness.bench import bench

        bench(rest, steps=options.steps, out=options.out)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        nargs="+",
        default=[],
        metavar="NAME",
        help="classes of your own, or paths, that the run's stored configuration may name",
    )


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing the usage before the message."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. See {self.prog} --help.")


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    return _Parser(prog=f"biomass {command}", description=description, add_help=False, allow_abbrev=False)


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's own options, and what is Lightning's; a configuration comes before what overrides it."""
    parser.add_argument("-c", "--config", action="append", default=[], metavar="FILE", help=argparse.SUPPRESS)
    own, rest = parser.parse_known_args(arguments)
    recipes = [part for file in own.config for part in ("--config", str(find_recipe(file)))]
    del own.config
    if {"-h", "--help"} & set(rest):
        from biomass_pl.harness.help import print_help

        print_help(parser, training=parser.prog.endswith(("fit", "embed")), arguments=[*recipes, *rest])
        raise SystemExit(0)
    return own, recipes + rest


def _yes_or_no(text: str) -> bool:
    answers = {"true": True, "false": False}
    if text not in answers:
        msg = f"'{text}' is neither true nor false"
        raise argparse.ArgumentTypeError(msg)
    return answers[text]
