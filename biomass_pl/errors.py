"""The errors a user can cause. Each message says what happened, where, and what to do."""


class BiomassError(Exception):
    """Base of all errors that the command line shows as one message without a traceback."""


class ConfigError(BiomassError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(BiomassError):
    """A table, a photo or a data folder that cannot be used as it is."""


class FoldError(BiomassError):
    """A cross-validation split that cannot be made or does not fit the photos."""


class WeightsError(BiomassError):
    """Weights that cannot be fetched, read or fitted to the network."""


class RunError(BiomassError):
    """A run folder that does not hold what a command needs."""


class TrainingError(BiomassError):
    """A training that cannot go on."""


def listed(items: list[str], most: int = 10) -> str:
    """One indented line per item for an error message.

    Args:
        items: What to list.
        most: Items shown before the rest is only counted.
    """
    lines = [f"  {item}" for item in items[:most]]
    if len(items) > most:
        lines.append(f"  ... and {len(items) - most} more")
    return "\n".join(lines)
