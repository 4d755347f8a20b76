"""With whose token the Hub is asked. Never logged, never kept."""

import re

from xaihub.errors import AccessDeniedError
from xaihub.ui.settings import RepoType, Settings

__all__ = ["token_for"]

_TOKEN = re.compile(r"^[\w.\-]{3,2000}$")  # Hub tokens and OAuth tokens; a line break would be a second HTTP header


def token_for(repo_type: RepoType, repo_id: str, visitor: str, settings: Settings) -> str | bool | None:
    """The visitor's token, or False for none; None, which is the host's own, only for what the host configured.

    Args:
        repo_id: with "@revision" where one was asked for; what the host configured is its main branch.

    Raises:
        AccessDeniedError: what the visitor gave is no token.
    """
    if (repo_type, repo_id.strip()) in settings.own:
        return None
    visitor = visitor.strip()
    if visitor and not _TOKEN.match(visitor):
        raise AccessDeniedError(
            "What is in the token box is not a token. Copy it again from the Hub: it begins with hf_."
        )
    return visitor or False
