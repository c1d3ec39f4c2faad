"""What is gathered over the batches of an epoch, to be scored together."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.training.epoch_scores import EpochOutputs


def outputs(items: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 50 * torch.rand(items, 5, generator=generator) for name in ("prediction", "target")}


def gathered(*batches: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    kept = EpochOutputs(names=("prediction", "target"))
    for batch in batches:
        kept.update(batch)
    return kept.compute()


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=6), seed=st.integers(0, 1000))
def test_rows_over_batches_equal_one_shot(sizes, seed):
    whole = outputs(sum(sizes), seed)
    parts = zip(*(rows.split(sizes) for rows in whole.values()), strict=True)
    found = gathered(*(dict(zip(whole, part, strict=True)) for part in parts))
    assert found.keys() == whole.keys()
    assert all(np.array_equal(found[name], whole[name].double().numpy()) for name in whole)


def test_what_is_not_named_is_not_kept_and_shapes_may_differ():
    kept = EpochOutputs(names=("logit", "label"))
    for start in (0, 2):
        values = torch.arange(start, start + 2)
        kept.update({"logit": torch.zeros(2, 3, 4), "label": values, "picture": values})
    found = kept.compute()
    assert set(found) == {"logit", "label"}
    assert found["logit"].shape == (4, 3, 4) and found["label"].tolist() == [0, 1, 2, 3]


def test_states_stay_float32_and_rows_come_out_in_float64():
    """Squares of 10,000 g would lose in float32 what scores are made of."""
    kept = EpochOutputs(names=("prediction", "target"))
    exact = torch.tensor([[10_001.0], [10_003.0]])
    for _ in range(2):
        kept.update({"prediction": exact, "target": exact})
    assert {state.dtype for state in [*kept.prediction, *kept.target]} == {torch.float32}
    rows = kept.compute()["prediction"]
    assert rows.dtype == np.float64 and (rows**2).sum() == 2 * (10_001**2 + 10_003**2)


def test_bfloat16_is_kept_as_it_is():
    batch = outputs(6)
    found = gathered({**batch, "prediction": batch["prediction"].bfloat16()})
    assert np.array_equal(found["prediction"], batch["prediction"].bfloat16().double().numpy())


def test_outputs_with_a_graph_are_gathered():
    batch = outputs(4)
    found = gathered({**batch, "prediction": batch["prediction"].requires_grad_()})
    assert np.isfinite(found["prediction"]).all()


def test_reset_forgets_the_epoch():
    kept = EpochOutputs(names=("prediction", "target"))
    kept.update(outputs(5, seed=1))
    kept.reset()
    kept.update(outputs(5, seed=2))
    fresh = gathered(outputs(5, seed=2))
    assert all(np.array_equal(rows, fresh[name]) for name, rows in kept.compute().items())


def test_what_diverged_stays_visible():
    batch = outputs(4)
    assert np.isnan(gathered({**batch, "prediction": batch["prediction"] * math.nan})["prediction"]).all()
