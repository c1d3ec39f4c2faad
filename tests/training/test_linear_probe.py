"""A linear probe during a training: the truth it is told, its score, and its way through a checkpoint."""

import io
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from biomass_pl.errors import RunError
from biomass_pl.training.linear_probe import ROW, VECTOR, KnownItems, ProbeState, known_items, mean_vectors


def some_data(**columns):
    items = pd.DataFrame({"image_id": ["c", "a", "b", "d"], **columns})
    return SimpleNamespace(items=lambda: items, names=lambda: items["image_id"])


def kept(truth: np.ndarray, rows: range) -> dict[str, np.ndarray]:
    """Vectors that tell the truth, of some rows."""
    wide = truth if truth.ndim == 2 else np.eye(truth.max() + 1)[truth]
    return {VECTOR: wide[rows] + 0.01 * np.random.default_rng(0).normal(size=wide[rows].shape), ROW: np.array(rows)}


def test_classes_are_numbered_in_the_order_of_their_names():
    known = known_items(some_data(label=["wilt", "blight", "wilt", "healthy"]), ["label"], classes=True)
    assert known.classes == ("blight", "healthy", "wilt") and known.values.tolist() == [2, 0, 2, 1]
    assert known.rows_of(["b", "c"]).tolist() == [2, 0]
    assert known.truth_of({ROW: np.array([3.0, 0.0])}).tolist() == [1, 2]
    assert known_items(some_data(target=[1, 0, 10, 2]), ["target"], classes=True).classes == ("0", "1", "2", "10")


def test_values_stay_values():
    known = known_items(some_data(grams=[1, 2, 3, 4], height=[0.5, 0, 0, 1]), ["height", "grams"], classes=False)
    assert known.classes == () and known.values.tolist() == [[0.5, 1], [0, 2], [0, 3], [1, 4]]


def test_accuracy_is_that_on_the_other_items():
    truth = np.array([0, 1, 2] * 10)
    known = KnownItems(rows={}, values=truth, classes=("x", "y", "z"))
    held_out = kept(truth, range(20, 30))
    held_out[VECTOR][0] = held_out[VECTOR][1]  # one of ten looks like another class
    state = ProbeState()
    assert state.fitted_score(kept(truth, range(20)), held_out, known) == 0.9
    assert state.classes == ("x", "y", "z")
    outputs = state.outputs(torch.from_numpy(held_out[VECTOR]))
    assert outputs.dtype == torch.float64 and outputs.argmax(dim=1).tolist() == [0, *truth[21:30]]


def test_r2_is_that_on_the_other_items():
    truth = np.random.default_rng(1).normal(size=(30, 2))
    known = KnownItems(rows={}, values=truth)
    assert ProbeState().fitted_score(kept(truth, range(20)), kept(truth, range(20, 30)), known) > 0.99


def test_features_that_are_not_finite_have_no_score():
    truth = np.array([0, 1] * 5)
    broken = kept(truth, range(6))
    broken[VECTOR][0, 0] = np.nan
    known = KnownItems(rows={}, values=truth, classes=("x", "y"))
    assert math.isnan(ProbeState().fitted_score(broken, kept(truth, range(6, 10)), known))


def test_a_state_survives_a_checkpoint_of_plain_values():
    truth = np.array([0, 2] * 5)
    known = KnownItems(rows={}, values=truth, classes=("x", "never trained on", "z"))
    state = ProbeState(epochs=7, untrained=0.25)
    state.score = state.fitted_score(kept(truth, range(6)), kept(truth, range(6, 10)), known)
    file = io.BytesIO()
    torch.save(state.to_checkpoint(), file)
    file.seek(0)
    again = ProbeState.from_checkpoint(torch.load(file, weights_only=True))
    assert (again.epochs, again.score, again.untrained, again.classes) == (7, 1.0, 0.25, known.classes)
    vectors = torch.from_numpy(kept(truth, range(10))[VECTOR])
    assert torch.equal(again.outputs(vectors), state.outputs(vectors))


def test_a_state_before_any_probe_survives_too():
    again = ProbeState.from_checkpoint(ProbeState().to_checkpoint())
    assert again.epochs == 0 and math.isnan(again.score) and math.isnan(again.untrained)


@pytest.mark.parametrize("entry", [None, {}, [1], {**ProbeState().to_checkpoint(), "weight": 3}, "state"], ids=str)
def test_a_checkpoint_without_a_probe_is_refused(entry):
    with pytest.raises(RunError, match="holds no linear probe"):
        ProbeState.from_checkpoint(entry)


def test_vectors_of_tiles_are_averaged():
    features = torch.arange(24.0).reshape(2, 2, 3, 2)
    assert torch.equal(mean_vectors(features), torch.tensor([[5.0, 6.0], [17.0, 18.0]]))
    assert torch.equal(mean_vectors(features[:, 0, 0]), features[:, 0, 0])
