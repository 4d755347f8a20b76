"""What the pages' events share."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import gradio as gr

from xaihub.progress import Progress
from xaihub.ui.turns import Visitor

__all__ = [
    "AT_ONCE", "LONGEST", "LOOKS", "MODEL_WORK", "PRIVATE", "TO_ANSWER", "Updates", "progress_bar", "read", "said_once",
    "text", "token_of", "visitor",
]  # fmt: skip

LONGEST = 2_000  # letters of a value
Updates = dict[Any, Any]  # what a handler gives: by component, what becomes of it
Handler = Callable[..., Iterator[Updates]]  # one of several steps

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_NAMELESS = re.compile("[0-9a-f]{32}")  # gradio's number of a call that came without a session
AT_ONCE = PRIVATE | {"queue": False, "show_progress": "hidden"}
LOOKS = PRIVATE | {"concurrency_id": "look", "concurrency_limit": 4, "show_progress": "hidden"}
MODEL_WORK = PRIVATE | {"concurrency_id": "model", "concurrency_limit": None}  # whose turn it is: see turns.py
TO_ANSWER = """() => {
  if (window.innerWidth >= 900) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const shown = [...document.querySelectorAll("#xh-alert, #xh-results")].find((part) => part.offsetHeight > 0);
  shown?.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}"""


def progress_bar(progress: gr.Progress) -> Progress:
    """The library's progress on gradio's bar."""
    return lambda share, stage: progress(share, desc=stage)


def said_once(
    run: Callable[..., Iterator[Updates]], nothing: Callable[[], Updates]
) -> Callable[..., Iterator[Updates]]:
    """The same handler, each step of which brings only what is new, and its last one nothing.

    What the visitor chose in a menu between two steps would be undone by a step that brings the menu again. gradio
    sends the last step once more when the handler has ended.
    """

    @wraps(run)
    def handler(*given: Any, **named: Any) -> Iterator[Updates]:
        sent: Updates = {}
        for step in run(*given, **named):
            yield {box: update for box, update in step.items() if not _known(sent, box, update)} or nothing()
            sent |= step
        yield nothing()

    return handler


def _known(sent: Updates, box: Any, update: Any) -> bool:
    """Whether a box got just that before; other things than words and settings of a component are always new."""
    return isinstance(update, str | dict) and box in sent and sent[box] == update


def visitor(request: gr.Request, proxies: int = 0) -> Visitor:
    """Whose question it is. A program that names no session is known by its address.

    Args:
        proxies: of the host's own. What stands further left in X-Forwarded-For was written by the visitor.
    """
    forwarded = str(request.headers.get("x-forwarded-for") or "").split(",")
    known = forwarded[-proxies].strip() if 0 < proxies <= len(forwarded) else ""
    address = known or (request.client.host if request.client else "")
    session = str(request.session_hash)
    return Visitor(f"program at {address}" if _NAMELESS.fullmatch(session) else session, address)


def read(given: Mapping[Any, Any], box: Any) -> str:
    """What a box says; see `text`."""
    return text(given[box])


def text(value: Any) -> str:
    """The text that a request gives as a value, of bounded length and without the white space around it, or ""."""
    return value[:LONGEST].strip() if isinstance(value, str) else ""


def token_of(typed: str | None, account: gr.OAuthToken | None) -> str:
    """The visitor's: the one that was typed, else the one of whoever signed in, or ""."""
    return (typed or "").strip() or (account.token if account else "")
