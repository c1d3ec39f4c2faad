"""Renders patients, specimens, their feature vectors and reports, to try everything on without the real data."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from biomass_pl.data.rendering import new_folder
from biomass_pl.errors import ConfigError
from biomass_pl.slide.sample.bags import draw_bag
from biomass_pl.slide.sample.findings import Specimen, invent_specimens, split_patients
from biomass_pl.slide.sample.layouts import directories, hdf5_file
from biomass_pl.slide.sample.wording import diagnosis_prompts, dignity_prompts
from biomass_pl.terminal import progress

LAYOUTS = {"hdf5": hdf5_file, "directories": directories}

FEWEST_SPECIMENS = 60
# Specimens to learn a class from.
EXAMPLES = 4

Label = str | int


def render_specimens(
    *,
    out: Path,
    specimens: int = 200,
    fewest_vectors: int = 20,
    most_vectors: int = 200,
    layout: str = "hdf5",
    seed: int = 0,
) -> None:
    """Renders pathology specimens into a new folder, in one of the published layouts.

    The vectors of a specimen are background of its site and vectors of what is found in it; the report names all of
    that in the words of the laboratory, whose stain the vectors show: a report follows from the features word by
    word. Hardly two specimens have the same report. The same arguments give the same bytes.

    `hdf5` writes `specimens.hdf5`, with features in `patch_features_comp_0` and text in `report`; `directories` the
    folders `features` and `features_remainder`, and `reports.json`. Both come with `splits/{train,val,test}.txt`, by
    patient, and with two questions for classification, `dignity` (benign or malignant) and `diagnosis` (eight):
    `zero_shot/<question>_prompts.json` and `_classes.json`, and `few_shot/<question>.json` of the training split.

    Args:
        out: Folder to make. It appears only once everything in it is there.
        specimens: Number of specimens, at least 60. A patient has one to three.
        fewest_vectors: Vectors of the smallest bags.
        most_vectors: Vectors of the largest bags; most bags are much smaller.
        layout: `hdf5` or `directories`.
        seed: Another seed gives other specimens, and other directions of what is found in them.

    Raises:
        ConfigError: If an option is out of range.
        DataError: If `out` is there already and holds something.
    """
    _check(specimens=specimens, fewest=fewest_vectors, most=most_vectors, layout=layout, seed=seed)
    invented = invent_specimens(count=specimens, seed=seed)
    splits = split_patients(invented, seed)
    with new_folder(out) as folder:
        with LAYOUTS[layout](folder) as write, progress("Rendering specimens", specimens) as advance:
            for specimen in invented:
                write(specimen, draw_bag(specimen, fewest=fewest_vectors, most=most_vectors))
                advance()
        _write_splits(splits, folder / "splits")
        _write_questions(invented, splits["train"], folder)


def _check(*, specimens: int, fewest: int, most: int, layout: str, seed: int) -> None:
    if specimens < FEWEST_SPECIMENS:
        raise ConfigError(
            f"--specimens {specimens} is too few: three splits with all diagnoses to learn from take "
            f"{FEWEST_SPECIMENS} or more."
        )
    if fewest < 10:
        raise ConfigError(f"--fewest_vectors {fewest} is too few to show all findings: give 10 or more.")
    if most < fewest:
        raise ConfigError(f"--most_vectors {most} is below --fewest_vectors {fewest}: raise it, or lower the other.")
    if layout not in LAYOUTS:
        raise ConfigError(f"There is no layout '{layout}'. Choose {' or '.join(LAYOUTS)}.")
    if seed < 0:
        raise ConfigError(f"--seed {seed} is below zero: use 0 or a positive whole number.")


def _write_splits(splits: Mapping[str, Sequence[Specimen]], folder: Path) -> None:
    folder.mkdir()
    for part, chosen in splits.items():
        ids = ",".join(specimen.identity for specimen in chosen)
        (folder / f"{part}.txt").write_text(f"{ids}\n", encoding="utf-8")


def _write_questions(specimens: Sequence[Specimen], training: Sequence[Specimen], folder: Path) -> None:
    """Writes prompts, classes and examples of both questions."""
    questions: Mapping[str, tuple[Mapping[str, object], Callable[[Specimen], Label]]] = {
        "dignity": (dignity_prompts(), lambda specimen: int(specimen.findings.malignant)),
        "diagnosis": (diagnosis_prompts(), lambda specimen: specimen.findings.diagnosis),
    }
    for name, (prompts, class_of) in questions.items():
        _write_json(prompts, folder / "zero_shot" / f"{name}_prompts.json")
        classes = {specimen.identity: class_of(specimen) for specimen in specimens}
        _write_json(classes, folder / "zero_shot" / f"{name}_classes.json")
        _write_json(_examples(training, list(prompts), class_of), folder / "few_shot" / f"{name}.json")


def _examples(
    training: Sequence[Specimen], classes: Sequence[str], class_of: Callable[[Specimen], Label]
) -> dict[str, list[str]]:
    """The first few training specimens of each class."""
    return {
        name: [specimen.identity for specimen in training if str(class_of(specimen)) == name][:EXAMPLES]
        for name in classes
    }


def _write_json(content: Mapping[str, object], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
