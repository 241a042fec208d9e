"""Typed errors with one-sentence messages: where, what, value, expected, remedy.

Everything a user can cause (bad file, bad option, missing extra) raises a ``TrackbenchError``; the
command line and the workflow print its message and stop with exit code 2. Any other exception is a
defect of trackbench.
"""


class TrackbenchError(Exception):
    """Base of every error a user can cause."""


class InputError(TrackbenchError):
    """A file or an array that is not what it should be."""


class ConfigError(TrackbenchError):
    """An unknown, misspelt or wrong setting."""


class Stopped(TrackbenchError):
    """Asked to stop by a signal, or because time is over: nothing failed, and the same command goes on."""


class MissingExtraError(TrackbenchError):
    """An optional package is needed and not installed."""


def describe(where: object, what: str, expected: str = "", remedy: str = "") -> str:
    """Build the one-sentence message of an error.

    where: file, option or array the problem is in
    what: the problem with the offending value
    expected, remedy: what would be right, and what to do about it (both optional)
    Returns e.g. ``"a-hits.csv: 3 duplicate hit_id (first 77), expected unique; download again."``
    """
    text = f"{where}: {what}"
    if expected:
        text += f", expected {expected}"
    if remedy:
        text += f"; {remedy}"
    return text if text.endswith("?") else text + "."


def require(where: str, value: object, good: object, expected: str) -> None:
    """Raise ConfigError about a setting unless ``good``.

    where: of the setting, such as "training.steps"; expected: what would be right
    """
    if not good:
        raise ConfigError(describe(where, f"value {value!r}", expected))


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Return the error for an optional package that is not installed.

    package: import name; extra: the pip extra that brings it; purpose: what needs it
    """
    return MissingExtraError(
        describe(purpose, f"the package '{package}' is not installed", "", f"run pip install 'trackbench[{extra}]'")
    )
