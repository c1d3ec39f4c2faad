"""Which parts of the towers stand still in training."""

from dataclasses import dataclass

from biomass_pl.errors import ConfigError
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.training.locking import LockedModules, lock

_GROUPS = {"image": "model.lock_image_unlocked_groups", "text": "model.lock_text_unlocked_layers"}


@dataclass(frozen=True, kw_only=True)
class TowerLocks:
    """What is locked of both towers.

    Args:
        image: Lock the image tower.
        image_unlocked_groups: Its last groups that learn nevertheless.
        image_freeze_bn_stats: Whether batch normalisation in its locked part keeps its statistics.
        text: Lock the text tower.
        text_unlocked_layers: Its last groups that learn nevertheless.
        text_freeze_layer_norm: Whether layer normalisation in its locked part is locked as well.

    Raises:
        ConfigError: Something is to learn on of a tower that is not locked.
    """

    image: bool
    image_unlocked_groups: int
    image_freeze_bn_stats: bool
    text: bool
    text_unlocked_layers: int
    text_freeze_layer_norm: bool

    def __post_init__(self) -> None:
        for tower, count in (("image", self.image_unlocked_groups), ("text", self.text_unlocked_layers)):
            if count and not getattr(self, tower):
                raise ConfigError(
                    f"{_GROUPS[tower]} is {count}, but nothing of the {tower} tower is locked. "
                    f"Set model.lock_{tower}: true, or leave it out."
                )

    def apply(self, network: SlideCaptioner) -> dict[str, LockedModules]:
        """Locks the towers of a network that has no optimizer yet.

        Returns:
            What has to run in eval mode, by the name of the tower.

        Raises:
            ConfigError: A tower to lock is not there or has not as many groups.
        """
        locked = {}
        if self.image:
            if network.image is None:
                raise ConfigError("model.lock_image needs an image tower, which a language model lacks. Leave it out.")
            locked["image"] = lock(
                network.image,
                network.image_groups(),
                unlocked_groups=self.image_unlocked_groups,
                freeze_layer_norm=True,
                freeze_bn_stats=self.image_freeze_bn_stats,
                setting=_GROUPS["image"],
            )
        if self.text:
            locked["text"] = lock(
                network.text,
                network.text_groups(),
                unlocked_groups=self.text_unlocked_layers,
                freeze_layer_norm=self.text_freeze_layer_norm,
                freeze_bn_stats=False,
                setting=_GROUPS["text"],
            )
        return locked
