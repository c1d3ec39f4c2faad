"""The rendered specimens: both layouts hold the same, and reports follow from features and from nothing else."""

import json
import re
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.slide.sample.bags import draw_bag
from biomass_pl.slide.sample.findings import DIAGNOSES, LABORATORIES, Findings, invent_specimens, split_patients
from biomass_pl.slide.sample.render import render_specimens
from biomass_pl.slide.sample.wording import WORDINGS, report_of

SPECIMENS = 200
FEW = 60


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def words(report: str) -> list[str]:
    return re.findall("[a-z]+", report.lower())


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "data"
    render_specimens(out=out)
    return out


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unpacked") / "data"
    render_specimens(out=out, specimens=SPECIMENS, most_vectors=25, layout="directories")
    return out


@pytest.fixture(scope="module")
def rendered(packed) -> dict[str, dict]:
    """Patient, report and vectors of each specimen, as h5py reads them."""
    with h5py.File(packed / "specimens.hdf5") as file:
        ids, paths = (file["case-index"][name].asstr()[()] for name in ("case_ids", "case_paths"))
        return {
            name: {
                "patient": path.split("/")[2],
                "report": file[path]["report"].asstr()[()],
                "vectors": file[path]["patch_features_comp_0"]["features"][()].reshape(-1, 384),
            }
            for name, path in zip(ids, paths, strict=True)
        }


def test_the_hdf5_file_has_what_the_published_reader_needs(packed, rendered):
    assert len(rendered) == SPECIMENS and len({one["patient"] for one in rendered.values()}) < 0.6 * SPECIMENS
    with h5py.File(packed / "specimens.hdf5") as file:
        for name, one in rendered.items():
            group = file[f"/patients/{one['patient']}/{name}/patch_features_comp_0"]
            tiles, in_tile, width = group["features"].shape
            assert width == 384 and 1 <= in_tile <= 8 and group["features"].dtype == np.float16
            assert group["positions"].shape == (tiles, 3) and group["tile_keys"].shape == (tiles,)


def test_directories_hold_the_records_and_files_of_the_published_layout(unpacked):
    reports = json.loads((unpacked / "reports.json").read_text())
    found = {}
    for file in sorted(unpacked.glob("features*/data_*/feature_information.txt")):
        lines = file.read_text().splitlines()
        for start in range(0, len(lines), 3):
            assert isinstance(json.loads(lines[start]), list)
            record = json.loads(lines[start + 1])
            assert lines[start + 2] == f"'{record['specimen_index']}.pth'"
            tiles = torch.load(file.parent / "extracted_features" / lines[start + 2][1:-1], weights_only=True)[0]
            assert all(key[0] == record["specimen_index"] and len(key) == 4 for key in tiles)
            ((in_tile, width),) = {tuple(value["feature"].shape) for value in tiles.values()}
            assert width == 384 and all(len(value["position"]) == 3 for value in tiles.values())
            assert record["size"] == len(tiles) * in_tile
            found[record["specimen"]] = record["patient"], len(tiles) * in_tile
    assert {(patient, name) for name, (patient, _) in found.items()} == {
        (patient, name) for patient, texts in reports.items() for name in texts
    }
    assert len(found) == SPECIMENS and all(20 <= size <= 25 for _, size in found.values())
    assert {path.parent.name for path in unpacked.glob("features*/data_*")} == {"features", "features_remainder"}


def test_both_layouts_hold_the_same(rendered, packed, tmp_path):
    render_specimens(out=tmp_path / "data", specimens=FEW, layout="directories")
    reports = json.loads((tmp_path / "data" / "reports.json").read_text())
    first = dict(list(rendered.items())[:FEW])
    assert {name: text for texts in reports.values() for name, text in texts.items()} == {
        name: one["report"] for name, one in first.items()
    }
    tiles = torch.load(tmp_path / "data/features/data_0/extracted_features/3.pth", weights_only=True)[0]
    vectors = torch.cat([tile["feature"] for tile in tiles.values()])
    assert np.array_equal(vectors.numpy(), list(rendered.values())[3]["vectors"])


def test_bags_have_many_sizes_of_which_half_are_small(rendered):
    sizes = np.array([len(one["vectors"]) for one in rendered.values()])
    assert sizes.min() >= 20 and sizes.max() <= 200 and len(set(sizes)) > 80
    assert 60 < np.median(sizes) < 90
    large = [len(draw_bag(one, fewest=50, most=3000)) for one in invent_specimens(count=300, seed=0)]
    assert min(large) >= 50 and max(large) <= 3000 and 400 < np.median(large) < 620


def test_hardly_two_specimens_have_the_same_report_and_words_are_few(rendered):
    reports = [one["report"] for one in rendered.values()]
    assert len(set(reports)) > 0.95 * SPECIMENS
    assert 100 <= len({word for report in reports for word in words(report)}) <= 200
    assert all(10 <= len(words(report)) <= 40 for report in reports)
    assert all(sentence[0].isupper() for report in reports for sentence in report.split(". "))


def test_every_finding_changes_the_report():
    shown = {
        "site": "skin",
        "diagnosis": "sarcoma",
        "amount": "some",
        "depth": "deep",
        "grade": "low",
        "cells": "none",
        "necrosis": True,
    }
    others = {
        "site": "lung",
        "diagnosis": "melanoma",
        "amount": "much",
        "depth": "superficial",
        "grade": "high",
        "cells": "neutrophils",
        "necrosis": False,
    }
    assert tuple(WORDINGS) == LABORATORIES
    for laboratory in LABORATORIES:
        reports = {report_of(Findings(laboratory=laboratory, **shown))}
        reports |= {report_of(Findings(laboratory=laboratory, **shown | {name: others[name]})) for name in others}
        assert len(reports) == 1 + len(others)


def test_wording_is_that_of_the_laboratory():
    shown = {"site": "skin", "diagnosis": "cyst", "amount": "much", "depth": "deep", "grade": None}
    reports = [
        report_of(Findings(laboratory=laboratory, cells="none", necrosis=False, **shown)) for laboratory in LABORATORIES
    ]
    assert reports == [
        "Skin biopsy with extensive cyst in deep layers. Benign change, without atypia. No inflammation; tissue viable.",
        "We received tissue of the skin. Quiet stroma and living tissue were seen. "
        "Conclusion: deeply seated cyst of large size, benign and harmless.",
        "Benign cyst, skin, at the base. It fills half of the sample. Regular nuclei, intact areas, calm surroundings.",
    ]


def ranks_of_own_report(features: np.ndarray, reports: list[str], held_out: np.ndarray) -> np.ndarray:
    """Rank of each held-out specimen's report among theirs, by a linear map from mean features to words."""
    vocabulary = sorted({word for report in reports for word in words(report)})
    told = np.array([[word in words(report) for word in vocabulary] for report in reports], float)
    told -= told[~held_out].mean(axis=0)
    predicted = Ridge(1.0).fit(features[~held_out], told[~held_out]).predict(features[held_out])
    of_truth = told[held_out] / np.linalg.norm(told[held_out], axis=1, keepdims=True)
    similar = predicted / np.linalg.norm(predicted, axis=1, keepdims=True) @ of_truth.T
    return (similar >= np.diag(similar)[:, None]).sum(axis=1)


@pytest.fixture(scope="module")
def pooled(rendered) -> np.ndarray:
    return np.stack([one["vectors"].astype(np.float32).mean(axis=0) for one in rendered.values()])


@pytest.fixture(scope="module")
def held_out(rendered, packed) -> np.ndarray:
    ids = [name for part in ("val", "test") for name in (packed / f"splits/{part}.txt").read_text().strip().split(",")]
    return np.isin(list(rendered), ids)


def test_features_tell_the_report_of_patients_never_seen(rendered, pooled, held_out):
    reports = [one["report"] for one in rendered.values()]
    ranks = ranks_of_own_report(pooled, reports, held_out)
    assert len(ranks) >= 50 and (ranks == 1).mean() > 0.8
    names = np.array([next(name for name in DIAGNOSES if name in report.lower()) for report in reports])
    model = LogisticRegression(max_iter=500).fit(pooled[~held_out], names[~held_out])
    assert model.score(pooled[held_out], names[held_out]) > 0.9


def test_features_tell_nothing_of_the_report_of_another(rendered, pooled, held_out):
    reports = np.random.default_rng(0).permutation([one["report"] for one in rendered.values()]).tolist()
    ranks = ranks_of_own_report(pooled, reports, held_out)
    assert (ranks == 1).mean() < 0.1 and np.median(ranks) == pytest.approx(len(ranks) / 2, rel=0.35)


def test_reports_share_few_phrases(rendered):
    """A caption that looks at no features must not score well."""
    shared = Counter()
    reports = [words(one["report"]) for one in rendered.values()]
    for report in reports:
        shared.update({tuple(report[start : start + 4]) for start in range(len(report) - 3)})
    share = np.mean(
        [shared[tuple(report[start : start + 4])] / SPECIMENS for report in reports for start in range(len(report) - 3)]
    )
    assert share < 0.1


def test_questions_name_classes_with_prompts_and_examples_of_the_training_split(packed, rendered):
    training = (packed / "splits/train.txt").read_text().strip().split(",")
    for name, classes in (("dignity", ["0", "1"]), ("diagnosis", list(DIAGNOSES))):
        prompts, of_specimen = (
            json.loads((packed / f"zero_shot/{name}_{file}.json").read_text()) for file in ("prompts", "classes")
        )
        assert list(prompts) == classes and all(isinstance(prompt, list) for prompt in prompts.values())
        assert list(of_specimen) == list(rendered) and {str(label) for label in of_specimen.values()} == set(classes)
        examples = json.loads((packed / f"few_shot/{name}.json").read_text())
        assert list(examples) == classes and all(len(ids) == 4 for ids in examples.values())
        assert all(specimen in training for ids in examples.values() for specimen in ids)
        assert all(str(of_specimen[specimen]) == label for label, ids in examples.items() for specimen in ids)
    dignity, diagnosis = (
        json.loads((packed / f"zero_shot/{name}_classes.json").read_text()) for name in ("dignity", "diagnosis")
    )
    for specimen, one in rendered.items():
        assert diagnosis[specimen] in one["report"].lower()
        assert ("malignant" in one["report"].lower()) == bool(dignity[specimen])


@settings(max_examples=40, deadline=None)
@given(count=st.integers(FEW, 300), seed=st.integers(0, 10_000))
def test_splits_are_by_patient_and_all_diagnoses_are_there_to_learn_from(count, seed):
    specimens = invent_specimens(count=count, seed=seed)
    splits = split_patients(specimens, seed)
    assert sorted(one.identity for part in splits.values() for one in part) == [one.identity for one in specimens]
    patients = [{one.patient for one in part} for part in splits.values()]
    assert len(set().union(*patients)) == sum(map(len, patients))
    assert {one.findings.diagnosis for one in splits["train"]} == set(DIAGNOSES)
    assert 0.55 < len(splits["train"]) / count < 0.85 and splits["val"] and splits["test"]
    assert all((one.findings.grade is None) != one.findings.malignant for one in specimens)


@pytest.mark.parametrize("layout", ["hdf5", "directories"])
def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(layout, tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        render_specimens(out=tmp_path / name, specimens=FEW, most_vectors=22, layout=layout, seed=seed)
    one, same, other = (contents(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    large = [name for name, data in one.items() if name.endswith((".pth", ".hdf5"))]
    assert large and all(one[name] != other[name] for name in large if name in other)


def test_a_specimen_depends_on_the_seed_and_its_number_alone(rendered):
    few = invent_specimens(count=FEW, seed=0)
    for specimen in few[::7]:
        assert np.array_equal(draw_bag(specimen, fewest=20, most=200), rendered[specimen.identity]["vectors"])
        assert report_of(specimen.findings) == rendered[specimen.identity]["report"]


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"specimens": 59}, "60 or more"),
        ({"fewest_vectors": 9}, "10 or more"),
        ({"fewest_vectors": 30, "most_vectors": 29}, "raise it"),
        ({"layout": "zip"}, "hdf5 or directories"),
        ({"seed": -1}, "positive"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, advice):
    with pytest.raises(ConfigError, match=advice):
        render_specimens(out=tmp_path / "data", **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        render_specimens(out=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("layout", ["hdf5", "directories"])
def test_a_run_that_fails_leaves_nothing(layout, tmp_path, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("biomass_pl.slide.sample.render.draw_bag", fail)
    with pytest.raises(OSError, match="disk full"):
        render_specimens(out=tmp_path / "data", layout=layout)
    assert not list(tmp_path.iterdir())
