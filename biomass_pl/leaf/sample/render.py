"""Renders photos of cotton leaves in the layout of the published data, to try everything on without the real ones."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Key, new_folder, stream
from biomass_pl.errors import ConfigError
from biomass_pl.leaf.sample.damage import KINDS
from biomass_pl.leaf.sample.scene import draw_scene, photograph
from biomass_pl.terminal import progress

ORIGINALS, COPIES, UNLABELLED = "Original Dataset", "Augmented Dataset", "Unlabelled"

# Two for each of five folds.
FEWEST_PER_CLASS = 10
FEWEST_PHOTOS = FEWEST_PER_CLASS * len(KINDS)
# So often a photo shows the same leaf as the one before it, and the name of a copy does not tell its original.
SAME_LEAF_EVERY, NAMELESS_EVERY = 12, 10

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo to draw.

    Attributes:
        file: Its path in the sample.
        kind: Class of the leaf.
        leaf: Numbers that fix the leaf, its surroundings and the light.
        key: Numbers that fix the photo of it.
    """

    file: Path
    kind: str
    leaf: Key
    key: Key


def render_leaves(*, out: Path, photos: int = 280, augmented: int = 0, unlabelled: int = 0, seed: int = 0) -> None:
    """Renders cotton leaves of the seven published classes into a new folder.

    `Original Dataset/<Class>/` holds the photos, of unequal numbers as published, a few of them of the same leaf as
    another; `Augmented Dataset/<Class>/` changed copies, whose names begin as their original's, but for one in ten;
    `Unlabelled/` photos of other leaves of all classes. A copy whose name does not tell is only mirrored, turned by
    quarters and of another brightness. What tells the classes apart is the pattern of the damage or the shape of the
    leaf; leaves, backgrounds and light have all colours in all classes. The same arguments give the same bytes.

    Args:
        out: Folder to make. It appears only once everything in it is there.
        photos: Photos in the class folders, at least 70: each class has 10 or more.
        augmented: Changed copies of each of them; with 0 there is no folder of copies.
        unlabelled: Photos without a class; with 0 there is no folder of them.
        seed: Another seed gives other leaves.

    Raises:
        ConfigError: If a number is out of range.
        DataError: If `out` is there already and holds something.
    """
    _check(photos=photos, augmented=augmented, unlabelled=unlabelled, seed=seed)
    originals, others = _originals(photos, seed), _unlabelled(unlabelled, seed)
    with new_folder(out) as folder, progress("Rendering photos", photos + unlabelled) as advance:
        for photo in originals:
            picture = _draw(photo)
            _write(picture, folder / photo.file, photo.key)
            _write_copies(picture, photo, augmented, folder)
            advance()
        for photo in others:
            _write(_draw(photo), folder / photo.file, photo.key)
            advance()


def _check(*, photos: int, augmented: int, unlabelled: int, seed: int) -> None:
    if photos < FEWEST_PHOTOS:
        raise ConfigError(
            f"--photos {photos} is too few: {len(KINDS)} classes of {FEWEST_PER_CLASS} take {FEWEST_PHOTOS} or more."
        )
    if augmented < 0:
        raise ConfigError(f"--augmented {augmented} is below zero: use 0 for a sample without copies.")
    if unlabelled < 0:
        raise ConfigError(f"--unlabelled {unlabelled} is below zero: use 0 for a sample of labelled photos alone.")
    if seed < 0:
        raise ConfigError(f"--seed {seed} is below zero: use 0 or a positive whole number.")


def photos_per_class(photos: int) -> dict[str, int]:
    """Photos of each class: the fewest, and the rest in the published proportions, the largest remainders first."""
    shares = np.array([kind.share for kind in KINDS.values()])
    wanted = shares / shares.sum() * (photos - FEWEST_PHOTOS)
    counts = FEWEST_PER_CLASS + np.floor(wanted).astype(int)
    missing = photos - int(counts.sum())
    counts[np.argsort(np.floor(wanted) - wanted, kind="stable")[:missing]] += 1
    return dict(zip(KINDS, counts.tolist(), strict=True))


def _originals(photos: int, seed: int) -> list[Photo]:
    """The labelled photos by class, each with the leaf that it shows."""
    found = []
    for position, (kind, count) in enumerate(photos_per_class(photos).items()):
        for number in range(count):
            key = (seed, 0, position, number)
            same = number % SAME_LEAF_EVERY == SAME_LEAF_EVERY // 2
            name = f"{kind.replace(' ', '_')}_{number + 1:04d}.jpg"
            leaf = (*key[:-1], number - 1) if same else key
            found.append(Photo(file=Path(ORIGINALS, kind, name), kind=kind, leaf=leaf, key=key))
    return found


def _unlabelled(count: int, seed: int) -> list[Photo]:
    """Photos of leaves of all classes in turn."""
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(count)]
    keys = [(seed, 1, number) for number in range(count)]
    return [
        Photo(file=Path(UNLABELLED, f"leaf_{number + 1:04d}.jpg"), kind=kind, leaf=key, key=key)
        for number, (kind, key) in enumerate(zip(kinds, keys, strict=True))
    ]


def _draw(photo: Photo) -> Pixels:
    return photograph(draw_scene(KINDS[photo.kind], photo.leaf), stream(photo.key, "camera"))


def _write_copies(picture: Pixels, photo: Photo, count: int, folder: Path) -> None:
    """Writes changed copies of a photo."""
    for copy in range(count):
        number = photo.key[-1] * count + copy
        nameless = number % NAMELESS_EVERY == NAMELESS_EVERY // 2
        name = f"augmented_{number + 1:05d}.jpg" if nameless else f"{photo.file.stem}_augmented_{copy + 1}.jpg"
        key = (*photo.key, copy)
        rng = stream(key, "copy")
        changed = _brightened(_mirrored(picture if nameless else _tilted(picture, rng), rng), rng)
        _write(changed, folder / COPIES / photo.kind / name, key)


def _tilted(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by some degrees, about its middle."""
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-20, 20), 1.0)
    tilted = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(tilted, np.uint8)


def _mirrored(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by quarters, and mirrored or not."""
    turned = np.rot90(picture, int(rng.integers(4)))
    return turned[:, ::-1] if rng.random() < 0.5 else turned


def _brightened(picture: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(np.clip(picture * rng.uniform(0.8, 1.25), 0, 255), np.uint8)


def _write(picture: Pixels, path: Path, key: Key) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = int(stream(key, "jpeg").integers(80, 96))
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(encoded.tobytes())
