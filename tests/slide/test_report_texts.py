"""Reports belong to a specimen of a patient."""

import json

import pytest

from biomass_pl.errors import DataError
from biomass_pl.slide.report_texts import JsonReports


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def test_reports_are_found_under_their_patient_alone(tmp_path):
    reports = JsonReports(written(tmp_path / "r.json", {"P1": {"a": "One.", "b": ""}, "P2": {"c": "Three."}, "P3": {}}))
    assert reports.specimens == {"a": "P1", "b": "P1", "c": "P2"}
    assert reports.read({"c": "P2", "b": "P1", "a": "P2", "d": "P9"}) == {"c": "Three.", "b": ""}


def test_patients_may_name_their_specimens_alike(tmp_path):
    reports = JsonReports(written(tmp_path / "r.json", {"P1": {"a": "One."}, "P2": {"a": "Two."}}))
    assert reports.read({"a": "P1"}) == {"a": "One."} and reports.read({"a": "P2"}) == {"a": "Two."}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"P1": "One.", "P2": {"a": "Two."}}, "every patient, which these lack:\n  P1$"),
        ({"P1": {"a": 3, "b": "Two."}, "P2": {"c": None}}, "2 report.*no text.*\n  a of P1\n  c of P2$"),
        ({"P1": {"a": "One \ud83d", "b": "\U0001f600"}}, "1 report.*half a character.*\n  a of P1$"),
    ],
)
def test_other_content_is_refused(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        JsonReports(written(tmp_path / "r.json", content))
