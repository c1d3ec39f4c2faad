"""Batches whose photos and targets are mixed in the same proportion."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.training.batch_mixing import BatchMixing

SIDE = 16
BOTH = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}


def flat(values, channels=3, dtype=torch.uint8):
    """Photos of one grey level each."""
    return torch.tensor(values, dtype=dtype).view(-1, 1, 1, 1).repeat(1, channels, SIDE, SIDE)


def seeded(mixing, seed, *arguments):
    torch.manual_seed(seed)
    return mixing.mix(*arguments)


def share_kept(targets):
    """How much each photo keeps of itself, where photo i alone has column i."""
    kept = targets.diagonal()
    assert (kept == kept[0]).all()
    return kept[0].item()


@settings(deadline=None, max_examples=50)
@given(alpha=st.floats(0.05, 4), seed=st.integers(0, 10**6))
def test_mixup_weighs_photos_bands_and_targets_alike(alpha, seed):
    photos, bands = flat([0, 100, 250]), flat([0.0, 1.0, 7.0], channels=5, dtype=torch.float32)
    (mixed, mixed_bands), targets, is_mixed = seeded(
        BatchMixing(mixup_alpha=alpha), seed, [photos, bands], torch.eye(3)
    )
    kept = share_kept(targets)
    assert is_mixed and type(mixed) is torch.Tensor and mixed.dtype == torch.float32
    assert (mixed.shape, mixed_bands.shape) == (photos.shape, bands.shape)
    for part, levels in ((mixed, (0, 100, 250)), (mixed_bands, (0, 1, 7))):
        expected = [kept * level + (1 - kept) * levels[number - 1] for number, level in enumerate(levels)]
        assert part.mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-4)
        assert part.flatten(1).std(dim=1).max() < 1e-3  # everywhere the same
    before = targets[[1, 2, 0], [0, 1, 2]]
    assert before.tolist() == pytest.approx([1 - kept] * 3, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(alpha=st.floats(0.05, 4), seed=st.integers(0, 10**6))
def test_cutmix_pastes_one_box_and_the_targets_have_its_real_area(alpha, seed):
    """The box is cut off at the border, so that its area differs from the share that was drawn."""
    photos, bands = flat([10, 20, 30]), flat([1.0, 2.0, 3.0], channels=5, dtype=torch.float32)
    (mixed, mixed_bands), targets, is_mixed = seeded(
        BatchMixing(cutmix_alpha=alpha), seed, [photos, bands], torch.eye(3)
    )
    assert is_mixed and mixed.dtype == torch.uint8 and type(mixed) is torch.Tensor
    pasted = mixed[0, 0] == 30
    rows, columns = pasted.any(dim=1).nonzero().flatten(), pasted.any(dim=0).nonzero().flatten()
    assert pasted.sum() == len(rows) * len(columns)  # a box
    for number, own, other in ((0, 10, 30), (1, 20, 10), (2, 30, 20)):
        expected = torch.where(pasted, other, own)
        assert torch.equal(mixed[number], expected.expand(3, SIDE, SIDE).to(torch.uint8))
        assert torch.equal(mixed_bands[number], (expected / 10).expand(5, SIDE, SIDE))
    assert share_kept(targets) == pytest.approx(1 - pasted.sum().item() / SIDE**2, abs=1e-6)
    assert targets.sum(dim=1).tolist() == pytest.approx([1] * 3, abs=1e-6)


def test_boxes_are_often_cut_off_at_the_border_and_targets_follow():
    """Uncorrected, the mean share kept of Beta(1, 1) would be a half; a cut box leaves more."""
    mixing, photos = BatchMixing(cutmix_alpha=1.0), flat([0, 1])
    kept = [share_kept(seeded(mixing, seed, [photos], torch.eye(2))[1]) for seed in range(300)]
    assert sum(kept) / len(kept) > 0.55


def test_any_targets_can_be_mixed_and_what_was_given_is_left_as_it_is():
    photos, grams = flat([0, 100, 200]), torch.tensor([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0]])
    copies = photos.clone(), grams.clone()
    for mixing in (BatchMixing(mixup_alpha=1.0), BatchMixing(cutmix_alpha=1.0)):
        _, mixed, _ = seeded(mixing, 3, [photos], grams)
        kept = (mixed[0, 0].item() - 30) / (10 - 30)
        expected = kept * grams + (1 - kept) * grams.roll(1, 0)
        assert mixed.flatten().tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-4)
    assert torch.equal(photos, copies[0]) and torch.equal(grams, copies[1])


@pytest.mark.parametrize("mixing", [BatchMixing(), BatchMixing(**BOTH, probability=0)], ids=["off", "never"])
def test_without_mixing_a_batch_stays_as_it_is(mixing):
    photos, targets = flat([1, 2]), torch.eye(2)
    (same,), same_targets, is_mixed = seeded(mixing, 0, [photos], targets)
    assert same is photos and same_targets is targets and not is_mixed


def test_a_batch_of_one_is_left_alone_and_draws_nothing():
    photos, targets = flat([7]), torch.ones(1, 1)
    (same,), same_targets, is_mixed = seeded(BatchMixing(**BOTH), 0, [photos], targets)
    after = torch.rand(())
    torch.manual_seed(0)
    assert same is photos and same_targets is targets and not is_mixed and torch.rand(()) == after


def kinds(mixing, draws=600):
    """Share of batches mixed by MixUp, and by CutMix."""
    torch.manual_seed(0)
    found = [mixing.mix([flat([0, 200])], torch.eye(2)) for _ in range(draws)]
    by_mixup = sum(is_mixed and pixels[0].is_floating_point() for pixels, _, is_mixed in found)
    return by_mixup / draws, sum(is_mixed for *_, is_mixed in found) / draws - by_mixup / draws


@pytest.mark.parametrize(
    ("arguments", "mixup", "cutmix"),
    [
        ({**BOTH}, 0.5, 0.5),
        ({**BOTH, "probability": 0.6, "switch_probability": 0.25}, 0.45, 0.15),
        ({**BOTH, "switch_probability": 1.0}, 0, 1),
        ({**BOTH, "switch_probability": 0.0}, 1, 0),
        ({"mixup_alpha": 0.8, "switch_probability": 1.0}, 1, 0),
        ({"cutmix_alpha": 1.0, "switch_probability": 0.0}, 0, 1),
        ({"mixup_alpha": 1.0, "cutmix_alpha": 1.0}, 0.5, 0.5),
    ],
)
def test_batches_are_mixed_as_often_as_asked_for(arguments, mixup, cutmix):
    # A standard deviation of a share in 600 draws is .02 at most.
    assert kinds(BatchMixing(**arguments)) == pytest.approx((mixup, cutmix), abs=0.06)


def test_the_share_kept_is_drawn_from_the_beta_distribution():
    """Beta(a, a) has a mean of 1/2 and a variance of 1 / (4 (2a + 1))."""
    for alpha in (0.2, 0.8, 4.0):
        mixing, photos = BatchMixing(mixup_alpha=alpha), flat([0, 1])
        torch.manual_seed(0)
        kept = torch.tensor([share_kept(mixing.mix([photos], torch.eye(2))[1]) for _ in range(500)])
        assert kept.mean().item() == pytest.approx(0.5, abs=0.06)
        assert kept.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def test_the_same_seed_mixes_alike():
    mixing = BatchMixing(**BOTH)
    photos = torch.randint(256, (4, 3, SIDE, SIDE), dtype=torch.uint8)
    first = [seeded(mixing, seed, [photos], torch.eye(4)) for seed in range(10)]
    again = [seeded(mixing, seed, [photos], torch.eye(4)) for seed in reversed(range(10))]
    for (one, shares, _), (other, other_shares, _) in zip(first, reversed(again), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(shares, other_shares)
    assert len({one[0].numpy().tobytes() for one, *_ in first}) == 10


def test_settings_survive_a_checkpoint_that_may_hold_no_code(tmp_path):
    mixing = BatchMixing(**BOTH, probability=0.9)
    torch.save({"mixing": mixing}, tmp_path / "settings.pt")
    assert torch.load(tmp_path / "settings.pt", weights_only=True) == {"mixing": mixing}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mixup_alpha", -0.1, "BatchMixing.mixup_alpha is -0.1; give 0 .off. or more"),
        ("mixup_alpha", math.nan, "BatchMixing.mixup_alpha is nan; give"),
        ("cutmix_alpha", math.inf, "BatchMixing.cutmix_alpha is inf; give"),
        ("probability", 1.5, "BatchMixing.probability is 1.5; give a share from 0 to 1"),
        ("switch_probability", -0.5, "BatchMixing.switch_probability is -0.5; give a share"),
    ],
)
def test_settings_out_of_range_are_refused(name, value, message):
    with pytest.raises(ConfigError, match=message):
        BatchMixing(**{name: value})
