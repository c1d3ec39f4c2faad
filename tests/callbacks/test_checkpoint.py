"""Checkpoints are whole or absent."""

import pytest
import torch

from biomass_pl.callbacks.checkpoint import BestCheckpoint, WholeFileCheckpointIO


def test_a_checkpoint_round_trips(tmp_path):
    path = tmp_path / "checkpoints" / "best.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"weights": torch.arange(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(3))
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]


def test_a_failed_write_leaves_the_older_checkpoint(tmp_path):
    path = tmp_path / "best.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        WholeFileCheckpointIO().save_checkpoint({"epoch": 2, "unsaveable": (step for step in [1])}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


def test_the_best_score_survives_a_move_of_the_folder(tmp_path):
    first = BestCheckpoint(folder=tmp_path / "old", monitor="val/score")
    first.best_model_score = torch.tensor(0.7)
    first.best_k_models = {str(tmp_path / "old" / "best.ckpt"): torch.tensor(0.7)}
    moved = BestCheckpoint(folder=tmp_path / "new", monitor="val/score")
    moved.load_state_dict(first.state_dict())
    assert moved.best_model_score == torch.tensor(0.7)
    assert moved.dirpath == str(tmp_path / "new")
