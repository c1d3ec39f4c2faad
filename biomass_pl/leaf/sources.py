"""Which photos belong together: the same picture twice, groups that were given, and changed copies of an original."""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from biomass_pl.data.near_duplicates import closest_originals, connected_groups, near_duplicates
from biomass_pl.data.photos import PhotoPaths
from biomass_pl.errors import FoldError, listed

logger = logging.getLogger(__name__)


def find_sources(originals: pd.DataFrame, contents: Mapping[str, str]) -> np.ndarray:
    """What each photo was taken of, as far as it can be told.

    Photos have one source if they are near-identical or byte-identical, or if one group was given for them.

    Args:
        originals: Photos, as in `LeafTable`.
        contents: What stands for the content of each, by `image_id`.

    Returns:
        For each photo the `image_id` of the first photo of its source.

    Raises:
        DataError: Photos cannot be read; names all of them.
    """
    pairs = _near_duplicates(*_files(originals, contents)).tolist() + _alike(originals["image_id"].map(contents))
    return _first_of_each(originals, pairs + _alike(_groups(originals)))


def sources_by_group(originals: pd.DataFrame) -> np.ndarray:
    """What each photo was taken of, as far as groups were given for it; no photo is opened.

    Args:
        originals: Photos, as in `LeafTable`.

    Returns:
        For each photo the `image_id` of the first photo of its group, its own without a group.
    """
    return _first_of_each(originals, _alike(_groups(originals)))


def find_originals(
    copies: pd.DataFrame, originals: pd.DataFrame, *, sources: np.ndarray, contents: Mapping[str, str]
) -> list[frozenset[str]]:
    """The sources that each changed copy may show, by its name and by its pixels.

    A name tells where the original's stem stands in the copy's, the longest one and one alone, within a class. Names
    are not believed, as where both folders were numbered on their own, if pixels contradict more of them than they
    confirm.

    Args:
        copies: Changed copies, as in `LeafTable`.
        originals: Photos they may be copies of.
        sources: Source of each original, as `find_sources` gives them.
        contents: What stands for the content of each copy and original, by `image_id`.

    Returns:
        For each copy its sources: mostly one, two where name and pixels differ, none where neither tells.

    Raises:
        DataError: Photos cannot be read; names all of them.
    """
    if copies.empty:
        return []
    closest = _closest_originals(*_files(copies, contents), *_files(originals, contents))
    by_pixels = _sources_at(closest, sources)
    by_name = _sources_at(_named_originals(copies, originals), sources)
    both = [(one, other) for one, other in zip(by_pixels, by_name, strict=True) if one and other]
    if 2 * sum(one == other for one, other in both) < len(both):
        return by_pixels
    return [one | other for one, other in zip(by_pixels, by_name, strict=True)]


def warn_about_lost_copies(copies: pd.DataFrame, sources: Sequence[frozenset[str]]) -> None:
    """Logs which changed copies no training can use.

    Args:
        copies: Changed copies, as in `LeafTable`.
        sources: What `find_originals` found of each.
    """
    lost = [name for name, found in zip(copies["image_id"], sources, strict=True) if not found]
    if lost:
        logger.warning(
            "%d of %d changed copies are left out: neither name nor pixels tell their originals, which may be held "
            "out:\n%s",
            *(len(lost), len(copies), listed(lost)),
        )


def require_one_fold_per_source(folds: pd.Series, sources: pd.Series) -> None:
    """Refuses given folds that put photos of one source on both sides.

    Args:
        folds: Fold of each photo, indexed by `image_id`.
        sources: Source of each photo, indexed likewise.

    Raises:
        FoldError: There is such a source; names its photos.
    """
    of_photo = sources.loc[folds.index].to_numpy()
    apart = folds[folds.groupby(of_photo).transform("nunique") > 1]
    lines = [
        " and ".join(f"{name} (fold {fold})" for name, fold in photos.items())
        for _, photos in apart.groupby(sources.loc[apart.index].to_numpy(), sort=False)
    ]
    if lines:
        raise FoldError(
            f"data.fold_csv puts {len(lines)} source(s) into several folds, photos of one group or nearly the same "
            f"picture, which a model would know from training. Put each into one fold:\n{listed(lines)}"
        )


def require_sources_for_every_fold(items: pd.DataFrame, num_folds: int) -> None:
    """Refuses classes that cannot be in every fold.

    Args:
        items: `label` and `source` of each photo.
        num_folds: Number of folds.

    Raises:
        FoldError: A class has too few photos, those of one source counted once; lists all such classes.
    """
    counts = items.groupby("label")["source"].agg(["size", "nunique"])
    small = [
        f"{label}: {photos} photo(s) of {sources} source(s)"
        for label, photos, sources in counts[counts["nunique"] < num_folds].itertuples()
    ]
    if small:
        raise FoldError(
            f"{len(small)} class(es) have fewer photos than the {num_folds} folds, near-identical ones and those of a "
            f"group counted once. Add photos, or lower data.num_folds:\n{listed(small)}"
        )


def tell_of_groups() -> None:
    """Logs what is not known of photos that are not opened."""
    logger.warning(
        "Photos are not opened: the same picture twice is not found, and only the column group of data.labels tells "
        "what must not be divided between folds. Changed copies are left out."
    )


def _groups(originals: pd.DataFrame) -> pd.Series:
    return originals["group"].where(originals["group"] != "")


def _alike(column: pd.Series) -> list[list[int]]:
    """Pairs of rows that chain those of one value together."""
    indices = column.reset_index(drop=True).groupby(column.to_numpy()).indices
    return [list(pair) for rows in indices.values() for pair in pairwise(np.asarray(rows).tolist())]


def _first_of_each(originals: pd.DataFrame, pairs: list[list[int]]) -> np.ndarray:
    """For each photo the name of the first one that pairs connect it with."""
    numbers = connected_groups(len(originals), pairs)
    _, firsts = np.unique(numbers, return_index=True)
    return np.asarray(originals["image_id"].to_numpy()[firsts[numbers]])


def _files(photos: pd.DataFrame, contents: Mapping[str, str]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    return tuple(map(Path, photos["path"])), tuple(photos["image_id"].map(contents))


# Every fold asks again for the same photos; their contents tell whether they are.
@lru_cache(maxsize=2)
def _near_duplicates(paths: tuple[Path, ...], contents: tuple[str, ...]) -> np.ndarray:
    return near_duplicates(paths)


@lru_cache(maxsize=2)
def _closest_originals(
    copies: tuple[Path, ...],
    contents_of_copies: tuple[str, ...],
    originals: tuple[Path, ...],
    contents_of_originals: tuple[str, ...],
) -> np.ndarray:
    paths = {str(path): path for path in originals}
    return closest_originals(copies, PhotoPaths(paths), list(paths))


def _sources_at(indices: np.ndarray, sources: np.ndarray) -> list[frozenset[str]]:
    """The source of the original at each index; none at -1."""
    return [frozenset({str(sources[index])} if index >= 0 else ()) for index in indices]


def _named_originals(copies: pd.DataFrame, originals: pd.DataFrame) -> np.ndarray:
    """Index of the one original that the name of each copy tells; -1 where it tells none or several."""
    stems: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (image_id, label) in enumerate(zip(originals["image_id"], originals["label"], strict=True)):
        stems[label][_stem(image_id)].append(index)
    found = np.full(len(copies), -1)
    for row, (image_id, label) in enumerate(zip(copies["image_id"], copies["label"], strict=True)):
        name = _stem(image_id)
        told = [stem for stem in stems[label] if stem in name and _is_part(stem, name)]
        longest = max(map(len, told), default=0)
        indices = [index for stem in told if len(stem) == longest for index in stems[label][stem]]
        if len(indices) == 1:
            found[row] = indices[0]
    return found


def _stem(image_id: str) -> str:
    return PurePosixPath(image_id).stem.casefold()


def _is_part(stem: str, name: str) -> bool:
    """Whether a stem is a whole part of a name: anywhere, but a mere number only where the name begins or ends."""
    part = rf"(?<![^\W_]){re.escape(stem)}(?![^\W_])"
    return re.search(rf"^{part}|{part}$" if stem.isdigit() else part, name) is not None
