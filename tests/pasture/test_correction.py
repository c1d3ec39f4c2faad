"""Dead from Total and GDM, everywhere or where the sums are far off."""

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.pasture import postprocess
from biomass_pl.pasture.correction import correct_dead, derive_dead
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TARGETS, TOTAL

grams = st.lists(st.tuples(*[st.floats(0, 100, width=32)] * 5), min_size=1, max_size=6).map(torch.tensor)


def photo(*, green=10.0, dead=0.0, clover=0.0, gdm=10.0, total=20.0) -> torch.Tensor:
    return torch.tensor([[green, dead, clover, gdm, total]])


def test_dead_is_what_is_left_of_the_total_and_never_negative():
    assert derive_dead(photo(dead=3.0)).tolist() == [[10.0, 10.0, 0.0, 10.0, 20.0]]
    assert derive_dead(photo(dead=3.0, gdm=25.0)).tolist() == [[10.0, 0.0, 0.0, 25.0, 20.0]]


@pytest.mark.parametrize(
    ("dead", "expected"),
    [(10.0, 10.0), (7.5, 7.5), (12.5, 12.5), (6.9, 11.0), (13.1, 11.0)],
    ids=["exact", "below", "above", "far below", "far above"],
)
def test_dead_is_corrected_where_the_gap_exceeds_the_threshold(dead, expected):
    # green + clover is 10 of a total of 20: gaps of dead up to 3 g stay; GDM 9 gives 11
    assert correct_dead(photo(dead=dead, gdm=9.0), threshold=0.15)[0, DEAD].item() == pytest.approx(expected)


def test_the_threshold_moves_the_line():
    assert correct_dead(photo(dead=6.9), threshold=0.16)[0, DEAD].item() == pytest.approx(6.9)
    assert correct_dead(photo(dead=7.5), threshold=0.12)[0, DEAD].item() == 10


def test_only_the_broken_photo_of_a_batch_is_corrected():
    batch = torch.cat([photo(dead=9.0), photo(dead=1.0)])
    assert correct_dead(batch, threshold=0.15)[:, DEAD].tolist() == [9.0, 10.0]
    assert batch[:, DEAD].tolist() == [9.0, 1.0]


def test_a_total_of_zero_gives_numbers():
    nothing = photo(green=0.0, gdm=0.0, total=0.0)
    assert torch.equal(correct_dead(nothing, threshold=0.15), nothing)
    broken = photo(green=0.0, dead=5.0, gdm=2.0, total=0.0)
    assert correct_dead(broken, threshold=0.15).tolist() == [[0.0, 0.0, 0.0, 2.0, 0.0]]


@settings(deadline=None, max_examples=60)
@given(predicted=grams, threshold=st.floats(0, 1))
def test_the_other_targets_stay_and_dead_is_either_its_own_or_derived(predicted, threshold):
    corrected = correct_dead(predicted, threshold=threshold)
    others = [GREEN, CLOVER, GDM, TOTAL]
    assert torch.equal(corrected[:, others], predicted[:, others])
    derived = derive_dead(predicted)[:, DEAD]
    assert ((corrected[:, DEAD] == predicted[:, DEAD]) | (corrected[:, DEAD] == derived)).all()
    assert (corrected >= 0).all()


@settings(deadline=None, max_examples=30)
@given(predicted=grams)
def test_deriving_dead_agrees_with_that_of_tables(predicted):
    table = pd.DataFrame(predicted.numpy(), columns=[f"{target}_pred" for target in TARGETS])
    assert derive_dead(predicted)[:, DEAD].tolist() == postprocess.derive_dead(table)["Dry_Dead_g_pred"].tolist()
