"""The hierarchical vision transformer HViT (Jha and others 2026, arXiv 2601.11612) as a network of timm.

Four stages of global attention; between two stages each 2 x 2 tokens become one of twice the width. There is no class
token: the mean of the last tokens is classified.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.patch_embed import PatchEmbed
from timm.layers.weight_init import trunc_normal_
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biomass_pl.training.hvit_weights import adapt_state, resize_positions

Grid = tuple[int, int]
"""Rows and columns of tokens."""


class ImageSizeError(ValueError):
    """An image whose sides do not divide as the stages need it.

    Args:
        sides: Height and width in pixels.
        multiple: Pixels that the sides must be multiples of.

    Attributes:
        fitting: For each side, the next sides that fit, below and above.
    """

    def __init__(self, sides: tuple[int, int], multiple: int) -> None:
        self.fitting = tuple((fits := max(1, side // multiple) * multiple, fits + multiple) for side in sides)
        height, width = (f"{below} or {above}" for below, above in self.fitting)
        fit = height if sides[0] == sides[1] else f"{height} (height) and {width} (width)"
        super().__init__(
            f"sides must be multiples of {multiple} px, which {sides[0]} x {sides[1]} are not; {fit} would fit"
        )


class PatchMerging(nn.Module):
    """Makes one token of each 2 x 2, with twice the width: normalised first, then projected."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, h * w / 4, 2 C) of tokens (B, h * w, C).

        The four neighbours stand one after another by column, then by row, as in the published checkpoints.
        """
        height, width = grid
        cells = tokens.view(len(tokens), height // 2, 2, width // 2, 2, -1).permute(0, 1, 3, 4, 2, 5)
        merged: Tensor = self.reduction(self.norm(cells.reshape(len(tokens), height * width // 4, -1)))
        return merged


class Stage(nn.Module):
    """Transformer blocks of one width, and the merging after them in all stages but the last."""

    def __init__(self, *, blocks: Sequence[nn.Module], merging: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = merging
        self.grad_checkpointing = False

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens (B, h * w, C) and their grid after this stage."""
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return self.merge(tokens, grid)

    def merge(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """What leaves the stage, of what its last block gives."""
        return (self.downsample(tokens, grid), (grid[0] // 2, grid[1] // 2)) if self.downsample else (tokens, grid)


class HierarchicalViT(nn.Module):
    """Images in, class scores out; the interface is that of timm's vision transformers.

    Args:
        img_size: Side, or height and width in pixels, that the positions are learned for; others are interpolated.
        patch_size: Side of a patch in pixels.
        in_chans: Channels of an image.
        num_classes: Classes; 0 for no classifier.
        embed_dim: Width of the first stage; each stage doubles it.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        mlp_ratio: Hidden width of a block's MLP, as a multiple of the stage's.
        qkv_bias: Whether queries, keys and values have biases.
        fc_norm: Whether the mean of the tokens is normalised before the classifier.
        drop_rate: Dropout before the classifier.
        pos_drop_rate: Dropout after the positions are added.
        proj_drop_rate: Dropout in the MLPs and after the projection of the attention.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 in the first.

    Raises:
        ImageSizeError: The sides of the images are no multiples of `patch_size * 2 ** (len(depths) - 1)`.
        ValueError: There are not as many `depths` as `num_heads`.
    """

    def __init__(
        self,
        *,
        img_size: int | Sequence[int] = 256,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        fc_norm: bool = True,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads):
            raise ValueError(f"depths {list(depths)} and num_heads {list(num_heads)} must have one number per stage")
        self.in_chans = in_chans
        self.depths = tuple(depths)
        self.num_features = self.head_hidden_size = embed_dim * 2 ** (len(depths) - 1)
        self.patch_size = patch_size
        self.side_multiple = patch_size * 2 ** (len(depths) - 1)
        sides = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
        self.patch_embed = PatchEmbed(
            sides, patch_size, in_chans, embed_dim, norm_layer=nn.LayerNorm, strict_img_size=False
        )
        # With the grid in its shape, a table of positions is never guessed to be square.
        self.pos_embed = nn.Parameter(torch.empty(1, *self._grid(sides), embed_dim))
        self.pos_drop = nn.Dropout(pos_drop_rate)
        block = partial(
            Block,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            proj_drop=proj_drop_rate,
            attn_drop=attn_drop_rate,
            norm_layer=nn.LayerNorm,
        )
        self.stages = nn.ModuleList(_make_stages(block, embed_dim, depths, num_heads, drop_path_rate))
        self.norm = nn.LayerNorm(self.num_features)
        self.fc_norm = nn.LayerNorm(self.num_features) if fc_norm else nn.Identity()
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)
        trunc_normal_(self.pos_embed, std=0.02)
        self.apply(_initialise)
        self.register_load_state_dict_pre_hook(adapt_state)  # type: ignore[no-untyped-call]

    def embed(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """Patches with their positions.

        Args:
            pixels: Normalised images (B, channels, H, W).

        Returns:
            Tokens (B, h * w, C) and their grid (h, w).

        Raises:
            ImageSizeError: The sides of the images do not divide.
        """
        grid = self._grid((pixels.shape[-2], pixels.shape[-1]))
        tokens = self.patch_embed(pixels) + resize_positions(self.pos_embed, grid).flatten(1, 2)
        return self.pos_drop(tokens), grid

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens (B, N, D) of the last stage, of images (B, channels, H, W)."""
        tokens, grid = self.embed(x)
        for stage in self.stages:
            tokens, grid = stage(tokens, grid)
        normalised: Tensor = self.norm(tokens)
        return normalised

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Class scores of tokens (B, N, D), or what the classifier would take."""
        features: Tensor = self.head_drop(self.fc_norm(x.mean(dim=1)))
        return features if pre_logits else self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (B, num_classes) of images (B, channels, H, W); without classifier, features (B, D)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Another classifier, with new weights; none for 0 classes."""
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        _initialise(self.head)
        self.head.to(self.norm.weight)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training computes the activations of a block again in the backward pass."""
        stages: Any = self.stages
        for stage in stages:
            stage.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that put parameters in layers, for timm: stem, blocks or (coarse) stages; the norms are last."""
        # A merging belongs to the last block before it.
        merging = [(rf"^stages\.({stage})\.downsample", (depth - 1,)) for stage, depth in enumerate(self.depths)]
        blocks = r"^stages\.(\d+)" if coarse else [(r"^stages\.(\d+)\.blocks\.(\d+)", None), *merging]
        return {"stem": r"^patch_embed|^pos_embed", "blocks": blocks}

    def no_weight_decay(self) -> set[str]:
        """Parameters that weight decay should leave alone, besides norms and biases."""
        return {"pos_embed"}

    def _grid(self, sides: tuple[int, int]) -> Grid:
        if min(sides) < 1 or any(side % self.side_multiple for side in sides):
            raise ImageSizeError(sides, self.side_multiple)
        return sides[0] // self.patch_size, sides[1] // self.patch_size


def _make_stages(
    block: Callable[..., nn.Module], width: int, depths: Sequence[int], num_heads: Sequence[int], drop_path_rate: float
) -> list[Stage]:
    rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
    stages = []
    for number, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        blocks = [block(width, heads, drop_path=next(rates)) for _ in range(depth)]
        last = number == len(depths) - 1
        stages.append(Stage(blocks=blocks, merging=None if last else PatchMerging(width)))
        width *= 2
    return stages


def _initialise(module: nn.Module) -> None:
    """Published: truncated normal linear layers, a patch projection as for ReLU; norms as PyTorch makes them."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


default_cfgs = generate_default_cfgs(
    {
        name: {
            "input_size": (3, side, side),
            "fixed_input_size": True,
            "crop_pct": 1.0,
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
        for name, side in {"hvit_tiny": 256, "hvit_small": 256, "hvit_base": 256, "hvit_xl": 448}.items()
    }
)
"""Read by timm; without addresses of weights, because none are published for download."""


def _create(name: str, pretrained: bool, given: dict[str, Any], **sizes: Any) -> HierarchicalViT:
    network: HierarchicalViT = build_model_with_cfg(HierarchicalViT, name, pretrained, **{**sizes, **given})
    return network


@register_model
def hvit_tiny(pretrained: bool = False, **kwargs: Any) -> HierarchicalViT:
    """HViT of 11 million parameters."""
    return _create("hvit_tiny", pretrained, kwargs, embed_dim=64, depths=(2, 2, 4, 2), num_heads=(2, 4, 8, 16))


@register_model
def hvit_small(pretrained: bool = False, **kwargs: Any) -> HierarchicalViT:
    """HViT of 28 million parameters, the published default."""
    return _create("hvit_small", pretrained, kwargs, embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))


@register_model
def hvit_base(pretrained: bool = False, **kwargs: Any) -> HierarchicalViT:
    """HViT of 87 million parameters."""
    return _create("hvit_base", pretrained, kwargs, embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32))


@register_model
def hvit_xl(pretrained: bool = False, **kwargs: Any) -> HierarchicalViT:
    """HViT of 274 million parameters, for images of 448 px in patches of 14."""
    return _create(
        "hvit_xl", pretrained, kwargs, patch_size=14, embed_dim=192, depths=(3, 6, 24, 3), num_heads=(6, 12, 24, 48)
    )
