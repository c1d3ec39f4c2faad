"""Which column of somebody's table holds what: as the settings say, else by its name where only one fits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biomass_pl.data.tables import TextTable
from biomass_pl.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a column can hold.

    Args:
        name: Its name here, the key in `data.columns`.
        also: Other names that it is known by, as `plain_name` writes them.
    """

    name: str
    also: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class AssignedColumns:
    """The columns of a table by what they hold.

    Args:
        headings: Heading of the column of each role that the table has.
        guessed: Those of them that were found by another name than the role's own.
    """

    headings: Mapping[str, str]
    guessed: Mapping[str, str]


def plain_name(heading: str) -> str:
    """A heading in small letters, words joined by `_`, without a unit of grams behind and `dry` in front."""
    words = re.sub(r"[^0-9a-z]+", "_", heading.lower()).strip("_")
    return re.sub(r"^dry_|_(g|gram|grams)$", "", words)


def assign_columns(
    table: TextTable, roles: Sequence[Role], chosen: Mapping[str, str | None] | None = None
) -> AssignedColumns:
    """Finds the column of each role.

    Args:
        table: The table.
        roles: What its columns can hold.
        chosen: The setting `data.columns`: a heading for the name of a role, or none for a role to leave out.

    Raises:
        ConfigError: The setting names a role that there is not, or a column twice.
        DataError: The table has no column of a chosen name, or several that a role could mean.
    """
    chosen = chosen or {}
    _check_chosen(table, roles, chosen)
    headings = {name: heading for name, heading in chosen.items() if heading is not None}
    guessed: dict[str, str] = {}
    for role in roles:
        if role.name in chosen:
            continue
        free = [heading for heading in table.headings if heading not in headings.values()]
        fitting = (
            [role.name]
            if role.name in free
            else [heading for heading in free if plain_name(heading) in role.also | {plain_name(role.name)}]
        )
        if len(fitting) > 1:
            raise DataError(
                f"{table.path} has several columns that may be {role.name}: {', '.join(fitting)}. Choose one: "
                f"{columns_setting({role.name: fitting[0]})}"
            )
        if fitting:
            headings[role.name] = fitting[0]
            guessed |= {} if fitting[0] == role.name else {role.name: fitting[0]}
    return AssignedColumns(headings=headings, guessed=guessed)


def columns_setting(headings: Mapping[str, str]) -> str:
    """The line to write into a recipe that assigns these columns."""
    return f"data.columns: {{{', '.join(f'{name}: {_yaml(heading)}' for name, heading in headings.items())}}}"


def _yaml(heading: str) -> str:
    return heading if re.fullmatch(r"[A-Za-z]\w*", heading) else "'" + heading.replace("'", "''") + "'"


def _check_chosen(table: TextTable, roles: Sequence[Role], chosen: Mapping[str, str | None]) -> None:
    names = [role.name for role in roles]
    for name, heading in chosen.items():
        if name not in names:
            raise ConfigError(f"data.columns names {name}, which is none of {', '.join(names)}. Correct it.")
        if heading is not None and heading not in table.headings:
            raise DataError(
                f"{table.path} has no column {heading}, which data.columns gives for {name}; it has "
                f"{', '.join(table.headings)}. Correct data.columns."
            )
    given = [heading for heading in chosen.values() if heading is not None]
    twice = next((heading for heading in given if given.count(heading) > 1), None)
    if twice is not None:
        raise ConfigError(f"data.columns gives the column {twice} for several things. Give each a column of its own.")
