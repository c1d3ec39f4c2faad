"""Names of number formats mean what they say, and Lightning knows what they are mapped to."""

from typing import get_args

import pytest
import torch
from lightning.pytorch import Trainer

from biomass_pl.errors import ConfigError
from biomass_pl.training.precision_names import (
    PUBLISHED_PRECISIONS,
    LightningPrecision,
    PublishedPrecision,
    lightning_precision,
)

ALL = get_args(LightningPrecision)
MIXED = ("32-true", "16-mixed", "bf16-mixed")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("amp", "16-mixed"),
        ("amp_bf16", "bf16-mixed"),
        ("amp_bfloat16", "bf16-mixed"),
        ("fp16", "16-true"),
        ("pure_bf16", "bf16-true"),
        ("pure_fp16", "16-true"),
        ("fp32", "32-true"),
        ("16", "16-mixed"),
        (16, "16-mixed"),
        (32, "32-true"),
        ("32", "32-true"),
        *((name, name) for name in ALL),
    ],
)
def test_a_name_is_mapped(name, expected):
    assert lightning_precision(name, allowed=ALL) == expected


def test_all_published_names_are_mapped_to_all_formats():
    assert set(PUBLISHED_PRECISIONS) == set(get_args(PublishedPrecision))
    assert set(PUBLISHED_PRECISIONS.values()) == set(ALL)


def test_a_name_with_two_meanings_is_refused_with_both():
    told = "trainer.precision bf16 is bf16-mixed to Lightning and was published for bf16-true. Give one of these two."
    with pytest.raises(ConfigError) as caught:
        lightning_precision("bf16", allowed=ALL)
    assert str(caught.value) == told


@pytest.mark.parametrize("allowed", [MIXED, ("bf16-true",)], ids=str)
def test_a_name_with_two_meanings_has_the_one_that_is_allowed(allowed):
    assert lightning_precision("bf16", allowed=allowed) == next(name for name in allowed if name.startswith("bf16"))


@pytest.mark.parametrize("name", ["bf16-true", "pure_bf16", "16-true", "fp16", "pure_fp16"])
def test_a_format_that_is_not_allowed_is_refused_with_those_that_are(name):
    told = f"trainer.precision {name} would round or widen the labels with the inputs. "
    with pytest.raises(ConfigError) as caught:
        lightning_precision(name, allowed=MIXED)
    assert str(caught.value) == f"{told}Use 32-true, 16-mixed or bf16-mixed."


def test_a_single_allowed_format_is_told():
    with pytest.raises(ConfigError, match=r"Use 32-true\.$"):
        lightning_precision("amp", allowed=("32-true",))


@pytest.mark.parametrize("name", ["amp_fp16", "BF16", "", "64-true", 64])
def test_an_unknown_name_is_refused_with_the_list(name):
    with pytest.raises(ConfigError) as caught:
        lightning_precision(name, allowed=MIXED)
    assert str(caught.value) == (
        f"There is no precision '{name}' here. Give 32-true, 16-mixed or bf16-mixed, or a published name, here with "
        "Lightning's: amp (16-mixed), amp_bf16 (bf16-mixed), amp_bfloat16 (bf16-mixed), fp32 (32-true)."
    )
    with pytest.raises(ConfigError) as caught:
        lightning_precision(name, allowed=ALL)
    for published, ours in PUBLISHED_PRECISIONS.items():
        assert (f" {published} ({ours})" in str(caught.value)) is (published != "bf16")


@pytest.mark.parametrize("name", ["fp32", "amp_bf16", "pure_bf16"])
def test_weights_are_of_the_format_where_it_is_no_mixture(name):
    precision = lightning_precision(name, allowed=ALL)
    trainer = Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False)
    with trainer.precision_plugin.module_init_context():
        layer = torch.nn.Linear(2, 2)
    assert layer.weight.dtype == (torch.bfloat16 if precision == "bf16-true" else torch.float32)
