"""Targets that are sums of others: which parts each adds up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from biomass_pl.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What is predicted on its own, and how the targets follow from it.

    Args:
        names: Targets that are no sums, in their order.
        matrix: 1 where a target contains a part, float32 (targets, parts).
    """

    names: tuple[str, ...]
    matrix: np.ndarray

    def of_sums(self, targets: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The parts of each target that is a sum.

        Args:
            targets: All targets.
        """
        rows = dict(zip(targets, self.matrix > 0, strict=True))
        return {
            target: tuple(name for name, is_part in zip(self.names, row, strict=True) if is_part)
            for target, row in rows.items()
            if target not in self.names
        }


def parts_of(targets: Sequence[str], sums: Mapping[str, Sequence[str]]) -> Parts:
    """Resolves sums, which may contain other sums.

    Args:
        targets: All targets.
        sums: Targets that are the sum of others: the names of these.

    Raises:
        ConfigError: A name is no target or cannot be a key, or a sum contains itself, a part twice or fewer than two.
    """
    for name, terms in sums.items():
        unknown = [part for part in (name, *terms) if part not in targets]
        if unknown:
            raise ConfigError(
                f"model.sums names '{unknown[0]}', which is not among data.targets ({', '.join(targets)}). Correct it."
            )
        if "." in name or name.endswith("+") or name.startswith("__"):
            raise ConfigError(
                f"model.sums has the key '{name}', which a configuration would read as something else: a sum's name "
                "holds no dot, and no plus at its end. Rename the column."
            )
        if len(terms) < 2:
            raise ConfigError(f"model.sums gives '{name}' fewer than two parts. Name the targets that it adds up.")
    names = tuple(target for target in targets if target not in sums)
    matrix = np.zeros((len(targets), len(names)), dtype=np.float32)
    for row, target in enumerate(targets):
        for part in _added_up(target, sums, above=()):
            matrix[row, names.index(part)] += 1
        if matrix[row].max() > 1:
            twice = names[int(matrix[row].argmax())]
            raise ConfigError(f"model.sums adds '{twice}' to '{target}' more than once. Leave one out.")
    return Parts(names=names, matrix=matrix)


def _added_up(target: str, sums: Mapping[str, Sequence[str]], *, above: tuple[str, ...]) -> list[str]:
    """The parts of a target, one after another; itself where it is no sum."""
    if target in above:
        raise ConfigError(f"model.sums has '{target}' contain itself. Leave it out of its own parts.")
    if target not in sums:
        return [target]
    return [part for term in sums[target] for part in _added_up(term, sums, above=(*above, target))]
