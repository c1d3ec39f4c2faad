"""A trainer of a fold works for the run around it, any other for its own folder."""

from lightning.pytorch import Trainer

from biomass_pl.runs import RECORD
from biomass_pl.training.callbacks.run_folder import run_folder


def test_the_run_is_the_folder_with_its_record(tmp_path):
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path / "fold_0", logger=False)
    assert run_folder(trainer) == tmp_path / "fold_0"
    (tmp_path / RECORD).touch()
    assert run_folder(trainer) == tmp_path
