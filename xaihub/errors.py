"""Everything that can go wrong for a reason a person can act on.

    XaihubError
    ├── UnknownNameError              no entry of that name; the nearest known names are offered
    ├── PictureError                  the picture cannot be read, or is too large to be
    ├── HubError                      the Hub was asked and the answer is no
    │   ├── HubUnreachableError       no answer at all
    │   ├── RepoNotFoundError         no such repository or revision, or it is private
    │   ├── AccessDeniedError         private or gated, or the token is not valid
    │   └── DownloadError             the files did not arrive whole
    │       ├── DamagedFileError      a file holds something else than it should; a fresh copy may help
    │       └── UnsafeFileError       a file is beyond what a file of its kind can be; nothing of it is used
    ├── UnsupportedModelError         found, and refused: what it is and what would work
    │   └── TooLargeError             beyond the limits this host has set
    ├── TargetLayerError              no layer of that name, or none that shows where
    ├── DatasetError                  no pictures could be read from it
    ├── ReferencesError               the references cannot be used
    │   └── ReferencesMismatchError   they were made by another classifier
    └── CancelledError                somebody pressed Stop, or the time limit passed
        └── BusyError                 this host has no place for it now

Each message says the value given, why it cannot work and what to do next; the app shows it as it is.
A caller's mistake in code stays a plain `ValueError` or `TypeError`.
"""

import logging
import traceback

__all__ = [
    "AccessDeniedError",
    "BusyError",
    "CancelledError",
    "DamagedFileError",
    "DatasetError",
    "DownloadError",
    "HubError",
    "HubUnreachableError",
    "PictureError",
    "ReferencesError",
    "ReferencesMismatchError",
    "RepoNotFoundError",
    "TargetLayerError",
    "TooLargeError",
    "UnknownNameError",
    "UnsafeFileError",
    "UnsupportedModelError",
    "XaihubError",
    "first_line",
    "log_failure",
    "shorten",
]

_LONGEST = 4_000  # letters of a message; what it repeats of others is shortened to far less
_MOST_LINES, _LONGEST_LINE = 80, 300  # of a traceback in the log


class XaihubError(Exception):
    """Base of every error of this package; its text is meant to be read by a visitor, so it has an end."""

    def __str__(self) -> str:
        return shorten(super().__str__(), _LONGEST)


class UnknownNameError(XaihubError):
    """No method, metric, family or class of that name."""


class PictureError(XaihubError):
    """The picture cannot be read, or is too large to be."""


class HubError(XaihubError):
    """The Hub was asked and the answer is no."""


class HubUnreachableError(HubError):
    """The Hub did not answer."""


class RepoNotFoundError(HubError):
    """No such repository or revision, or it is private and no token was given."""


class AccessDeniedError(HubError):
    """The repository is there, but not for this visitor."""


class DownloadError(HubError):
    """The files did not arrive whole."""


class DamagedFileError(DownloadError):
    """A file holds something else than it should: a pointer, zero bytes, or content with another hash."""


class UnsafeFileError(DownloadError):
    """A file is larger, deeper or wider than a file of its kind can be, so that nothing of it is used."""


class UnsupportedModelError(XaihubError):
    """The model was found and is refused; the message says what would work."""


class TooLargeError(UnsupportedModelError):
    """The model is beyond the limits this host has set."""


class TargetLayerError(XaihubError):
    """No layer of that name, or none that shows where in the picture."""


class DatasetError(XaihubError):
    """No pictures could be read from the dataset."""


class ReferencesError(XaihubError):
    """The references cannot be used."""


class ReferencesMismatchError(ReferencesError):
    """The references were made by another classifier."""


class CancelledError(XaihubError):
    """Somebody pressed Stop, or the time limit passed."""


class BusyError(CancelledError):
    """This host has no place for it now; the message says when to ask again."""


def shorten(value: object, most: int = 120) -> str:
    """The text of a value, at most so many letters of it: for every message and log that repeats what others wrote."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def log_failure(logger: logging.Logger, message: str, *values: object) -> None:
    """Logs the exception that is being handled; what visitors and repositories wrote into it is shortened."""
    lines = traceback.format_exc().splitlines()[-_MOST_LINES:]
    text = "\n".join(shorten(line, _LONGEST_LINE) for line in lines)
    logger.error("%s\n%s", message % tuple(map(shorten, values)), text)


def first_line(error: BaseException, most: int = 160) -> str:
    """What another library's error says, short enough to stand inside a sentence of ours."""
    return shorten((str(error).strip() or type(error).__name__).splitlines()[0], most)
