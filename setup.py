"""What pyproject.toml cannot say: the recipes, which lie beside the package in a clone, are inside it in a wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies the recipes into the package; an editable installation reads those of the clone."""

    def run(self) -> None:
        """Builds the package."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / "biomass_pl" / "configs"
        self.mkpath(str(folder))
        for recipe in sorted(Path("configs").glob("*.yaml")):
            self.copy_file(str(recipe), str(folder / recipe.name))


setup(cmdclass={"build_py": BuildWithRecipes})
