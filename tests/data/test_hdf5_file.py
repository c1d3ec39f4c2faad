"""Every process opens the file on its own, and an open one can be handed over as if it were closed."""

import multiprocessing
import pickle

import h5py
import pytest

from biomass_pl.data.hdf5_file import Hdf5File
from biomass_pl.errors import DataError


@pytest.fixture
def file(tmp_path) -> Hdf5File:
    with h5py.File(tmp_path / "numbers.hdf5", "w") as content:
        content["one"] = 1
    return Hdf5File(tmp_path / "numbers.hdf5")


def read_and_tell(file: Hdf5File, answers) -> None:
    before = file._file
    answers.put((int(file.opened()["one"][()]), file._file is not before))


def test_it_is_opened_once_and_again_after_it_was_closed(file):
    first = file.opened()
    assert file.opened() is first and int(first["one"][()]) == 1
    file.close()
    assert not first and file.opened() is not first and file.opened()["one"][()] == 1


def test_closing_what_was_never_opened_does_nothing(file):
    file.close()
    assert file.opened()["one"][()] == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_opens_its_own(method, file):
    file.opened()
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=read_and_tell, args=(file, answers))
    process.start()
    assert answers.get(timeout=60) == (1, True)
    process.join()
    assert process.exitcode == 0 and file.opened()["one"][()] == 1


def test_an_open_file_can_be_pickled(file):
    file.opened()
    assert pickle.loads(pickle.dumps(file)).opened()["one"][()] == 1


@pytest.mark.parametrize("content", [None, b"", b"no hdf5"])
def test_what_is_no_hdf5_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "broken.hdf5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.hdf5 is no HDF5 file"):
        Hdf5File(path).opened()
