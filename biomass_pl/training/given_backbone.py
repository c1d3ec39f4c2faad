"""What stands in a network where the features of its pictures are given."""

from typing import NoReturn

from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.backbone import Backbone


class GivenBackbone(Backbone):
    """A backbone that is not there: it has a length of features, no weights, and takes no picture.

    Args:
        num_features: Length of a feature vector.
    """

    def __init__(self, num_features: int) -> None:
        nn.Module.__init__(self)  # there is no network of timm to make
        self.name = "given features"
        self.network = nn.Identity()
        self.num_features = num_features
        self.feature_shape = (num_features,)
        self.origin = "the features in data.features"

    def forward(self, tiles: Tensor) -> NoReturn:
        """Refuses pictures.

        Raises:
            ConfigError: In any case.
        """
        raise ConfigError(
            "These heads were trained on data.features, not on photos, and no network is there to look at any. "
            "Give the features of the photos as data.features."
        )
