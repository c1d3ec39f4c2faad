"""The recipes that come with the package: found by name, listed, copied to be edited."""

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).parent


def recipes_folder() -> Path:
    """Where the recipes lie: in the installed package, or, in a clone, beside it."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def recipe_names() -> list[str]:
    """Names of the recipes, in order."""
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def find_recipe(named: str | Path) -> Path:
    """The file of a recipe: one of this path where there is one, else the package's recipe of this name.

    Args:
        named: A path, or a name such as `quickstart`; what is neither stays as it is.
    """
    path = Path(named)
    is_name = path.parent == Path() and path.suffix in ("", ".yaml")
    packaged = recipes_folder() / f"{path.stem}.yaml"
    return packaged if is_name and not path.is_file() and packaged.is_file() else path


def shortest_name(recipe: str) -> str:
    """What finds a recipe's file from here: its name where that is enough, else its path."""
    name = Path(recipe).stem
    return name if find_recipe(name) == Path(recipe) else recipe


def missing_recipe_advice(path: Path) -> str:
    """What to give in place of a recipe that is not there: the one that was probably meant, and all there are."""
    names = recipe_names()
    similar = difflib.get_close_matches(path.stem, names, n=1)
    meant = f"Did you mean --config {similar[0]}? " if similar else ""
    return f"{meant}The package has: {', '.join(names)}; biomass recipes tells what they train."


def about(recipe: Path) -> str:
    """The first sentence of the comment that a recipe begins with."""
    lines = []
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):
            break
        lines.append(line.removeprefix("# "))
    sentence, *_ = " ".join(lines).split(". ")
    return sentence.rstrip(".:")


def copy_recipes(folder: Path) -> tuple[list[str], list[str]]:
    """Copies the recipes into a folder, which is made if it is missing; what is there stays as it is.

    Args:
        folder: Where to put them.

    Returns:
        Names of the files that were copied, and of those that were there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copied, kept = [], []
    for name in recipe_names():
        target = folder / f"{name}.yaml"
        try:
            with target.open("x", encoding="utf-8") as file:
                file.write((recipes_folder() / target.name).read_text(encoding="utf-8"))
        except FileExistsError:
            kept.append(target.name)
        else:
            copied.append(target.name)
    return copied, kept
