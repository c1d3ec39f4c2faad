"""Losses of images and texts by hand, by definition, in half precision, and over two processes."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.image_text_loss import ImageTextLoss, token_nll

PAD = 0
PLAIN = ImageTextLoss(contrastive_weight=1.0, caption_weight=1.0)
SIGLIP = ImageTextLoss(contrastive_weight=1.0, siglip=True)


def pairs(count: int, width: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, text = torch.randn(2, count, width, generator=generator).unbind()
    return image, text


def contrastive(loss: ImageTextLoss, image, text, scale: float, bias: float = 0.0) -> torch.Tensor:
    log_scale, bias = torch.tensor(math.log(scale)), torch.tensor(bias)
    return loss.contrastive(image, text, log_scale=log_scale, bias=bias, across_processes=True)


# By hand


def test_the_contrastive_loss_of_two_pairs_by_hand():
    """Similarities 1 and 0 of images, doubled: ln(1 + e^-2); the second text is as near to both images: ln 2."""
    image = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    text = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    near = 2 / math.sqrt(2)
    of_images = (math.log1p(math.exp(near - 2)) + math.log1p(math.exp(-near))) / 2
    of_texts = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    assert float(contrastive(PLAIN, image, text, 2.0)) == pytest.approx((of_images + of_texts) / 2, rel=1e-6)


def test_the_sigmoid_loss_of_two_pairs_by_hand():
    """Logits 2 x similarity - 1: 1 of partners; -1 and sqrt(2) - 1 of others."""
    image = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    text = torch.tensor([[2.0, 0.0], [0.0, 7.0]])
    expected = (2 * math.log1p(math.exp(-1)) + 2 * math.log1p(math.exp(-1))) / 2
    assert float(contrastive(SIGLIP, image, text, 2.0, -1.0)) == pytest.approx(expected, rel=1e-6)
    text[1] = torch.tensor([1.0, 1.0])
    near = math.sqrt(2) - 1
    terms = [
        math.log1p(math.exp(-1)),
        math.log1p(math.exp(near)),
        math.log1p(math.exp(-1)),
        math.log1p(math.exp(-near)),
    ]
    assert float(contrastive(SIGLIP, image, text, 2.0, -1.0)) == pytest.approx(sum(terms) / 2, rel=1e-6)


def test_the_caption_loss_is_the_mean_over_tokens_but_padding():
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 2] = math.log(3)  # probabilities 1/6, 1/6, 1/2, 1/6
    logits[1, 1:] = torch.tensor([100.0, 0, 0, 0])  # at padding
    nll, count = token_nll(logits, torch.tensor([[2, 3, 1], [2, PAD, PAD]]), pad=PAD)
    assert (float(nll), int(count)) == (pytest.approx(math.log(2) + 3 * math.log(4), rel=1e-6), 4)
    assert float(PLAIN.caption(nll, count, across_processes=True)) == pytest.approx(float(nll) / 4)


def test_a_batch_without_tokens_adds_nothing():
    logits = torch.zeros(1, 2, 4, requires_grad=True)
    nll, count = token_nll(logits, torch.full((1, 2), PAD), pad=PAD)
    loss = PLAIN.caption(nll, count, across_processes=False)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


# By definition


@given(st.integers(1, 6), st.sampled_from([1.0, 14.3, 100.0]), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_the_contrastive_loss_is_the_published_sum(count, scale, seed):
    image, text = pairs(count, seed=seed)
    unit = [[row / row.norm() for row in rows.double()] for rows in (image, text)]
    logits = [[scale * float(one @ other) for other in unit[1]] for one in unit[0]]
    columns = [list(column) for column in zip(*logits, strict=True)]
    total = sum(
        math.log(sum(math.exp(logit - row[place]) for logit in row))
        for rows in (logits, columns)
        for place, row in enumerate(rows)
    )
    assert float(contrastive(PLAIN, image, text, scale)) == pytest.approx(total / (2 * count), rel=2e-5, abs=2e-5)


@pytest.mark.parametrize("count", [2, 5, 64])
def test_without_any_skill_the_loss_is_that_of_chance(count):
    image, text = torch.ones(count, 3), torch.full((count, 3), -2.0)
    assert float(contrastive(PLAIN, image, text, 14.0)) == pytest.approx(math.log(count), abs=1e-4)
    unsure = contrastive(SIGLIP, image, text, 10.0, 10.0)  # logits 0
    assert float(unsure) == pytest.approx(count * math.log(2), rel=1e-4)


@pytest.mark.parametrize("loss", [PLAIN, SIGLIP], ids=["softmax", "sigmoid"])
def test_the_length_of_vectors_does_not_matter_and_their_partner_does(loss):
    image, text = pairs(6)
    value = float(contrastive(loss, image, text, 5.0, -2.0))
    assert float(contrastive(loss, 7 * image, 0.1 * text, 5.0, -2.0)) == pytest.approx(value, rel=1e-5)
    assert float(contrastive(loss, image, image, 5.0, -2.0)) < value


@pytest.mark.parametrize("loss", [PLAIN, SIGLIP], ids=["softmax", "sigmoid"])
def test_half_precision_changes_only_what_it_rounds_before(loss):
    image, text = (vectors.bfloat16() for vectors in pairs(6))
    log_scale, bias = torch.tensor(math.log(14)).bfloat16(), torch.tensor(-10.0).bfloat16()
    expected = loss.contrastive(
        image.float(), text.float(), log_scale=log_scale.float(), bias=bias.float(), across_processes=True
    )
    with torch.autocast("cpu", torch.bfloat16):
        value = loss.contrastive(image, text, log_scale=log_scale, bias=bias, across_processes=True)
        nll, _ = token_nll(torch.full((1, 2, 9), 0.3).bfloat16(), torch.tensor([[3, 4]]), pad=PAD)
    assert value.dtype == nll.dtype == torch.float32
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert float(nll) == pytest.approx(2 * math.log(9), rel=1e-6)


def test_losses_come_weighted():
    image, text = pairs(4)
    weighted = ImageTextLoss(contrastive_weight=0.5, caption_weight=3.0)
    assert float(contrastive(weighted, image, text, 3.0)) == pytest.approx(
        0.5 * float(contrastive(PLAIN, image, text, 3.0))
    )
    assert float(weighted.caption(torch.tensor(8.0), torch.tensor(4), across_processes=True)) == 6


# Two processes


COUNT = 6
CASES = {
    f"{name} local_loss={local} gather_with_grad={with_grad}": ImageTextLoss(
        contrastive_weight=1.0, siglip=siglip, local_loss=local, gather_with_grad=with_grad
    )
    for name, siglip in (("softmax", False), ("sigmoid", True))
    for local, with_grad in ((False, False), (False, True), (True, True))
}


class Towers(nn.Module):
    """Two towers, scale, bias and something that writes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.image, self.text, self.words = nn.Linear(8, 5), nn.Linear(8, 5), nn.Linear(8, 7)
        self.log_scale, self.bias = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(-2.0))

    def contrastive(self, loss: ImageTextLoss, own: slice, *, across: bool = True) -> torch.Tensor:
        image, text = (vectors[own] for vectors in pairs(COUNT))
        return loss.contrastive(
            self.image(image), self.text(text), log_scale=self.log_scale, bias=self.bias, across_processes=across
        )

    def caption(self, own: slice, *, across: bool = True) -> torch.Tensor:
        """Texts of 1 to 6 tokens: 6 of the first process, 15 of the second."""
        image, _ = (vectors[own] for vectors in pairs(COUNT))
        targets = (torch.arange(6).expand(COUNT, 6) <= torch.arange(COUNT).unsqueeze(1)).long()[own] * 3
        nll, count = token_nll(self.words(image).unsqueeze(1).expand(-1, 6, -1), targets, pad=PAD)
        return PLAIN.caption(nll, count, across_processes=across)

    def result(self, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        loss.backward()
        gradients = {name: weight.grad for name, weight in self.named_parameters() if weight.grad is not None}
        return {"loss": loss.detach(), **gradients}


def results_of(own: slice) -> dict[str, dict[str, torch.Tensor]]:
    results = {name: (towers := Towers()).result(towers.contrastive(loss, own)) for name, loss in CASES.items()}
    results["caption"] = (towers := Towers()).result(towers.caption(own))
    return results


def in_a_process(rank: int, folder: str) -> None:
    """Losses and gradients of one process's half of the pairs, averaged as DDP averages them."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    own = slice(rank * COUNT // 2, (rank + 1) * COUNT // 2)
    results = results_of(own)
    for result in results.values():
        for value in result.values():
            torch.distributed.all_reduce(value)
            value /= 2
    if rank == 0:  # the other one does not take part: nothing may wait for it
        towers = Towers()
        alone = [towers.contrastive(loss, own, across=False) for loss in CASES.values()]
        results["alone"] = {"losses": torch.stack([*alone, towers.caption(own, across=False)]).detach()}
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(in_a_process, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", [*CASES, "caption"])
def test_two_processes_have_the_loss_and_gradients_of_one_large_batch(case, processes):
    expected = results_of(slice(None))[case]
    for results in processes:
        assert results[case].keys() == expected.keys()
        for name, value in results[case].items():
            assert torch.allclose(value, expected[name], atol=1e-6, rtol=1e-5), name


def test_a_process_that_validates_waits_for_no_other(processes):
    towers, own = Towers(), slice(0, COUNT // 2)
    expected = [towers.contrastive(loss, own) for loss in CASES.values()]
    expected.append(towers.caption(own))
    assert torch.allclose(processes[0]["alone"]["losses"], torch.stack(expected).detach())


def test_the_exchange_changes_what_one_process_would_learn():
    towers = Towers()
    whole, half = (towers.contrastive(PLAIN, own) for own in (slice(None), slice(0, COUNT // 2)))
    assert abs(float(whole - half)) > 1e-2
    assert abs(float(towers.caption(slice(None)) - towers.caption(slice(0, COUNT // 2)))) > 1e-2


# Settings


def test_local_similarities_without_gradients_of_others_are_refused():
    with pytest.raises(ConfigError, match=r"local_loss without .*\. Set model\.loss\.gather_with_grad: true"):
        ImageTextLoss(local_loss=True)


@pytest.mark.parametrize("name", ["contrastive_weight", "caption_weight"])
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_out_of_range_is_named(name, weight):
    with pytest.raises(ConfigError, match=rf"model\.loss\.{name} is {weight}; give 0 or more"):
        ImageTextLoss(**{name: weight})


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ConfigError, match="are both 0"):
        ImageTextLoss(contrastive_weight=0, caption_weight=0)


def test_the_sigmoid_loss_needs_a_bias():
    image, text = pairs(2)
    with pytest.raises(ConfigError, match="needs a network with a bias"):
        SIGLIP.contrastive(image, text, log_scale=torch.tensor(0.0), across_processes=True)
