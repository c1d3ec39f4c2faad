"""Predictions as a table, by id."""

import torch

from biomass_pl.callbacks.oof import PredictionTable


def test_rows_are_kept_by_id_and_those_of_one_id_are_averaged():
    table = PredictionTable()
    table.on_predict_start(None, None)
    table.on_predict_batch_end(None, None, {"id": ["b", "b", "a"], "g_pred": torch.tensor([1.0, 3.0, 5.0])}, None, 0)
    table.on_predict_batch_end(None, None, {"id": ["b"], "g_pred": torch.tensor([5.0])}, None, 1)
    assert table.table().to_dict("list") == {"image_id": ["b", "a"], "g_pred": [3.0, 5.0]}


def test_a_second_prediction_starts_anew():
    table = PredictionTable()
    for value in (1.0, 2.0):
        table.on_predict_start(None, None)
        table.on_predict_batch_end(None, None, {"id": ["a"], "g_pred": torch.tensor([value])}, None, 0)
    assert table.table()["g_pred"].tolist() == [2.0]
