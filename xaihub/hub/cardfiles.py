"""Cards: a head of YAML that the Hub reads, and below it a text for people."""

import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from typing import Any

from xaihub.errors import HubError
from xaihub.hub.looking import is_repo_id
from xaihub.hub.refusals import RepoType, Token, sending

__all__ = ["card_body", "card_text", "check_card", "model_index"]

# The Hub reads YAML 1.2, where these are numbers too; the client's writer follows 1.1 and would leave them bare.
_LOOKS_LIKE_A_NUMBER = re.compile(r"[-+]?\.?\d.*", re.DOTALL)


class _Quoted(str):
    """A string that is written in quotes."""

    __slots__ = ()


@cache
def _quote_as_told() -> None:
    """Teaches the client's writer our quoted strings, and nothing else."""
    import yaml  # type: ignore[import-untyped]  # comes with huggingface_hub

    def quoted(writer: Any, text: _Quoted) -> Any:
        return writer.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')

    yaml.add_representer(_Quoted, quoted)


def card_text(data: Mapping[str, Any], body: str) -> str:
    """The text of README.md, read back and found to say the same: also classes called no, 1, null or "a: b".

    Args:
        data: the head; fields that are None are left out.
        body: Markdown.

    Raises:
        ValueError: a field that YAML cannot hold, which is named.
    """
    from huggingface_hub import CardData, ModelCard, RepoCard

    plain = {name: _plain(name, value) for name, value in data.items() if value is not None}
    for name, value in plain.items():
        _check_field(name, value)
    _quote_as_told()
    head = CardData(**plain).to_yaml()
    text = f"---\n{head}\n---\n{body.rstrip()}\n"
    card = RepoCard(text)
    if card.data.to_dict() != plain or card.text != f"{body.rstrip()}\n":
        raise ValueError("The head of the card does not read back as it was written.")
    if "model-index" in plain:
        ModelCard(text)  # which reads the results one by one
    return text


def card_body(text: str) -> str:
    """The text for people of a README.md, without its head."""
    return re.sub(r"\A\s*---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)


def _plain(name: str, value: Any) -> Any:
    """The same in lists, dicts, strings and numbers."""
    if isinstance(value, str):
        return _Quoted(value) if _LOOKS_LIKE_A_NUMBER.fullmatch(value) else str(value)
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise ValueError(f"{name!r} of the card has the key {odd[0]!r}, which is no string. Write it as one.")
        return {str(key): _plain(name, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, inner) for inner in value]
    if value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"{name!r} of the card holds {value!r:.200}, a {type(value).__name__}. Write it as a string.")
    return value


def _check_field(name: str, value: Any) -> None:
    from huggingface_hub import CardData, RepoCard

    _quote_as_told()
    try:
        read = RepoCard(f"---\n{CardData(**{name: value}).to_yaml()}\n---\n").data.to_dict().get(name)
    except Exception as error:
        raise ValueError(f"{name!r} of the card is {value!r:.200}, which YAML cannot hold ({error}).") from error
    if read != value:
        raise ValueError(f"{name!r} of the card is {value!r:.200}, which YAML gives back as {read!r:.200}.")


def model_index(
    name: str,
    metrics: Mapping[str, Any],
    *,
    dataset: str | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> list[dict[str, Any]]:
    """The entry `model-index` of a model card: what was measured, on what.

    F1, precision and recall are means over the classes, each class counting the same. What is not a finite number
    (AUROC of one class) is left out.

    Args:
        name: of the model.
        metrics: as metrics.json holds them.
        dataset, split, revision: instead of those in `metrics`; a folder's name is shown without the path to it.
        config: of the dataset.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    given = dataset or metrics.get("dataset") or "unnamed"
    on_hub = is_repo_id(given) and "/" in given
    place: dict[str, Any] = {
        "task_type": "image-classification",
        "task_name": "Image classification",
        "dataset_type": given if on_hub else "imagefolder",
        "dataset_name": given if on_hub else PurePath(given).name,
        "dataset_config": config,
        "dataset_split": split or metrics.get("split"),
        "dataset_revision": revision or metrics.get("dataset_revision"),
    }
    results = [
        EvalResult(metric_type=kind, metric_name=called, metric_value=round(float(value), 6), metric_args=how, **place)
        for kind, called, value, how in _measured(metrics)
        if value is not None and math.isfinite(value)
    ]
    return eval_results_to_model_index(name, results) if results else []


def _measured(metrics: Mapping[str, Any]) -> list[tuple[str, str, float | None, dict[str, str] | None]]:
    macro = {"average": "macro"}
    classes = list(metrics.get("per_class", {}).values())

    def mean(what: str) -> float | None:
        values = [one[what] for one in classes if one.get(what) is not None]
        return sum(values) / len(values) if values else None

    return [
        ("accuracy", "Accuracy", metrics.get("accuracy"), None),
        ("f1", "F1, mean of the classes", metrics.get("macro_f1", mean("f1")), macro),
        ("precision", "Precision, mean of the classes", mean("precision"), macro),
        ("recall", "Recall, mean of the classes", mean("recall"), macro),
        ("roc_auc", "AUROC", metrics.get("auroc"), None),
    ]


def check_card(text: str, repo_id: str, repo_type: RepoType, token: Token = None) -> None:
    """Nothing, if the card of this repository-to-be has a head and the Hub finds it right.

    Raises:
        HubError: what is wrong with it, or the Hub does not answer.
    """
    _check_head(text)
    message = _objection(text, repo_id, repo_type, token)
    if message:
        raise HubError(f"The Hub finds the head of README.md wrong: {message}. Nothing was published; correct it.")


def _check_head(text: str) -> None:
    from huggingface_hub import RepoCard

    if not text.lstrip("\ufeff").startswith("---"):
        raise HubError("README.md has no head: between two lines of --- it must say at least its licence or its tags.")
    try:
        empty = not RepoCard(text).data.to_dict()
    except Exception as error:
        line = str(error).replace("\n", " ")
        raise HubError(f"The head of README.md is not YAML: {line:.300}. Nothing was published; correct it.") from error
    if empty:
        raise HubError("The head of README.md says nothing: it must say at least its licence or its tags.")


def _objection(text: str, repo_id: str, repo_type: RepoType, token: Token) -> str:
    """What the Hub has against a card; empty if nothing."""
    import huggingface_hub.utils as client
    from huggingface_hub import constants

    with sending(repo_id, token, repo_type):
        answer = client.get_session().post(
            f"{constants.ENDPOINT}/api/validate-yaml",
            json={"content": text, "repoType": repo_type},
            headers=client.build_hf_headers(token=token),
        )
        if answer.status_code != 400:
            client.hf_raise_for_status(answer)
            return ""
        errors = answer.json().get("errors") or [{"message": "it does not say what"}]
    return "; ".join(str(error.get("message")).rstrip(".") for error in errors).replace("\n", " ")
