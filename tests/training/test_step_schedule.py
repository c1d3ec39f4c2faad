"""Rates by hand, and never rising again once they are warm."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.training.optim import TrainingLength
from biomass_pl.training.step_schedule import StepSchedule

LENGTH = TrainingLength(epochs=10, steps_per_epoch=4)


def rates(schedule: StepSchedule, steps: range | list[int], peak: float = 2.0) -> list[float]:
    return [schedule.rate(step, peak=peak, length=LENGTH) for step in steps]


def test_the_last_step_of_the_warm_up_has_the_full_rate():
    for name, epochs in (("cosine", None), ("const", None), ("const-cooldown", 1)):
        schedule = StepSchedule(name=name, warmup=4, epochs_cooldown=epochs)
        assert rates(schedule, range(5)) == [0.5, 1.0, 1.5, 2.0, 2.0]


def test_a_cosine_by_hand():
    schedule = StepSchedule(warmup=8)
    expected = [2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5), 0.0]
    assert rates(schedule, [8, 16, 24, 32, 40]) == pytest.approx(expected)


def test_without_warm_up_the_full_rate_comes_first():
    assert rates(StepSchedule(warmup=0), [0, 20, 40]) == pytest.approx([2.0, 1.0, 0.0])
    assert rates(StepSchedule(warmup=0, name="const"), [0, 20, 40]) == [2.0] * 3


def test_a_cooldown_by_hand():
    """The last two epochs are 8 steps; from 2 to 0.5 is 1.5."""
    linear = StepSchedule(name="const-cooldown", warmup=0, epochs_cooldown=2, cooldown_end=0.5)
    assert rates(linear, [0, 31, 32, 34, 36, 38, 40]) == [2.0, 2.0, 2.0, 1.625, 1.25, 0.875, 0.5]
    square = StepSchedule(name="const-cooldown", warmup=0, epochs_cooldown=2, cooldown_end=0.5, cooldown_power=2)
    assert rates(square, [32, 36, 38, 40]) == [2.0, 0.5 + 1.5 / 4, 0.5 + 1.5 / 16, 0.5]


@pytest.mark.parametrize(("name", "epochs"), [("cosine", None), ("const", None), ("const-cooldown", 3)])
def test_what_is_skipped_is_all_but_the_warm_up(name, epochs):
    schedule = StepSchedule(name=name, warmup=4, epochs_cooldown=epochs, skip=True)
    assert rates(schedule, range(60)) == [0.5, 1.0, 1.5, *[2.0] * 57]
    assert set(rates(StepSchedule(warmup=0, skip=True), range(60))) == {2.0}


@given(
    name=st.sampled_from(["cosine", "const", "const-cooldown"]),
    warmup=st.integers(0, 60),
    cooldown=st.integers(1, 10),
    end=st.floats(0, 1),
    power=st.floats(0.1, 5),
    skip=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_a_rate_rises_in_the_warm_up_and_never_again(name, warmup, cooldown, end, power, skip):
    epochs = cooldown if name == "const-cooldown" else None
    schedule = StepSchedule(
        name=name, warmup=warmup, epochs_cooldown=epochs, cooldown_end=end, cooldown_power=power, skip=skip
    )
    values = rates(schedule, range(100), peak=1.0)
    assert all(first < second for first, second in pairwise(values[: min(warmup, 40)]))
    assert all(first >= second for first, second in pairwise(values[max(0, warmup - 1) :]))
    assert all(0 <= value <= 1 for value in values)
    assert len(set(values[40:])) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "linear"}, r"model\.scheduler\.name is 'linear'; give one of cosine, const, const-cooldown"),
        ({"warmup": -1}, r"model\.scheduler\.warmup is -1; give 0 steps or more"),
        ({"name": "const-cooldown"}, "epochs_cooldown None: const-cooldown needs its number of epochs"),
        ({"epochs_cooldown": 2}, "cosine with .*epochs_cooldown 2: .* no other schedule has one"),
        ({"name": "const-cooldown", "epochs_cooldown": 0}, r"epochs_cooldown is 0; give 1 or more"),
        ({"cooldown_end": -0.1}, r"cooldown_end is -0\.1; give a rate of 0 or more"),
        ({"cooldown_end": math.nan}, "cooldown_end is nan"),
        ({"cooldown_power": 0.0}, r"cooldown_power is 0\.0; give more than 0"),
        ({"cooldown_power": math.inf}, "cooldown_power is inf"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        StepSchedule(**settings)


def test_a_cooldown_that_does_not_fit_the_training_is_refused():
    schedule = StepSchedule(name="const-cooldown", epochs_cooldown=10, cooldown_end=0.1)
    schedule.check(peak=0.1, length=LENGTH)
    with pytest.raises(ConfigError, match=r"epochs_cooldown 10 is more than trainer\.max_epochs 9\. Lower it"):
        schedule.check(peak=0.1, length=TrainingLength(epochs=9, steps_per_epoch=4))
    with pytest.raises(ConfigError, match=r"cooldown_end 0\.1 is above the rate 0\.09"):
        schedule.check(peak=0.09, length=LENGTH)
