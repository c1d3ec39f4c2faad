"""The table of epochs across a resume; the line that each epoch leaves."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from biomass_pl.training.callbacks.epochs import EpochTable
from biomass_pl.training.task import Objective

SCORE = Objective(name="val/score")


def epoch_table(path: Path, objective: Objective = SCORE) -> EpochTable:
    return EpochTable(path=path, objective=objective, title="fold 3")


def best_checkpoint(objective: Objective = SCORE) -> ModelCheckpoint:
    return ModelCheckpoint(monitor=objective.name, mode=objective.mode)


def run_epochs(
    table: EpochTable, epochs: range, scores: dict | None = None, best: ModelCheckpoint | None = None, **state
) -> None:
    """Epochs with a training loss of 10, 9, ...; what has no score is not validated, and keeps that of before.

    The checkpoint learns of an epoch's score after the table, as in a training.
    """
    best = best or best_checkpoint(table.objective)
    trainer = SimpleNamespace(
        checkpoint_callbacks=[ModelCheckpoint(), best],
        current_epoch=epochs.start,
        max_epochs=4,
        is_global_zero=True,
        progress_bar_callback=None,
        callback_metrics={},
        **state,
    )
    table.on_train_start(trainer, None)
    for epoch in epochs:
        trainer.current_epoch = epoch
        trainer.callback_metrics["train/loss"] = torch.tensor(10.0 - epoch)
        table.on_train_epoch_start(trainer, None)
        if scores is None or epoch in scores:
            trainer.callback_metrics["val/score"] = torch.tensor(0.5 if scores is None else scores[epoch])
            table.on_validation_epoch_end(trainer, None)
        table.on_train_epoch_end(trainer, None)
        current = trainer.callback_metrics.get("val/score")
        if current is not None and best.check_monitor_top_k(SimpleNamespace(strategy=Alone()), current):
            best.best_model_score = current
            best.best_k_models = {"best.ckpt": current}
            best.kth_best_model_path = "best.ckpt"


class Alone:
    """A strategy of one process."""

    @staticmethod
    def reduce_boolean_decision(decision) -> bool:
        return bool(decision)


def printed(capsys) -> list[list[str]]:
    """The parts of each line, without the seconds."""
    return [line.split("  ")[:-1] for line in capsys.readouterr().out.splitlines()]


def test_a_resumed_training_keeps_the_rows_before_it_and_replaces_the_rest(tmp_path):
    path = tmp_path / "metrics.csv"
    run_epochs(epoch_table(path), range(3))
    run_epochs(epoch_table(path), range(2, 4))
    rows = pd.read_csv(path)
    assert rows["epoch"].tolist() == [0, 1, 2, 3]
    assert rows["train/loss"].tolist() == [10, 9, 8, 7]


def test_each_epoch_prints_one_line_with_the_best_so_far(tmp_path, capsys):
    run_epochs(epoch_table(tmp_path / "a.csv"), range(3), {0: 0.25, 1: -0.5, 2: 0.75})
    assert printed(capsys) == [
        ["fold 3", "epoch 1/4", "train/loss 10", "val/score 0.25", "best 0.25"],
        ["fold 3", "epoch 2/4", "train/loss 9", "val/score -0.5", "best 0.25"],
        ["fold 3", "epoch 3/4", "train/loss 8", "val/score 0.75", "best 0.75"],
    ]


def test_the_best_of_a_loss_is_the_smallest_also_across_a_resume(tmp_path, capsys):
    falling = Objective(name="val/score", mode="min")
    best = best_checkpoint(falling)
    run_epochs(epoch_table(tmp_path / "a.csv", falling), range(2), {0: 0.25, 1: 0.5}, best)
    run_epochs(epoch_table(tmp_path / "a.csv", falling), range(2, 3), {2: 0.75}, best)
    assert [line[-1] for line in printed(capsys)] == ["best 0.25"] * 3


def test_what_was_best_before_the_backbone_thawed_is_forgotten(tmp_path, capsys):
    best, table = best_checkpoint(), epoch_table(tmp_path / "a.csv")
    run_epochs(table, range(1), {0: 0.75}, best)
    best.best_model_score = None
    run_epochs(table, range(1, 2), {1: 0.25}, best)
    assert [line[-1] for line in printed(capsys)] == ["best 0.75", "best 0.25"]


def test_a_score_that_is_none_is_a_dash_and_never_the_best(tmp_path, capsys):
    run_epochs(epoch_table(tmp_path / "a.csv"), range(2), {0: float("nan"), 1: 0.25})
    lines = printed(capsys)
    assert lines[0][2:] == ["train/loss 10", "val/score -"]
    assert lines[1][2:] == ["train/loss 9", "val/score 0.25", "best 0.25"]


def test_scores_of_an_epoch_before_are_not_repeated(tmp_path, capsys):
    """Lightning keeps them where `check_val_every_n_epoch` leaves epochs out."""
    path = tmp_path / "a.csv"
    run_epochs(epoch_table(path), range(4), {1: 0.25, 3: 0.5})
    rows = pd.read_csv(path)
    assert rows["val/score"].isna().tolist() == [True, False, True, False]
    assert rows["train/loss"].tolist() == [10, 9, 8, 7]
    assert [line[2:] for line in printed(capsys)] == [
        ["train/loss 10"],
        ["train/loss 9", "val/score 0.25", "best 0.25"],
        ["train/loss 8", "best 0.25"],
        ["train/loss 7", "val/score 0.5", "best 0.5"],
    ]


def test_a_bar_prints_the_line_above_itself(tmp_path, capsys):
    lines: list[str] = []
    state = SimpleNamespace(
        current_epoch=0,
        max_epochs=1,
        is_global_zero=True,
        progress_bar_callback=SimpleNamespace(print=lines.append),
        checkpoint_callbacks=[],
        callback_metrics={"train/loss": torch.tensor(2.0)},
    )
    table = epoch_table(tmp_path / "a.csv")
    table.on_train_epoch_start(state, None)
    table.on_train_epoch_end(state, None)
    assert [line.split("  ")[:3] for line in lines] == [["fold 3", "epoch 1/1", "train/loss 2"]]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("first", [True, False])
def test_the_first_process_alone_writes(first, tmp_path, capsys):
    state = SimpleNamespace(
        current_epoch=0,
        max_epochs=1,
        is_global_zero=first,
        progress_bar_callback=None,
        checkpoint_callbacks=[],
        callback_metrics={},
    )
    table = epoch_table(tmp_path / "a.csv")
    table.on_train_epoch_start(state, None)
    table.on_train_epoch_end(state, None)
    assert (tmp_path / "a.csv").exists() == first == bool(capsys.readouterr().out)
