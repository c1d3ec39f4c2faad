"""Photos that a table names: backslashes, and letter case of endings, as other systems write them."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

_LONGEST_NAME = 255
"""Bytes of a file's name, which file systems allow at most; no folder in front of it needs to be as long."""


class PhotoFiles:
    """Finds the files that a table names.

    Args:
        root: Folder to which the names are relative.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> str:
        """The file that a name means, relative to the folder; a name that leads elsewhere stays.

        A backslash separates folders, unless a file is called so. Where no file has the name, the only one whose name
        differs in the letter case of its ending is taken; without one, the name stays.
        """
        if path_problem(self.root, name) is not None or (self.root / name).is_file():
            return name
        name = name.replace("\\", "/")
        path = self.root / name
        if path.is_file() or not path.suffix:
            return name
        fitting = self._files_in(path.parent).get(_without_case(path.name), [])
        return str(PurePosixPath(name).with_name(fitting[0])) if len(fitting) == 1 else name

    def _files_in(self, folder: Path) -> dict[str, list[str]]:
        """Names of the files in a folder by what they are without letter case in their endings."""
        if folder not in self._folders:
            self._folders[folder] = {}
            for file in folder.iterdir() if folder.is_dir() else ():
                self._folders[folder].setdefault(_without_case(file.name), []).append(file.name)
        return self._folders[folder]


def _without_case(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem + path.suffix.lower()


def path_problem(root: Path, name: str) -> str | None:
    """Why a table may not name a photo like that, or None: it must be the name of a file inside the folder."""
    if "\0" in name or len(name.encode()) > _LONGEST_NAME:
        return f"{name[:100]!r} is not the name of a file"
    # Either way of reading backslashes.
    if not all((root / way).resolve().is_relative_to(root.resolve()) for way in {name, name.replace("\\", "/")}):
        return f"'{name}' leaves the data folder"
    return None


def names_of_photos(files: Sequence[str]) -> list[str]:
    """A name for each photo: its file's without folders and ending, or with them where these tell photos apart.

    Args:
        files: Paths of the photos, relative to the data folder, none of them twice.
    """
    paths = [PurePosixPath(file) for file in files]
    for names in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if _are_different(names):
            return names
    return [str(path) for path in paths]


def _are_different(names: Iterable[str]) -> bool:
    names = list(names)
    return len(set(names)) == len(names)
