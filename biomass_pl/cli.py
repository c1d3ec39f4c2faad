"""The `biomass` command: which command runs, and how its errors end.

Light commands, help and version are answered without importing torch.
"""

import argparse
import errno
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from biomass_pl import __version__, commands
from biomass_pl.errors import BiomassError, ConfigError
from biomass_pl.packaged_recipes import find_recipe
from biomass_pl.systems import all_systems
from biomass_pl.terminal import LOGGER, MessageFormatter

USER_ERROR = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141
TERMINATED = 143

_HELP = f"""biomass {__version__}: cross-validated training on photographs

usage: biomass COMMAND [options]

commands:
  check     read a data folder, show what was understood, what is wrong and what to type next
  fit       train every fold of a recipe and print the out-of-fold score
  predict   predict held-out photos, the test table or any photos with a trained run
  bench     time a recipe on this machine, before it runs for hours
  embed     write what a backbone says of photos, without any training
  stack     learn from predictions, tables or files of features; blend runs
  export    write the network of a fold into a file that torch alone runs
  bank      show or prune the features that frozen backbones have computed
  recipes   list the recipes of the package, or copy them to edit
  sample    render labelled data to try things on

first steps:
  biomass fit --config quickstart          render photos, train on them, score: in minutes
  biomass check --data.root FOLDER         what your own folder holds, and what is wrong with it
  biomass predict --images PHOTO_OR_FOLDER  predict photos with what was trained
  biomass recipes --out configs            recipes to edit, for photos of your own

'biomass COMMAND --help' lists a command's options; --debug shows the traceback of an error.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: The command line without the program's name; none takes the process's own.

    Returns:
        Exit code: 0 when everything asked for was done, 2 for an error the user can mend, 130 after Ctrl-C, 141
        where nobody reads the output any more, 143 after SIGTERM.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments or os.environ.get("BIOMASS_DEBUG") == "1"
    arguments = [argument for argument in arguments if argument != "--debug"]
    # Read when torch is imported: idle compute threads sleep, where spinning they would keep loader processes waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with _messages(), _termination():
            _dispatch(arguments)
            sys.stdout.flush()
    except SystemExit as ending:  # help and usage errors of argparse
        return ending.code if isinstance(ending.code, int) else USER_ERROR
    except (KeyboardInterrupt, _Terminated) as stop:
        advice = " A training goes on with: biomass fit --resume" if arguments[:1] == ["fit"] else ""
        print(f"biomass: stopped.{advice}", file=sys.stderr)  # noqa: T201
        return TERMINATED if isinstance(stop, _Terminated) else INTERRUPTED
    except BrokenPipeError:
        if debug or not _output_is_closed():
            raise
        # As of `| head`. What is left to write would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    except (BiomassError, OSError) as error:
        message = _message(error)
        if debug or message is None:
            raise
        print(f"biomass: error: {message}", file=sys.stderr)  # noqa: T201
        return USER_ERROR
    return 0


def _dispatch(arguments: list[str]) -> None:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("--help", "-h"):
        print(_HELP, end="")  # noqa: T201
    elif command == "--version":
        print(f"biomass {__version__}")  # noqa: T201
    elif command in _COMMANDS:
        _COMMANDS[command](rest)
    else:
        *others, last = _COMMANDS
        raise ConfigError(f"There is no command '{command}'. Choose {', '.join(others)} or {last}; see biomass --help.")


def _fit(arguments: list[str]) -> None:
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
        help="go on with the newest unfinished run, or the named one; takes only --data.root",
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


def _check(arguments: list[str]) -> None:
    parser = _parser(
        "check", "Read labels, photos, folds and test items; show them, what is wrong, and what to do next."
    )
    _, rest = _parse(parser, arguments)
    from biomass_pl.harness.check import check
    from biomass_pl.harness.quiet import quiet_libraries

    with quiet_libraries():
        check(rest)


def _predict(arguments: list[str]) -> None:
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


def _stack(arguments: list[str]) -> None:
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


def _export(arguments: list[str]) -> None:
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


def _embed(arguments: list[str]) -> None:
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


def _bench(arguments: list[str]) -> None:
    parser = _parser("bench", "Time a recipe on this machine: loading, steps by part, memory, the whole run.")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="steps to time (default: 10)")
    parser.add_argument("--out", type=Path, help="JSON file (default: lightning_logs/NAME/bench.json)")
    options, rest = _parse(parser, arguments)
    from biomass_pl.harness.quiet import quiet_libraries

    with quiet_libraries():
        from biomass_pl.harness.bench import bench

        bench(rest, steps=options.steps, out=options.out)


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "check": _check,
    "fit": _fit,
    "predict": _predict,
    "bench": _bench,
    "embed": _embed,
    "stack": _stack,
    "export": _export,
    "bank": commands.bank,
    "recipes": commands.recipes,
    "sample": commands.sample,
}


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        nargs="+",
        default=[],
        metavar="NAME",
        help="classes of your own, or paths, that the run's stored configuration may name",
    )


class _Terminated(BaseException):
    """SIGTERM came; like Ctrl-C it ends what is done, and files stay whole."""


@contextmanager
def _termination() -> Iterator[None]:
    """Turns SIGTERM into an exception while the block lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    came = False

    def stop(number: int, frame: object) -> NoReturn:
        nonlocal came
        came = True
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException as error:
        if came:  # what cleans up after it may fail in the middle of something
            raise _Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


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


def _message(error: BiomassError | OSError) -> str | None:
    """What to tell the user, or None where the error is not of the user's making."""
    if isinstance(error, BiomassError):
        # One of a loader's process comes with the lines of code that led to it.
        in_worker = str(error).startswith("Caught ") and "in DataLoader worker process" in str(error)
        return str(error).rpartition(f"{type(error).__name__}: ")[2].strip() if in_worker else str(error)
    if error.errno == errno.ENOSPC:
        place = error.filename or "the run folder"
        return f"The disk is full ({place}). Free some space; a training goes on with: biomass fit --resume"
    if not error.filename:
        return None
    advice = {
        errno.EACCES: " Change its permissions, or choose another place.",
        errno.EPERM: " Change its permissions, or choose another place.",
        errno.EROFS: " Choose another place.",
        errno.ENOTDIR: " A part of the path is a file. Choose another place.",
        errno.EEXIST: " Choose another place.",
    }
    return f"{error.filename}: {error.strerror}.{advice.get(error.errno or 0, '')}"


def _output_is_closed() -> bool:
    """Whether nobody reads the standard output any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def _messages() -> Iterator[None]:
    """Shows this package's messages."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MessageFormatter())
    own = logging.getLogger(LOGGER)
    own.addHandler(handler)
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        own.removeHandler(handler)
