"""Predictions as a table, by id, with the embeddings of the same photos."""

import numpy as np
import torch

from biomass_pl.training.callbacks.predictions import PredictionTable


def batch(ids: str, grams: list[float], embedding: list[list[float]]) -> dict:
    return {"id": list(ids), "g_pred": torch.tensor(grams), "embedding": torch.tensor(embedding)}


def collected(*batches: dict, embeddings: bool = True) -> PredictionTable:
    table = PredictionTable(id_column="isic_id", embeddings=embeddings)
    table.on_predict_start(None, None)
    for number, outputs in enumerate(batches):
        table.on_predict_batch_end(None, None, outputs, None, number)
    return table


def test_rows_are_kept_by_id_and_those_of_one_id_are_averaged():
    table = collected(
        batch("bba", [1.0, 3.0, 5.0], [[0.0, 3.0], [3.0, 3.0], [7.0, 8.0]]), batch("b", [5.0], [[6.0, 0.0]])
    )
    assert table.table().to_dict("list") == {"isic_id": ["b", "a"], "g_pred": [3.0, 5.0]}
    assert table.embeddings().tolist() == [[3, 2], [7, 8]]
    assert table.embeddings().dtype == np.float32


def test_a_second_prediction_starts_anew():
    table = collected(batch("a", [1.0], [[1.0]]))
    table.on_predict_start(None, None)
    table.on_predict_batch_end(None, None, batch("b", [2.0], [[2.0]]), None, 0)
    assert table.table().to_dict("list") == {"isic_id": ["b"], "g_pred": [2.0]}
    assert table.embeddings().tolist() == [[2]]


def test_the_output_of_the_step_is_left_as_it_was():
    outputs = batch("a", [1.0], [[1.0]])
    collected(outputs)
    assert set(outputs) == {"id", "g_pred", "embedding"}


def test_the_table_is_the_same_where_nobody_asked_for_embeddings():
    outputs = batch("ab", [1.0, 2.0], [[1.0], [2.0]])
    assert collected(outputs, embeddings=False).table().equals(collected(outputs).table())


def test_half_precision_is_widened():
    outputs = {
        "id": ["a"],
        "g_pred": torch.tensor([0.1], dtype=torch.float64),
        "embedding": torch.tensor([[1.5]], dtype=torch.bfloat16),
    }
    table = collected(outputs)
    assert table.table()["g_pred"].tolist() == [0.1]
    assert table.embeddings().tolist() == [[1.5]]
