"""Settings of the trainer that cannot end in a score are refused by name."""

from types import SimpleNamespace

import pytest

from biomass_pl.errors import ConfigError
from biomass_pl.harness.trainer_settings import check_trainer

SERVED = {
    "max_epochs": 3,
    "max_steps": -1,
    "limit_val_batches": None,
    "overfit_batches": 0.0,
    "check_val_every_n_epoch": 1,
}


@pytest.mark.parametrize(
    "change",
    [{}, {"max_steps": None}, {"limit_val_batches": 2}, {"limit_val_batches": 0.5}, {"check_val_every_n_epoch": 3}],
    ids=str,
)
def test_what_makes_sense_is_served(change):
    check_trainer(SimpleNamespace(**SERVED | change))


@pytest.mark.parametrize(
    "change",
    [
        {"max_steps": 10},
        {"max_epochs": -1},
        {"max_epochs": None},
        {"max_epochs": 0},
        {"limit_val_batches": 0},
        {"limit_val_batches": 0.0},
        {"overfit_batches": 2},
        {"check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 4},
    ],
    ids=str,
)
def test_what_ends_in_no_score_is_named(change):
    (name,) = change
    with pytest.raises(ConfigError, match=rf"trainer\.{name}"):
        check_trainer(SimpleNamespace(**SERVED | change))
