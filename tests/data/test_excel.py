"""Excel files: stored values as text, formulas never worked out, sheets, and what cannot be read."""

import sys
from datetime import date, datetime, time

import openpyxl
import pytest

from biomass_pl.data.tables import read_table
from biomass_pl.errors import DataError


def workbook_file(tmp_path, rows, name="table.xlsx", *, sheets=("Data",)):
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.title = sheets[0]
    for row in rows:
        sheet.append(row)
    for title in sheets[1:]:
        workbook.create_sheet(title)
    workbook.save(tmp_path / name)
    return tmp_path / name


def test_stored_values_are_read_as_text_and_days_as_year_month_day(tmp_path):
    values = ["007", 7, 0.1, 12.0, True, date(2015, 9, 4), datetime(2015, 9, 4, 10, 30), time(10, 30), None, "1,5"]
    path = workbook_file(tmp_path, [[f"c{number}" for number in range(10)], values])
    table = read_table(path)
    assert table.rows.iloc[0].tolist() == [
        *("007", "7", "0.1", "12", "True"),
        *("2015-09-04", "2015-09-04 10:30:00", "10:30:00", "", "1,5"),
    ]
    assert table.notes == ()


def test_empty_rows_are_left_out_and_the_others_keep_their_numbers(tmp_path):
    table = read_table(workbook_file(tmp_path, [[], ["a", "b", None], [], [1, 2], [None, None], [3, None]]))
    assert table.rows.index.tolist() == [4, 6] and table.rows.to_numpy().tolist() == [["1", "2"], ["3", ""]]


def test_the_content_tells_an_excel_file_whatever_it_is_called(tmp_path):
    assert read_table(workbook_file(tmp_path, [["a"], [1]], "table.csv")).rows["a"].tolist() == ["1"]


def test_the_first_sheet_of_several_is_read_and_told(tmp_path):
    table = read_table(workbook_file(tmp_path, [["a"], [1]], sheets=("Weights", "Notes")))
    assert table.rows["a"].tolist() == ["1"]
    assert table.notes == (f"{tmp_path / 'table.xlsx'} has 2 sheets; the first, 'Weights', is read.",)


def test_a_formula_without_a_stored_value_is_refused_with_its_cell(tmp_path):
    path = workbook_file(tmp_path, [["a", "b"], [1, "=A2*2"]])
    with pytest.raises(DataError, match=r"formula without a stored value in cell B2. Open it in Excel"):
        read_table(path)


@pytest.mark.parametrize(("cached", "text"), [("<v>21</v>", "21"), ("<v></v>", "")])
def test_a_formula_is_read_as_what_was_stored_of_it(tmp_path, cached, text):
    """As Excel writes it, the empty text among the values: the stored 21 is not what A2*2 would be."""
    import zipfile

    path = workbook_file(tmp_path, [["a", "b"], [1, "=A2*2"]])
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name).decode() for name in old.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    kind = "" if text else ' t="str"'
    before = '<c r="B2"><f>A2*2</f><v /></c>'
    assert before in files[sheet]
    files[sheet] = files[sheet].replace(before, f'<c r="B2"{kind}><f>A2*2</f>{cached}</c>')
    with zipfile.ZipFile(path, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)
    assert read_table(path).rows["b"].tolist() == [text]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04 and nothing else", "is not a readable Excel file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old format or with a password. Save it in Excel as .xlsx"),
    ],
)
def test_what_cannot_be_read_says_how_to_save_it(tmp_path, content, told):
    (tmp_path / "table.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_table(tmp_path / "table.xlsx")


def test_without_the_library_the_message_names_the_extra(tmp_path, monkeypatch):
    path = workbook_file(tmp_path, [["a"], [1]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'biomass-pl\[excel\]'"):
        read_table(path)
