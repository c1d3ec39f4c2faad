"""Losses of images and their texts: contrastive by softmax or sigmoid, over all processes, and of captions."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from biomass_pl.errors import ConfigError
from biomass_pl.training.contrastive import directions
from biomass_pl.training.gather import from_all_processes, mean_over_processes, process_count


@dataclass(frozen=True, kw_only=True)
class ImageTextLoss:
    """Which losses of images and texts are summed, and how processes that train together share the work.

    All allowed settings of `local_loss` and `gather_with_grad` have one meaning: where gradients are averaged over
    processes, they are those of one large batch, for the networks as for scale and bias. They differ in memory and
    in what is sent.

    Args:
        contrastive_weight: Factor of the contrastive loss; 0 leaves it out.
        caption_weight: Factor of the caption loss.
        siglip: Whether pairs are told apart one by one by a sigmoid (SigLIP) instead of by a softmax over a batch.
        local_loss: Compare only the pairs of this process with those of all: similarities (B, P x B) instead of
            (P x B, P x B) for P processes. Needs `gather_with_grad`.
        gather_with_grad: Send gradients back to the process that brought a vector. Otherwise each process computes
            the gradient of its own vectors from all similarities.

    Raises:
        ConfigError: A weight is out of range, nothing is left to learn from, or `local_loss` lacks gradients.
    """

    contrastive_weight: float = 1.0
    caption_weight: float = 2.0
    siglip: bool = False
    local_loss: bool = False
    gather_with_grad: bool = False

    def __post_init__(self) -> None:
        weights = {"contrastive_weight": self.contrastive_weight, "caption_weight": self.caption_weight}
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"model.loss.{name} is {weight}; give 0 or more.")
        if not any(weights.values()):
            raise ConfigError(
                "model.loss.contrastive_weight and model.loss.caption_weight are both 0, which leaves nothing to "
                "learn from. Raise one."
            )
        if self.local_loss and not self.gather_with_grad:
            raise ConfigError(
                "model.loss.local_loss without model.loss.gather_with_grad has no gradient of what other processes "
                "compare, and the networks would learn another loss. Set model.loss.gather_with_grad: true."
            )

    def contrastive(
        self, image: Tensor, text: Tensor, *, log_scale: Tensor, bias: Tensor | None = None, across_processes: bool
    ) -> Tensor:
        """The weighted contrastive loss of pairs.

        Args:
            image: Vectors of images (B, D), of any length.
            text: Vectors of their texts (B, D).
            log_scale: Natural logarithm of the factor of the cosine similarities.
            bias: Added to the scaled similarities; the sigmoid loss needs it.
            across_processes: Whether pairs of all processes are compared, as in training. Every process must then
                bring as many, which shared out validation items do not.

        Returns:
            The loss, float32.
        """
        if not self.siglip:
            bias = None
        elif bias is None:
            raise ConfigError("model.loss.siglip needs a network with a bias of its similarities (logit_bias).")
        with torch.autocast(image.device.type, enabled=False):  # half precision would round what tells pairs apart
            vectors = torch.stack([directions(image), directions(text)])
            pairs = self._over_processes(vectors) if across_processes else _pairs(vectors, vectors)
            scale = _wide(log_scale).exp()
            loss = _softmax_loss(pairs, scale) if bias is None else _sigmoid_loss(pairs, scale, _wide(bias))
            return self.contrastive_weight * loss

    def caption(self, nll: Tensor, tokens: Tensor, *, across_processes: bool) -> Tensor:
        """The weighted caption loss: the mean over tokens, of whatever chunk and process they are.

        Args:
            nll: Sum of the negative log-likelihoods of this process's tokens, as of `token_nll`.
            tokens: Number of these tokens.
            across_processes: Whether the tokens of all processes are counted, as in training: the mean over processes
                of what each returns is then the mean over all tokens, and so are gradients.

        Returns:
            The loss, float32; 0 where there is no token.
        """
        count = tokens.to(nll.dtype)
        if across_processes:
            count = mean_over_processes(count)
        return self.caption_weight * nll / count.clamp(min=1 / process_count())  # without any, nothing is divided

    def _over_processes(self, vectors: Tensor) -> "_Pairs":
        """Pairs of all processes, such that gradients averaged over processes are those of one large batch."""
        if not self.gather_with_grad:
            # All processes compute one loss, each with the gradient of its own vectors alone: averaging divides that.
            vectors = vectors.detach() + process_count() * (vectors - vectors.detach())
        everywhere, rank = from_all_processes(vectors, dim=1, with_grad=self.gather_with_grad)
        if self.local_loss:
            return _pairs(vectors, everywhere, first=rank * vectors.shape[1])
        return _pairs(everywhere, everywhere)


torch.serialization.add_safe_globals([ImageTextLoss])  # checkpoints of tasks made in Python hold one


def token_nll(logits: Tensor, targets: Tensor, *, pad: int) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of tokens and their number, to be summed over chunks.

    Args:
        logits: Logits (B, T, V); those at a position are for the target at that position.
        targets: Token ids (B, T): the texts from their second token on.
        pad: Id that is no token of a text.

    Returns:
        The sum over all tokens but `pad`, float32, and their number.
    """
    with torch.autocast(logits.device.type, enabled=False):
        nll = functional.cross_entropy(
            _wide(logits).flatten(end_dim=-2), targets.flatten(), ignore_index=pad, reduction="sum"
        )
    return nll, (targets != pad).sum()


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Images and texts (2, R, D), all of them (2, N, D), and where among all the partners (R,) are."""

    compared: Tensor
    everywhere: Tensor
    partners: Tensor


def _pairs(compared: Tensor, everywhere: Tensor, *, first: int = 0) -> _Pairs:
    partners = first + torch.arange(compared.shape[1], device=compared.device)
    return _Pairs(compared=compared, everywhere=everywhere, partners=partners)


def _softmax_loss(pairs: _Pairs, scale: Tensor) -> Tensor:
    """Mean cross-entropy of finding the text of an image and the image of a text (Radford et al. 2021, CLIP)."""
    of_images = scale * (pairs.compared[0] @ pairs.everywhere[1].T)
    # Where all are compared with all, one product has the similarities of both.
    is_whole = pairs.compared is pairs.everywhere
    of_texts = of_images.T if is_whole else scale * (pairs.compared[1] @ pairs.everywhere[0].T)
    return (
        functional.cross_entropy(of_images, pairs.partners) + functional.cross_entropy(of_texts, pairs.partners)
    ) / 2


def _sigmoid_loss(pairs: _Pairs, scale: Tensor, bias: Tensor) -> Tensor:
    """Sum over all texts of -log sigmoid(+-(scale x similarity + bias)), mean over images (Zhai et al. 2023, SigLIP).

    The sign is plus for the text of an image and minus for all others.
    """
    logits = scale * (pairs.compared[0] @ pairs.everywhere[1].T) + bias
    is_partner = functional.one_hot(pairs.partners, logits.shape[1]).to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, is_partner, reduction="sum") / len(logits)


def _wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
