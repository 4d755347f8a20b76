"""The variables and secrets of Spaces. A secret can be set and deleted; its value is in no answer."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .cards import timestamp
from .server import Answer, HubError, Request, route

if TYPE_CHECKING:
    from .hub import LoopbackHub

SPACE = r"/api/spaces/(?P<name>[^/]+/[^/]+)"
STORE = r"/(?P<store>variables|secrets)"


@route("GET", SPACE + STORE)
def listed(hub: "LoopbackHub", request: Request, name: str, store: str) -> Answer:
    return Answer.json(_shown(hub, request, name, store))


@route("POST", SPACE + STORE)
def change(hub: "LoopbackHub", request: Request, name: str, store: str) -> Answer:
    keep(getattr(hub.writable(request, "spaces", name), store), request.json())
    return Answer.json(_shown(hub, request, name, store))


@route("DELETE", SPACE + STORE)
def forget(hub: "LoopbackHub", request: Request, name: str, store: str) -> Answer:
    getattr(hub.writable(request, "spaces", name), store).pop(request.json()["key"], None)
    return Answer.json(_shown(hub, request, name, store))


def keep(store: dict[str, dict[str, Any]], asked: dict[str, Any]) -> None:
    """Sets one variable or secret; names are those of environment variables."""
    key, value = asked.get("key", ""), asked.get("value", "")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) or not isinstance(value, str):
        raise HubError(400, f"Invalid key: {key}")
    described = {"description": asked["description"]} if "description" in asked else {}
    store[key] = {"value": value, "updatedAt": timestamp(datetime.now(UTC)), **described}


def _shown(hub: "LoopbackHub", request: Request, name: str, store: str) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = getattr(hub.writable(request, "spaces", name), store)
    hidden = {"value"} if store == "secrets" else set()
    return {key: {what: entry[what] for what in entry if what not in hidden} for key, entry in entries.items()}
