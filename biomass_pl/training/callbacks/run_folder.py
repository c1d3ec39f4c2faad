"""Where the run is that a trainer works for."""

from pathlib import Path

from lightning.pytorch import Trainer

from biomass_pl.runs import RECORD


def run_folder(trainer: Trainer) -> Path:
    """The folder of the run whose fold is trained; without a run, the trainer's own folder."""
    own = Path(trainer.default_root_dir)
    return own.parent if (own.parent / RECORD).is_file() else own
