"""Prints a constraint for pip that pins each dependency of the package to the lowest version it allows."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for line in [*project["dependencies"], *project["optional-dependencies"]["quickstart"]]:
    requirement = Requirement(line)
    (lowest,) = [bound.version for bound in requirement.specifier if bound.operator == ">="]
    print(f"{requirement.name}=={lowest}")  # noqa: T201
