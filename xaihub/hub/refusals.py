"""What the client raises, in sentences about the repository that was asked for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from xaihub.downloads import refused_by_disk
from xaihub.errors import (
    AccessDeniedError,
    DownloadError,
    HubError,
    HubUnreachableError,
    RepoNotFoundError,
    XaihubError,
    first_line,
)

__all__ = ["RepoType", "Token", "explained", "sending"]

Token = str | bool | None  # a token; False for none at all; None for what this machine is logged in with
RepoType = Literal["model", "dataset", "space"]


@contextmanager
def explained(repo_id: str, revision: str | None, token: Token, repo_type: str) -> Iterator[None]:
    """Turns the client's exceptions into sentences about this repository."""
    import huggingface_hub.errors as theirs

    if isinstance(token, str) and not re.fullmatch(r"[!-~]+", token):  # such a header cannot be sent
        raise _bad_token()
    try:
        yield
    except XaihubError:
        raise
    except theirs.GatedRepoError as error:
        raise AccessDeniedError(
            f"{repo_id} is gated: its authors ask people to accept their terms. Open its page on the Hub, accept them,"
            f" and sign in here{' with the account that did' if token else ''}."
        ) from error
    except theirs.RevisionNotFoundError as error:
        raise RepoNotFoundError(
            f"{repo_id} has no revision {revision!r}. Leave the revision out, or give a commit."
        ) from error
    except theirs.RepositoryNotFoundError as error:
        if _status(error) == 401 and "credentials" in str(error).lower():
            raise _bad_token() from error
        raise RepoNotFoundError(
            f"There is no {repo_type} {repo_id!r} on the Hub, or it is private and not open to"
            f" {'your token' if token else 'visitors without a token'}."
        ) from error
    except theirs.RemoteEntryNotFoundError as error:
        raise DownloadError(f"A file of {repo_id} is gone from the Hub. Try again.") from error
    except theirs.HfHubHTTPError as error:
        raise _http_error(repo_id, error) from error
    except (theirs.LocalEntryNotFoundError, theirs.HTTPError, ConnectionError, TimeoutError) as error:
        raise _unreachable(repo_id) from error
    except theirs.HFValidationError as error:
        raise RepoNotFoundError(
            f"{repo_id!r} is not the id of a repository. An id looks like 'microsoft/resnet-18'."
        ) from error
    except OSError as error:
        if said := refused_by_disk(error):
            raise DownloadError(f"A file of {repo_id} cannot be kept or read here: {said}") from error
        raise DownloadError(f"A file of {repo_id} did not arrive whole ({first_line(error)}). Try again.") from error


@contextmanager
def sending(repo_id: str, token: Token, repo_type: str) -> Iterator[None]:
    """The same for what is written, or looked at in order to write; also for the exceptions of an upload's threads."""
    import huggingface_hub.errors as theirs

    try:
        with explained(repo_id, None, token, repo_type):
            try:
                yield
            except (theirs.HfHubHTTPError, RuntimeError) as error:
                # The client wraps whatever ended an upload.
                ended = error if isinstance(error, theirs.HfHubHTTPError) else error.__cause__ or ConnectionError(error)
                raise (_refused(repo_id, ended) or ended) from None
    except HubUnreachableError as error:
        raise HubUnreachableError(
            f"The Hub does not answer as it should ({_why(error.__cause__)}), so {repo_id} was not published; it is as"
            " it was. Check the network and run the same again: what has arrived is not sent twice."
        ) from error
    except (DownloadError, ValueError) as error:  # a file that cannot be read here, or what the Hub's storage refuses
        raise HubError(f"{repo_id} was not published; it is as it was. {first_line(error)}") from error


def _refused(repo_id: str, error: BaseException) -> HubError | None:
    """What the Hub means by the statuses that only somebody who writes is answered with."""
    why = str(getattr(error, "server_message", None) or "it gives no reason").rstrip(".")
    said = {
        400: f"The Hub did not take what was sent to {repo_id}: {why}.",
        402: f"The Hub asks for a paid plan before this account may have {repo_id}: {why}.",
        403: f"The Hub does not let this token do that with {repo_id}: {why}.",
        409: f"The Hub is busy with another change of {repo_id}. Wait a minute and run the same again.",
        412: f"Somebody else changed {repo_id} meanwhile; it is as they left it. Look at it, and run the same again.",
        413: f"The Hub finds this too large for {repo_id}: {why}.",
    }
    status = _status(error)
    if status not in said:
        return None
    return (AccessDeniedError if status == 403 else HubError)(said[status])


def _why(error: BaseException | None) -> str:
    """Without the address, which may be a signed one."""
    status = _status(error)
    return f"status {status}" if status else first_line(error or ConnectionError("no connection")).rstrip(".")


def _http_error(repo_id: str, error: Exception) -> HubError:
    status = _status(error)
    if status == 401:
        return _bad_token()
    if status == 403:
        return AccessDeniedError(f"The Hub does not let this token do that with {repo_id}: {first_line(error)}")
    if status == 429:
        return HubUnreachableError("The Hub is answering too many requests from here. Wait a minute and try again.")
    return HubUnreachableError(
        f"The Hub failed while answering for {repo_id} (status {status}). Try again in a minute."
    )


def _bad_token() -> AccessDeniedError:
    return AccessDeniedError("The Hub does not know this token. Sign in again, or use the app without a token.")


def _unreachable(repo_id: str) -> HubUnreachableError:
    return HubUnreachableError(
        f"The Hugging Face Hub does not answer, so {repo_id} cannot be loaded now. Check the network and try again;"
        " the built-in starter works without it."
    )


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
