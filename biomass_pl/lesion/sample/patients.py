"""Invents patients and their skin lesions: who has how many, which are malignant, and how each looks."""

import math
from dataclasses import dataclass

import numpy as np

from biomass_pl.data.rendering import Key, stream
from biomass_pl.lesion.sample.scene import LesionLook

SPLITS = ("train", "test")

LESIONS_PER_PATIENT = 15
FEWEST_PATIENTS = 10
# The folds need patients with malignant lesions, at least one each.
FEWEST_MALIGNANT_PATIENTS = 5
# Spread (log) of the number of lesions between patients, and the largest share of all lesions that one has.
LESION_COUNT_SPREAD = 0.9
LARGEST_SHARE = 0.15

SIDES = (64, 160)

# Ids have seven digits. The steps share no factor with their count, so none comes twice.
ID_NUMBERS = 10_000_000
LESION_STEP, PATIENT_STEP, SEED_STEP = 3_702_483, 6_180_339, 1_370_248_451


@dataclass(frozen=True)
class Trait:
    """How a property of moles is spread.

    Attributes:
        middle: Mean over patients.
        between: Spread between the means of patients.
        within: Spread between the moles of one patient.
        shift: What malignancy adds, in spreads within the patient: a lesion stands out among the patient's own.
    """

    middle: float
    between: float
    within: float
    shift: float


# Logarithms, but for the darkness (CIELAB lightness) and the hue (degrees towards yellow from the skin's).
TRAITS = {
    "diameter_mm": Trait(math.log(3.2), 0.32, 0.22, 1.7),
    "irregularity": Trait(math.log(0.056), 0.20, 0.35, 2.7),
    "variegation": Trait(math.log(0.18), 0.20, 0.40, 2.7),
    "asymmetry": Trait(math.log(0.18), 0.25, 0.35, 1.0),
    "darkness": Trait(14.0, 3.0, 2.5, 0.8),
    "hue": Trait(-4.0, 5.0, 2.5, -1.7),
}
# How strongly malignancy shows differs between lesions.
SEVERITY, SEVERITY_SPREAD = 1.0, 0.25

AGE_YEARS = {False: (51.0, 14.0), True: (62.0, 11.0)}
AGE_RANGE = (20, 85)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A patient and what all their moles have in common.

    Attributes:
        identity: Id as in the tables.
        age: Years, in steps of five.
        sex: male or female.
        clinic: Who took the photographs.
        skin: Lightness, red and yellow (CIELAB) of the skin.
        means: Mean of every property of TRAITS over the patient's moles.
        hairs: Hairs per square centimetre.
        freckles: Freckles per square centimetre.
        white_light: Whether the photographs are taken without polarising filters.
    """

    identity: str
    age: float
    sex: str
    clinic: str
    skin: tuple[float, float, float]
    means: dict[str, float]
    hairs: float
    freckles: float
    white_light: bool


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion: whose it is, what it is, how it looks, and the numbers that fix every random choice about it."""

    identity: str
    split: str
    patient: Patient
    malignant: bool
    look: LesionLook
    key: Key


def invent_lesions(*, split: str, count: int, malignant: int, seed: int) -> list[Lesion]:
    """Invents the lesions of a split, sorted by id.

    Args:
        split: train or test.
        count: Lesions.
        malignant: How many of them are malignant; at most a quarter.
        seed: Another seed gives other patients.
    """
    split_number = SPLITS.index(split)
    rng = stream((seed, split_number), "patients")
    sizes = _lesions_per_patient(count, rng)
    malignant_of = _malignant_per_patient(sizes, malignant, rng)
    lesions: list[Lesion] = []
    for number, (size, bad) in enumerate(zip(sizes, malignant_of, strict=True)):
        patient = _patient(2 * number + split_number, bad > 0, seed)
        lesions += [
            _lesion(patient, split, len(lesions) + position, malignant=position < bad, seed=seed)
            for position in range(size)
        ]
    return sorted(lesions, key=lambda lesion: lesion.identity)


def _lesions_per_patient(count: int, rng: np.random.Generator) -> list[int]:
    """Very unequal numbers that sum to `count`; the first patient has a single lesion."""
    patients = min(max(round(count / LESIONS_PER_PATIENT), FEWEST_PATIENTS), max(round(count / 3), 1))
    if patients == 1:
        return [count] if count else []
    shares = np.exp(rng.normal(0, LESION_COUNT_SPREAD, patients - 1))
    # Cutting the largest raises the others' shares: a few rounds settle it.
    for _ in range(20):
        shares = np.minimum(shares / shares.sum(), max(LARGEST_SHARE, 1.5 / patients))
    # Everyone else has two at least; the rest goes by share, the largest remainders first.
    wanted = shares / shares.sum() * (count - 1 - 2 * (patients - 1))
    sizes = 2 + np.floor(wanted).astype(int)
    missing = count - 1 - int(sizes.sum())
    sizes[np.argsort(np.floor(wanted) - wanted, kind="stable")[:missing]] += 1
    return [1, *sizes.tolist()]


def _malignant_per_patient(sizes: list[int], malignant: int, rng: np.random.Generator) -> list[int]:
    """Spreads the malignant lesions over many patients, in no patient more than half of the lesions."""
    room = np.array(sizes, int) // 2
    # Half of the patients, the larger ones rather than the smaller; more of them when these have no room.
    order = np.argsort(-room * rng.uniform(0.5, 1, len(room)), kind="stable")
    chosen = max(FEWEST_MALIGNANT_PATIENTS, min(len(sizes), malignant) // 2)
    while chosen < len(order) and room[order[:chosen]].sum() < malignant:
        chosen += 1
    order = order[:chosen]
    given = np.zeros(len(sizes), int)
    while given.sum() < malignant:
        open_to_more = [patient for patient in order if given[patient] < room[patient]]
        given[open_to_more[: malignant - int(given.sum())]] += 1
    return [int(number) for number in given]


def _patient(number: int, malignant: bool, seed: int) -> Patient:
    """A patient; `number` differs between all patients of both splits."""
    rng = stream((seed, number), "patient")
    age_mean, age_spread = AGE_YEARS[malignant]
    age = float(np.clip(5 * round(rng.normal(age_mean, age_spread) / 5), *AGE_RANGE))
    # The darker the skin, the redder and yellower it looks.
    melanin = rng.beta(1.6, 3.0)
    skin = (
        float(76 - 26 * melanin + rng.normal(0, 2)),
        float(11 + 4 * melanin + rng.normal(0, 1.5)),
        float(17 + 7 * melanin + rng.normal(0, 1.5)),
    )
    return Patient(
        identity=f"IP_{(seed * SEED_STEP + number * PATIENT_STEP) % ID_NUMBERS:07d}",
        age=age,
        sex=str(rng.choice(["male", "female"])),
        clinic=f"Rendered clinic {rng.choice(list('ABCDE'))}",
        skin=skin,
        means={name: float(rng.normal(trait.middle, trait.between)) for name, trait in TRAITS.items()},
        hairs=float(rng.gamma(0.6, 4.0)),
        freckles=float(rng.gamma(0.5, 6.0)),
        white_light=bool(rng.random() < 0.3),
    )


def _lesion(patient: Patient, split: str, index: int, *, malignant: bool, seed: int) -> Lesion:
    """A lesion; a malignant one stands out among the patient's own."""
    key = (seed, SPLITS.index(split), index)
    rng = stream(key, "look")
    severity = max(rng.normal(SEVERITY, SEVERITY_SPREAD), 0.0) * malignant
    traits = {
        name: patient.means[name] + trait.within * (rng.normal() + trait.shift * severity)
        for name, trait in TRAITS.items()
    }
    number = seed * SEED_STEP + (2 * index + SPLITS.index(split)) * LESION_STEP
    return Lesion(
        identity=f"ISIC_{number % ID_NUMBERS:07d}",
        split=split,
        patient=patient,
        malignant=malignant,
        look=_look(patient, traits, rng),
        key=key,
    )


def _look(patient: Patient, traits: dict[str, float], rng: np.random.Generator) -> LesionLook:
    lightness, red, yellow = (value + rng.normal(0, 1.2) for value in patient.skin)
    hue, chroma = math.atan2(yellow, red) + math.radians(traits["hue"]), math.hypot(red, yellow) + rng.normal(3, 1.5)
    # A mole is darker than any skin, and not black.
    darkness = min(max(traits["darkness"], 7.0), lightness - 18)
    diameter = min(max(math.exp(traits["diameter_mm"]), 1.2), 14.0)
    return LesionLook(
        skin=(lightness, red, yellow),
        contrast=(-darkness, chroma * math.cos(hue) - red, chroma * math.sin(hue) - yellow),
        diameter_mm=diameter,
        roundness=float(rng.uniform(0.6, 0.95)),
        irregularity=min(math.exp(traits["irregularity"]), 0.2),
        asymmetry=min(math.exp(traits["asymmetry"]), 0.8),
        variegation=min(math.exp(traits["variegation"]), 1.2),
        # The crop follows the lesion: its size in pixels does not give the millimetres away.
        view_mm=diameter * float(rng.uniform(1.7, 2.8)),
        side=int(rng.integers(SIDES[0], SIDES[1] + 1)),
        hairs=patient.hairs,
        freckles=patient.freckles,
        white_light=patient.white_light,
    )
