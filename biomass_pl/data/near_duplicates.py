"""Which photos show the same picture, though files and pixels differ: resized, compressed, flipped, turned, brightened.

Two steps. A coarse outline of each photo is compared with those of all others in one product of matrices; few pairs
remain. Of these the details are compared, in patches that may lie a little apart.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from biomass_pl.data.photos import PhotoPaths, Photos, check_photos
from biomass_pl.errors import DataError
from biomass_pl.terminal import progress

_SIDE = 64
"""Side of a thumbnail in pixels; all blurs below are in its pixels."""

_OUTLINE_SIDE = 12
_OUTLINE_BLUR = 8.0
"""What is coarser than this, such as a light centre on dark ground, says nothing and is taken out of an outline."""

_SAME_OUTLINE = 0.55
"""Correlation from which details are compared. Of 96,580 pairs of 440 photos of cotton in the field one in a thousand
reaches it; 99 of 100 copies that are cropped to 95 % of each side reach .59 where a corner is cut off, and .81 where
the rim is."""

_DETAIL_BLUR = 1.2
"""Takes out noise and the blocks of JPEG."""
_DETAIL_GROUND = 4.0
_DETAIL_CONTRAST = 5.0
_LEAST_CONTRAST = 2.0
"""Grey levels; keeps noise of even ground from being enlarged as much as a picture's details."""

_SHIFT = 6
"""Pixels by which details may lie apart in each direction, about a tenth of the side."""

_SAME_DETAILS = 0.72
"""Correlation from which two photos are the same picture. On the 440 photos of cotton the closest two that show
different things reach .65, and the two pairs that show one thing from one place .80 and .81. Of copies, 99 of 100 reach
.96 where they are half as large, .94 at JPEG quality 10, .85 where they are brightened by 40 % or their hue turns by 24
degrees, .83 turned by 3 degrees and .79 cropped to 95 % of each side. Further crops and turns are not found: they would
let different things pass."""

_ROWS_TOGETHER = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pictures:
    """What is compared of photos.

    Args:
        thumbnails: Grey, uint8 (photos, 64, 64).
        outlines: Float32 (photos, 12, 12); each of mean 0 and length 1, or all 0 where there is nothing to see.
    """

    thumbnails: np.ndarray
    outlines: np.ndarray


def near_duplicates(paths: Sequence[Path]) -> np.ndarray:
    """Pairs of photos that show the same picture, in any of the eight flips and quarter turns.

    Args:
        paths: The photos.

    Returns:
        Their indices (pairs, 2), the smaller one first; ascending.

    Raises:
        DataError: Photos cannot be read; names all of them.
    """
    pictures = _pictures_of_files(paths)
    same = {(first, second) for first, second, _ in _same(pictures, pictures) if first < second}
    return np.array(sorted(same), dtype=int).reshape(-1, 2)


def closest_originals(copies: Sequence[Path], originals: Photos, names: Sequence[str]) -> np.ndarray:
    """The original that each copy shows, in any of the eight flips and quarter turns.

    Args:
        copies: Changed copies.
        originals: What they may be copies of.
        names: Names of the originals.

    Returns:
        For each copy the index of the original that is most like it; -1 where none shows the same picture.

    Raises:
        DataError: Photos cannot be read; names all of them.
    """
    closest = np.full(len(copies), -1)
    most_alike = np.zeros(len(copies))
    for copy, original, likeness in _same(_pictures_of_files(copies), _pictures(originals, names)):
        if likeness > most_alike[copy]:
            closest[copy], most_alike[copy] = original, likeness
    return closest


def connected_groups(count: int, pairs: Iterable[Sequence[int]]) -> np.ndarray:
    """Groups of what is connected by pairs, directly or through others.

    Args:
        count: Number of things.
        pairs: Indices of two things that belong together.

    Returns:
        Number of each thing's group (count,), from 0, in the order of their first members.
    """
    parents = list(range(count))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for first, second in pairs:
        parents[root(first)] = root(second)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(index), len(numbers)) for index in range(count)], dtype=int)


def _pictures_of_files(paths: Sequence[Path]) -> _Pictures:
    try:
        return _pictures(PhotoPaths({str(path): path for path in paths}), [str(path) for path in paths])
    except DataError:
        check_photos(paths)  # names all of them
        raise


def _pictures(photos: Photos, names: Sequence[str]) -> _Pictures:
    thumbnails = np.zeros((len(names), _SIDE, _SIDE), dtype=np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("Comparing photos", len(names)) as advance:
        try:
            for index, thumbnail in enumerate(pool.map(partial(_thumbnail, photos), names)):
                thumbnails[index] = thumbnail
                advance()
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    outlines = np.array([_outline(thumbnail) for thumbnail in thumbnails], dtype=np.float32)
    return _Pictures(thumbnails=thumbnails, outlines=outlines.reshape(-1, _OUTLINE_SIDE, _OUTLINE_SIDE))


def _thumbnail(photos: Photos, name: str) -> np.ndarray:
    """A photo squeezed into a small square, so that a turned one is as its original turned."""
    photo = photos.read(name, at_least=(_SIDE, _SIDE))
    return cv2.resize(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _outline(thumbnail: np.ndarray) -> np.ndarray:
    coarse = cv2.resize(
        _without_ground(thumbnail.astype(np.float32), _OUTLINE_BLUR),
        (_OUTLINE_SIDE, _OUTLINE_SIDE),
        interpolation=cv2.INTER_AREA,
    )
    coarse -= coarse.mean()
    length = float(np.linalg.norm(coarse))
    return coarse / length if length > 1 else np.zeros_like(coarse)


def _details(thumbnail: np.ndarray) -> np.ndarray:
    """Fine structure, as strong in the shade as in the light."""
    fine = _without_ground(_blurred(thumbnail.astype(np.float32), _DETAIL_BLUR), _DETAIL_GROUND)
    return np.asarray(fine / (np.sqrt(_blurred(fine * fine, _DETAIL_CONTRAST)) + _LEAST_CONTRAST))


def _without_ground(picture: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(picture - _blurred(picture, width))


def _blurred(picture: np.ndarray, width: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), width)


def _same(some: _Pictures, others: _Pictures) -> Iterator[tuple[int, int, float]]:
    """Indices of one of `some` and one of `others` that show the same picture, and how alike they are.

    A photo is compared with all others, so those of one set are found twice, and each with itself.
    """
    for first, second, orientation in _candidates(some.outlines, others.outlines):
        if some is others and first >= second:
            continue
        turned = _oriented(others.thumbnails[second], orientation)
        likeness = _likeness(_details(some.thumbnails[first]), _details(turned))
        if likeness >= _SAME_DETAILS:
            yield first, second, likeness


def _candidates(some: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Index of an outline in each, and the orientation of the second in which they are alike."""
    turned = [_oriented(others, orientation).reshape(-1, _OUTLINE_SIDE**2) for orientation in range(8)]
    for start in range(0, len(some), _ROWS_TOGETHER):
        block = some[start : start + _ROWS_TOGETHER].reshape(-1, _OUTLINE_SIDE**2)
        for orientation, outlines in enumerate(turned):
            rows, columns = np.nonzero(block @ outlines.T >= _SAME_OUTLINE)
            yield from ((int(row) + start, int(column), orientation) for row, column in zip(rows, columns, strict=True))


def _oriented(pictures: np.ndarray, orientation: int) -> np.ndarray:
    """Square pictures (..., side, side) in one of the eight flips and quarter turns."""
    turned = np.rot90(pictures, orientation % 4, axes=(-2, -1))
    return np.ascontiguousarray(turned if orientation < 4 else turned[..., ::-1])


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """The larger correlation of the middle of one with any place of the other, as which is the crop is unknown."""
    inside = slice(_SHIFT, -_SHIFT)
    found = [0.0]
    for middle, whole in ((one[inside, inside], other), (other[inside, inside], one)):
        if middle.std() > 0:  # OpenCV calls an even picture equal to any other
            match = cv2.matchTemplate(whole, np.ascontiguousarray(middle), cv2.TM_CCOEFF_NORMED)
            found.append(float(match.max()))
    return max(found)
