"""Published names of number formats mean what they say, and Lightning knows what they are mapped to."""

from typing import get_args

import pytest
import torch
from lightning.pytorch import Trainer

from biomass_pl.errors import ConfigError
from biomass_pl.training.precision_names import (
    LIGHTNING_PRECISIONS,
    LightningPrecision,
    PublishedPrecision,
    lightning_precision,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("amp", "16-mixed"),
        ("amp_bf16", "bf16-mixed"),
        ("amp_bfloat16", "bf16-mixed"),
        ("bf16", "bf16-true"),
        ("fp16", "16-true"),
        ("pure_bf16", "bf16-true"),
        ("pure_fp16", "16-true"),
        ("fp32", "32-true"),
        ("bf16-mixed", "bf16-mixed"),
        ("32-true", "32-true"),
    ],
)
def test_a_name_is_mapped(name, expected):
    assert lightning_precision(name) == expected


def test_all_names_are_mapped_to_all_formats():
    assert set(LIGHTNING_PRECISIONS) == set(get_args(PublishedPrecision))
    assert set(LIGHTNING_PRECISIONS.values()) == set(get_args(LightningPrecision))


@pytest.mark.parametrize("name", ["amp_fp16", "BF16", "", "64-true"])
def test_an_unknown_name_is_refused_with_the_list(name):
    with pytest.raises(ConfigError) as caught:
        lightning_precision(name)
    assert f"no precision '{name}'" in str(caught.value)
    for published, ours in LIGHTNING_PRECISIONS.items():
        assert f"{published} ({ours})" in str(caught.value)


@pytest.mark.parametrize("name", ["fp32", "amp_bf16", "pure_bf16", "bf16"])
def test_weights_are_of_the_format_where_it_is_no_mixture(name):
    precision = lightning_precision(name)
    trainer = Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False)
    with trainer.precision_plugin.module_init_context():
        layer = torch.nn.Linear(2, 2)
    assert layer.weight.dtype == (torch.bfloat16 if precision == "bf16-true" else torch.float32)
