"""`biomass export`: the network of a fold as a file that torch alone runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from biomass_pl.files import require_writable, write_json
from biomass_pl.harness.predict import finished_folds
from biomass_pl.harness.predictor import PredictCLI
from biomass_pl.harness.recipes import logs_folder, refuse_recipe
from biomass_pl.runs import find_run
from biomass_pl.terminal import say
from biomass_pl.training.export import write_program, write_trace

_WRITERS = {"trace": write_trace, "export": write_program}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `biomass export` takes beside Lightning's settings.

    Args:
        out: The file to write.
        run: Run folder; none takes the newest.
        fold: The fold; none takes the first finished one.
        format: A trace (TorchScript), or a program of torch.export.
        trust: Classes of one's own that the run's configuration may name.
    """

    out: Path
    run: Path | None = None
    fold: int | None = None
    format: Literal["trace", "export"] = "trace"
    trust: Sequence[str] = ()


def export(options: ExportOptions, arguments: Sequence[str]) -> None:
    """Writes the part of a fold's network that is of use alone, by its best weights, and `<out>.json` about it.

    Args:
        options: The command's own options.
        arguments: Settings of Lightning's form that differ from the training's.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    refuse_recipe(arguments, "export")
    run = find_run(logs_folder(arguments), options.run)
    fold = finished_folds(run, None if options.fold is None else [options.fold])[0]
    sidecar = options.out.with_name(f"{options.out.name}.json")
    for path in (options.out, sidecar):
        require_writable(path)
    cli = PredictCLI(run, fold, arguments, trusted=options.trust)
    cli.load()
    cli.model.eval()
    network = cli.model.exportable()
    _WRITERS[options.format](network, options.out)
    about: dict[str, Any] = {
        "task": type(cli.model).__name__,
        "run": f"{run.path.parent.name}/{run.path.name}",
        "fold": fold,
        "torch": torch.__version__,
        **network.description(),
    }
    write_json(about, sidecar)
    say(f"fold {fold} of {run.path}: {options.out}, and {sidecar} on what goes in")
