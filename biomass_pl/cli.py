"""The `biomass` command: which command runs, and how its errors end.

Light commands, help and version are answered without importing torch.
"""

import errno
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from biomass_pl import __version__, commands, torch_commands
from biomass_pl.errors import BiomassError, ConfigError
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


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "check": torch_commands.check_command,
    "fit": torch_commands.fit_command,
    "predict": torch_commands.predict_command,
    "bench": torch_commands.bench_command,
    "embed": torch_commands.embed_command,
    "stack": torch_commands.stack_command,
    "export": torch_commands.export_command,
    "bank": commands.bank,
    "recipes": commands.recipes,
    "sample": commands.sample,
}


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
