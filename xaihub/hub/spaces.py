"""The settings of a Space: variables that everyone who may see it can read, and secrets that nobody can."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xaihub.hub.refusals import Token, sending

__all__ = ["SpaceSettings", "configure", "space_secret_names", "space_variables"]


@dataclass(frozen=True)
class SpaceSettings:
    """What is to be set; what is not named here stays as it is.

    Attributes:
        variables: name -> value.
        secrets: name -> value; the values show in no message, repr or file.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def configure(repo_id: str, settings: SpaceSettings, token: Token = None) -> None:
    """Sets what differs: each change restarts the Space. Secrets cannot be compared, so those are set each time.

    Raises:
        HubError: no right to do so, or the Hub does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    for name, value in settings.secrets.items():  # first: a variable may name what only the secret opens
        with sending(repo_id, token, "space"):
            api.add_space_secret(repo_id, name, value)
    known = space_variables(repo_id, token) if settings.variables else {}
    for name, value in settings.variables.items():
        if known.get(name) != value:
            with sending(repo_id, token, "space"):
                api.add_space_variable(repo_id, name, value)


def space_variables(repo_id: str, token: Token = None) -> dict[str, str]:
    """Name -> value of a Space's variables.

    Raises:
        HubError: no right to see them, or the Hub does not answer.
    """
    from huggingface_hub import HfApi

    with sending(repo_id, token, "space"):
        return {name: variable.value for name, variable in HfApi(token=token).get_space_variables(repo_id).items()}


def space_secret_names(repo_id: str, token: Token = None) -> set[str]:
    """The names of a Space's secrets; the Hub gives their values to nobody.

    Raises:
        HubError: no right to see them, or the Hub does not answer.
    """
    from huggingface_hub import HfApi

    with sending(repo_id, token, "space"):
        return set(HfApi(token=token).get_space_secrets(repo_id))
