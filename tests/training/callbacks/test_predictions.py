"""Predictions as a table, by id, with the arrays of the same items."""

import numpy as np
import torch

from biomass_pl.training.callbacks.predictions import PredictionTable
from biomass_pl.training.task import PredictOutput


def batch(ids: str, grams: list[float], embedding: list[list[float]]) -> PredictOutput:
    return PredictOutput(
        ids=list(ids), columns={"g_pred": torch.tensor(grams)}, arrays={"embedding": torch.tensor(embedding)}
    )


def collected(*batches: PredictOutput, arrays: bool = True) -> PredictionTable:
    table = PredictionTable(id_column="isic_id", arrays=arrays)
    table.on_predict_start(None, None)
    for number, outputs in enumerate(batches):
        table.on_predict_batch_end(None, None, outputs, None, number)
    return table


def test_rows_are_kept_by_id_and_those_of_one_id_are_averaged():
    table = collected(
        batch("bba", [1.0, 3.0, 5.0], [[0.0, 3.0], [3.0, 3.0], [7.0, 8.0]]), batch("b", [5.0], [[6.0, 0.0]])
    )
    assert table.table().to_dict("list") == {"isic_id": ["b", "a"], "g_pred": [3.0, 5.0]}
    assert table.arrays()["embedding"].tolist() == [[3, 2], [7, 8]]
    assert table.arrays()["embedding"].dtype == np.float32


def test_of_texts_the_first_is_kept_and_numbers_beside_them_are_averaged():
    columns = {"label_pred": ["rust", "healthy", "scab"], "p_pred": torch.tensor([0.5, 0.25, 1.0])}
    table = collected(PredictOutput(ids=["a", "b", "a"], columns=columns, arrays={}))
    expected = {"isic_id": ["a", "b"], "label_pred": ["rust", "healthy"], "p_pred": [0.75, 0.25]}
    assert table.table().to_dict("list") == expected
    assert table.arrays() == {}


def test_arrays_of_every_name_and_shape_are_kept():
    arrays = {"image": torch.arange(3.0)[:, None], "maps": torch.arange(12.0).reshape(3, 2, 2)}
    found = collected(PredictOutput(ids=list("aba"), columns={}, arrays=arrays)).arrays()
    assert found["image"].tolist() == [[1], [1]]
    assert found["maps"].tolist() == [[[4, 5], [6, 7]], [[4, 5], [6, 7]]]


def test_a_second_prediction_starts_anew():
    table = collected(batch("a", [1.0], [[1.0]]))
    table.on_predict_start(None, None)
    table.on_predict_batch_end(None, None, batch("b", [2.0], [[2.0]]), None, 0)
    assert table.table().to_dict("list") == {"isic_id": ["b"], "g_pred": [2.0]}
    assert table.arrays()["embedding"].tolist() == [[2]]


def test_the_output_of_the_step_is_left_as_it_was():
    outputs = batch("a", [1.0], [[1.0]])
    collected(outputs)
    assert outputs.ids == ["a"] and isinstance(outputs.columns["g_pred"], torch.Tensor)
    assert set(outputs.arrays) == {"embedding"}


def test_the_table_is_the_same_where_nobody_asked_for_arrays():
    outputs = batch("ab", [1.0, 2.0], [[1.0], [2.0]])
    without = collected(outputs, arrays=False)
    assert without.table().equals(collected(outputs).table()) and without.arrays() == {}


def test_half_precision_is_widened():
    outputs = PredictOutput(
        ids=["a"],
        columns={"g_pred": torch.tensor([0.1], dtype=torch.float64)},
        arrays={"embedding": torch.tensor([[1.5]], dtype=torch.bfloat16)},
    )
    table = collected(outputs)
    assert table.table()["g_pred"].tolist() == [0.1]
    assert table.arrays()["embedding"].tolist() == [[1.5]] and table.arrays()["embedding"].dtype == np.float32
