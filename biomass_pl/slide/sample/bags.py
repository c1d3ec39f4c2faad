"""Draws the feature vectors of a specimen: tissue, what is found in it, and what it has from patient and stain."""

import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Floats, stream
from biomass_pl.slide.sample.findings import AMOUNTS, GRADES, Specimen

WIDTH = 384

# Lengths of the directions; the noise of each number in a vector has a standard deviation of one.
_TISSUE, _STAIN, _PATIENT, _FINDING, _DEGREE = 6.0, 4.0, 1.0, 12.0, 6.0
_SHARE_OF_CELLS, _SHARE_OF_NECROSIS = 0.14, 0.12
# Parameters of a beta distribution whose median is a little above the middle.
_BAG_SIZE = 2.5, 2.0

Vectors = npt.NDArray[np.float16]


def draw_bag(specimen: Specimen, *, fewest: int, most: int) -> Vectors:
    """Draws a specimen's vectors in any order.

    Each vector shows healthy tissue of the site, the diagnosis, cells of inflammation, or necrosis, as a direction
    of its own. Grade and depth shift the vectors of the diagnosis, and the stain shifts all.

    Args:
        specimen: The specimen.
        fewest: Vectors at least.
        most: Vectors at most; the logarithms of sizes spread between, about their middle.

    Returns:
        Float16 (vectors, 384).
    """
    rng = stream(specimen.key, "bag")
    findings, seed = specimen.findings, specimen.key[0]
    size = round(fewest * (most / fewest) ** rng.beta(*_BAG_SIZE))

    def direction(name: str) -> Floats:
        return _direction(seed, name)

    shown = _FINDING * direction(findings.diagnosis)
    shown += _DEGREE * direction("depth") * (1 if findings.depth == "deep" else -1)
    if findings.grade is not None:
        shown += _DEGREE * direction("grade") * (GRADES.index(findings.grade) - 1)
    parts = [(AMOUNTS[findings.amount], shown)]
    if findings.cells != "none":
        parts.append((_SHARE_OF_CELLS, _FINDING * direction(findings.cells)))
    if findings.necrosis:
        parts.append((_SHARE_OF_NECROSIS, _FINDING * direction("necrosis")))
    vectors = rng.standard_normal((size, WIDTH), np.float32)
    vectors += np.asarray(_STAIN * direction(findings.laboratory), np.float32)
    vectors += np.asarray(_PATIENT * _unit(stream(specimen.patient_key, "features")), np.float32)
    start = 0
    for share, centre in parts:
        end = start + max(1, round(share * size))
        vectors[start:end] += np.asarray(centre, np.float32)
        start = end
    vectors[start:] += np.asarray(_TISSUE * direction(findings.site), np.float32)
    return rng.permutation(vectors).astype(np.float16)


def _direction(seed: int, name: str) -> Floats:
    """The direction that stands for a name, of length one."""
    return _unit(stream((seed,), name))


def _unit(rng: np.random.Generator) -> Floats:
    direction = rng.standard_normal(WIDTH)
    return np.asarray(direction / np.linalg.norm(direction))
