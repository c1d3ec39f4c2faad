"""Reports in a JSON file: patient, specimen, text."""

from collections.abc import Mapping
from pathlib import Path

from biomass_pl.errors import DataError, listed
from biomass_pl.slide.json_files import read_json_object


class JsonReports:
    """Reports of specimens by patient, read from a JSON file: {patient: {specimen: text}}.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        content = read_json_object(path, setting="data.text_data_file")
        strangers = [patient for patient, texts in content.items() if not isinstance(texts, dict)]
        if strangers:
            raise DataError(
                f"{path} needs an object of specimens and their reports for every patient, which these lack:\n"
                f"{listed(strangers)}"
            )
        no_text = [
            f"{name} of {patient}"
            for patient, texts in content.items()
            for name, text in texts.items()
            if not isinstance(text, str) or text != text.encode(errors="ignore").decode()
        ]
        if no_text:
            raise DataError(
                f"{path} has {len(no_text)} report(s) that are no text, or hold half a character. Correct them:\n"
                f"{listed(no_text)}"
            )
        self._texts: dict[str, dict[str, str]] = content
        self.specimens = {name: patient for patient, texts in content.items() for name in texts}
        """Patient of each specimen that has a report."""

    def read(self, patients: Mapping[str, str]) -> dict[str, str]:
        """The reports of specimens.

        Args:
            patients: Patient of each specimen.

        Returns:
            Text by specimen, of those that have one under their patient.
        """
        return {
            name: self._texts[patient][name]
            for name, patient in patients.items()
            if name in self._texts.get(patient, {})
        }
