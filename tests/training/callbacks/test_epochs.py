"""The table of epochs across a resume; the line for terminals without a bar."""

from types import SimpleNamespace

import pandas as pd
import torch

from biomass_pl.training.callbacks.epochs import EpochTable


def run_epochs(table: EpochTable, epochs: range) -> None:
    state = SimpleNamespace(current_epoch=epochs.start, max_epochs=4, is_global_zero=True, callback_metrics={})
    table.on_train_start(state, None)
    for epoch in epochs:
        state.current_epoch = epoch
        state.callback_metrics = {"train/loss": torch.tensor(10.0 - epoch), "val/weighted_r2": torch.tensor(0.5)}
        table.on_train_epoch_start(state, None)
        table.on_train_epoch_end(state, None)


def test_a_resumed_training_keeps_the_rows_before_it_and_replaces_the_rest(tmp_path):
    path = tmp_path / "metrics.csv"
    run_epochs(EpochTable(score="val/weighted_r2", path=path), range(3))
    run_epochs(EpochTable(score="val/weighted_r2", path=path), range(2, 4))
    rows = pd.read_csv(path)
    assert rows["epoch"].tolist() == [0, 1, 2, 3]
    assert rows["train/loss"].tolist() == [10, 9, 8, 7]


def test_each_epoch_prints_one_line_if_it_has_a_title(tmp_path, capsys):
    run_epochs(EpochTable(score="val/weighted_r2", path=tmp_path / "a.csv", title="fold 3"), range(2))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:4] for line in lines] == [
        ["fold 3", "epoch 1/4", "train/loss 10", "val/weighted_r2 0.5"],
        ["fold 3", "epoch 2/4", "train/loss 9", "val/weighted_r2 0.5"],
    ]
    run_epochs(EpochTable(score="val/weighted_r2", path=tmp_path / "b.csv"), range(1))
    assert capsys.readouterr().out == ""
