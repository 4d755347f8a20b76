"""Everything that can go wrong for a reason a person can act on.

    XaihubError
    ├── UnknownNameError              no entry of that name; the nearest known names are offered
    ├── PictureError                  the picture cannot be read, or is too large to be
    ├── HubError                      the Hub was asked and the answer is no
    │   ├── HubUnreachableError       no answer at all
    │   ├── RepoNotFoundError         no such repository or revision, or it is private
    │   ├── AccessDeniedError         private or gated, or the token is not valid
    │   └── DownloadError             the files did not arrive whole
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

__all__ = [
    "AccessDeniedError",
    "BusyError",
    "CancelledError",
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
    "UnsupportedModelError",
    "XaihubError",
    "first_line",
]


class XaihubError(Exception):
    """What every error of this package is; its text is meant to be read by a visitor."""


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


def first_line(error: BaseException, most: int = 160) -> str:
    """What another library's error says, short enough to stand inside a sentence of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]
