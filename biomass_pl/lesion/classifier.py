"""One picture to one logit."""

from torch import Tensor, nn

BACKBONES = {
    "vit_tiny": "vit_tiny_patch16_224.augreg_in21k",
    "vit_small": "vit_small_patch16_224.augreg_in21k",
    "vit_base": "vit_base_patch16_224.augreg_in21k",
    "eva02_small": "eva02_small_patch14_224.mim_in22k",
    "eva02_base": "eva02_base_patch14_224.mim_in22k",
    "convnextv2_nano": "convnextv2_nano.fcmae_ft_in22k_in1k",
    "convnextv2_tiny": "convnextv2_tiny.fcmae_ft_in22k_in1k",
    "convnextv2_base": "convnextv2_base.fcmae_ft_in22k_in1k",
    "convnext_small": "convnext_small.fb_in22k_ft_in1k",
    "convnext_base": "convnext_base.fb_in22k_ft_in1k",
}
"""Short names of the backbones of the published system. The weights of ConvNeXt V2 may not be used commercially."""


class BinaryClassifier(nn.Module):
    """Backbone, dropout, one linear layer.

    Args:
        backbone: Pictures (B, 3, S, S) to features (B, D).
        num_features: Length D of a feature vector.
        dropout: Dropout rate, 0 to 1.
    """

    def __init__(self, *, backbone: nn.Module, num_features: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Predicts logits (B, 1) from pictures."""
        logits: Tensor = self.head(self.backbone(pictures))
        return logits
