"""The submission: its form, its order, and what does not match."""

from pathlib import Path

import pandas as pd
import pytest

from biomass_pl.errors import DataError
from biomass_pl.evaluation.report import MakesSubmission, Report
from biomass_pl.lesion.report import LesionReport
from biomass_pl.pasture.report import PastureReport
from biomass_pl.pasture.targets import TARGETS


def predictions() -> pd.DataFrame:
    """Photo ID7 has 1 to 5 g, ID3 has 6 to 10 g; columns in no particular order."""
    columns = {f"{target}_pred": [number + 1.0, number + 6.0] for number, target in enumerate(TARGETS)}
    return pd.DataFrame({**dict(reversed(columns.items())), "fold": [0, 0], "image_id": ["ID7", "ID3"]})


def names() -> list[str]:
    return [f"{image}__{target}" for image in ("ID7", "ID3") for target in TARGETS]


def sample_file(folder: Path, sample_ids: list[str]) -> Path:
    path = folder / "sample_submission.csv"
    pd.DataFrame({"sample_id": sample_ids, "target": 0.0}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("report", [PastureReport(), LesionReport()], ids=lambda report: type(report).__name__)
def test_reports_of_competitions_make_submissions(report):
    assert isinstance(report, MakesSubmission)


def test_a_report_need_not_make_submissions():
    methods = {name: lambda *_: None for name in ("score", "render", "draw", "finished")}
    report = type("ReportWithoutCompetition", (Report,), methods)()
    assert not isinstance(report, MakesSubmission)
    assert report.stacking is None and not report.uses_arrays


def test_without_a_sample_file_photos_keep_their_order(tmp_path):
    submission = PastureReport().submission(predictions(), tmp_path / "sample_submission.csv")
    assert list(submission) == ["sample_id", "target"]
    assert submission["sample_id"].tolist() == names()
    assert submission["target"].tolist() == [float(grams) for grams in range(1, 11)]


def test_the_sample_files_order_is_kept_and_grams_go_with_their_row(tmp_path):
    order = [names()[place] for place in (9, 0, 5, 3, 1, 2, 8, 7, 6, 4)]
    submission = PastureReport().submission(predictions(), sample_file(tmp_path, order))
    assert list(submission) == ["sample_id", "target"]
    assert submission["sample_id"].tolist() == order
    assert submission["target"].tolist() == [10.0, 1.0, 6.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 5.0]
    assert submission.index.tolist() == list(range(10))


def test_a_row_of_the_sample_that_was_not_predicted_is_named(tmp_path):
    sample = sample_file(tmp_path, [*names(), "ID9__GDM_g"])
    with pytest.raises(DataError, match=r"ID9__GDM_g: not predicted") as caught:
        PastureReport().submission(predictions(), sample)
    assert str(sample) in str(caught.value) and "test.csv" in str(caught.value)
    assert "ID7" not in str(caught.value)


def test_a_predicted_row_that_the_sample_lacks_is_named(tmp_path):
    with pytest.raises(DataError, match=r"ID3__Dry_Total_g: not expected") as caught:
        PastureReport().submission(predictions(), sample_file(tmp_path, names()[:-1]))
    assert "not predicted" not in str(caught.value)


def test_differences_both_ways_are_told_together(tmp_path):
    with pytest.raises(DataError) as caught:
        PastureReport().submission(predictions(), sample_file(tmp_path, ["ID9__GDM_g", *names()[1:]]))
    assert "ID9__GDM_g: not predicted" in str(caught.value)
    assert "ID7__Dry_Green_g: not expected" in str(caught.value)


def test_many_differences_are_counted(tmp_path):
    sample = sample_file(tmp_path, [*names(), *(f"ID{number}__GDM_g" for number in range(100, 125))])
    with pytest.raises(DataError, match=r"\.\.\. and 15 more"):
        PastureReport().submission(predictions(), sample)


@pytest.mark.parametrize("content", ["", "id,target\nID7__GDM_g,0\n", 'sample_id,target\n"x,1\n', b"\xff\xfe\x00"])
def test_a_sample_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "sample_submission.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match="Restore the competition's file, or remove it") as caught:
        PastureReport().submission(predictions(), path)
    assert str(path) in str(caught.value)


def test_a_row_without_a_name_is_told_as_one_that_was_not_predicted(tmp_path):
    with pytest.raises(DataError, match="not predicted"):
        PastureReport().submission(predictions(), sample_file(tmp_path, [*names()[:-1], ""]))


def test_a_byte_order_mark_in_the_sample_file_does_no_harm(tmp_path):
    path = sample_file(tmp_path, names())
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert PastureReport().submission(predictions(), path)["sample_id"].tolist() == names()
