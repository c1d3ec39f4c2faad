"""Shapes of photos: a network says little of photos that are cut otherwise than those it learned from."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from biomass_pl.data.photos import upright_shape

logger = logging.getLogger(__name__)

_TOLERANCE = 1.1
"""How much wider or narrower than all of the others a photo may be and still count as alike."""

AspectRatios = tuple[float, float]
"""The least and the greatest width by height of photos."""


def aspect_ratio(path: Path) -> float:
    """Width by height of a photo as it is seen, upright.

    Raises:
        DataError: It cannot be read.
    """
    height, width = upright_shape(path)
    return width / height


def aspect_ratios(paths: Iterable[Path]) -> AspectRatios:
    """The least and the greatest width by height of photos.

    Raises:
        DataError: One cannot be read.
    """
    ratios = [aspect_ratio(path) for path in paths]
    return min(ratios), max(ratios)


def warn_of_shapes(photos: Sequence[Path], known: AspectRatios | None) -> None:
    """Warns once of photos that are more than a tenth narrower or wider than all known ones.

    Args:
        photos: The photos.
        known: The least and the greatest width by height of the others; none where nobody knows.

    Raises:
        DataError: A photo cannot be read.
    """
    if known is None:
        return
    least, greatest = known[0] / _TOLERANCE, known[1] * _TOLERANCE
    unlike = [photo for photo in photos if not least <= aspect_ratio(photo) <= greatest]
    if unlike:
        logger.warning(
            "%d of %d photo(s) are of another shape than the training photos, which are %s times as wide as high: "
            "%s%s. What is predicted of them is not to be relied on.",
            len(unlike),
            len(photos),
            " to ".join(dict.fromkeys(f"{ratio:.2f}" for ratio in known)),
            ", ".join(map(str, unlike[:3])),
            ", ..." if len(unlike) > 3 else "",
        )
