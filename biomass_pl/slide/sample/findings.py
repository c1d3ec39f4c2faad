"""What there is to see in the rendered specimens, and which specimen of which patient shows what."""

from dataclasses import dataclass

import numpy as np

from biomass_pl.data.rendering import Key, stream

LABORATORIES = ("north", "south", "harbour")
SITES = ("skin", "colon", "breast", "lung", "kidney", "stomach", "liver", "thyroid")
MALIGNANT = ("adenocarcinoma", "lymphoma", "sarcoma", "melanoma")
BENIGN = ("fibroma", "granuloma", "cyst", "hyperplasia")
DIAGNOSES = MALIGNANT + BENIGN
AMOUNTS = {"little": 0.14, "some": 0.28, "much": 0.5}
"""Share of a bag's vectors that show the diagnosis."""

GRADES = ("low", "middle", "high")
DEPTHS = ("superficial", "deep")
CELLS = ("none", "lymphocytes", "neutrophils", "eosinophils")
"""Kinds of inflammation."""

_MOST_SPECIMENS_OF_A_PATIENT = 3


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a specimen shows; its report tells all of it.

    Args:
        laboratory: Who stained it, and words its report.
        site: Organ that it was taken from.
        diagnosis: What is found in it.
        amount: How much of the specimen that takes up.
        depth: Where it lies.
        grade: How far it differs from healthy tissue; of malignant ones alone.
        cells: Inflammation beside it.
        necrosis: Whether tissue has died.
    """

    laboratory: str
    site: str
    diagnosis: str
    amount: str
    depth: str
    grade: str | None
    cells: str
    necrosis: bool

    @property
    def malignant(self) -> bool:
        """Whether the diagnosis is a malignant one."""
        return self.diagnosis in MALIGNANT


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A specimen to render.

    Args:
        identity: Its id.
        patient: Id of the patient.
        findings: What it shows.
        key: Numbers that fix every random choice of it.
        patient_key: Numbers that fix what the patient's specimens have in common.
    """

    identity: str
    patient: str
    findings: Findings
    key: Key
    patient_key: Key


def invent_specimens(*, count: int, seed: int) -> list[Specimen]:
    """Patients of one to three specimens, each of which depends on the seed and its number alone.

    Every eight specimens in a row show all diagnoses.

    Args:
        count: Number of specimens.
        seed: Another seed gives other specimens.
    """
    specimens: list[Specimen] = []
    patient = 0
    while len(specimens) < count:
        patient_key = (seed, 0, patient)
        rng = stream(patient_key, "patient")
        laboratory = LABORATORIES[int(rng.integers(len(LABORATORIES)))]
        of_patient = int(rng.integers(1, _MOST_SPECIMENS_OF_A_PATIENT + 1))
        for letter in "ABC"[: min(of_patient, count - len(specimens))]:
            number = len(specimens)
            specimens.append(
                Specimen(
                    identity=f"T{patient + 1:05d}{letter}",
                    patient=f"P{patient + 1:05d}",
                    findings=_findings(number, laboratory, seed),
                    key=(seed, 1, number),
                    patient_key=patient_key,
                )
            )
        patient += 1
    return specimens


def _findings(number: int, laboratory: str, seed: int) -> Findings:
    block, place = divmod(number, len(DIAGNOSES))
    diagnosis = DIAGNOSES[int(stream((seed, 2, block), "diagnoses").permutation(len(DIAGNOSES))[place])]
    rng = stream((seed, 1, number), "findings")

    def one_of(values: tuple[str, ...]) -> str:
        return values[int(rng.integers(len(values)))]

    site, amount, depth, grade, cells = map(one_of, (SITES, tuple(AMOUNTS), DEPTHS, GRADES, CELLS))
    return Findings(
        laboratory=laboratory,
        site=site,
        diagnosis=diagnosis,
        amount=amount,
        depth=depth,
        grade=grade if diagnosis in MALIGNANT else None,
        cells=cells,
        necrosis=bool(rng.random() < 0.5),
    )


def split_patients(specimens: list[Specimen], seed: int) -> dict[str, list[Specimen]]:
    """Deals patients into three splits: of every ten seven train, two validate and one tests.

    Args:
        specimens: All specimens.
        seed: Another seed deals otherwise.

    Returns:
        Specimens of `train`, `val` and `test`.
    """
    patients = list(dict.fromkeys(specimen.patient for specimen in specimens))
    shares = ("train", "val", "train", "train", "test", "train", "train", "val", "train", "train")
    order = np.random.default_rng([seed, *b"splits"]).permutation(len(patients)).tolist()
    parts = {patients[index]: shares[place % len(shares)] for place, index in enumerate(order)}
    return {
        part: [specimen for specimen in specimens if parts[specimen.patient] == part]
        for part in ("train", "val", "test")
    }
