"""What the pages' events share."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from xaihub.progress import Progress

__all__ = [
    "AT_ONCE", "LOOKS", "MODEL_WORK", "PRIVATE", "TO_ANSWER", "Updates", "progress_bar", "read", "token_of", "visitor",
]  # fmt: skip

Updates = dict[Any, Any]  # what a handler gives: by component, what becomes of it

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
AT_ONCE = PRIVATE | {"queue": False, "show_progress": "hidden"}
LOOKS = PRIVATE | {"concurrency_id": "look", "concurrency_limit": 4, "show_progress": "hidden"}
MODEL_WORK = PRIVATE | {"concurrency_id": "model", "concurrency_limit": 1}  # one classifier at a time
TO_ANSWER = """() => {
  if (window.innerWidth >= 900) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const shown = [...document.querySelectorAll("#xh-alert, #xh-results")].find((part) => part.offsetHeight > 0);
  shown?.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}"""


def progress_bar(progress: gr.Progress) -> Progress:
    """The library's progress on gradio's bar."""
    return lambda share, stage: progress(share, desc=stage)


def visitor(request: gr.Request) -> str:
    """Whose question it is."""
    return str(request.session_hash)


def read(given: Mapping[Any, Any], box: Any) -> str:
    """What a box says, without the white space around it; "" for nothing."""
    return str(given[box] or "").strip()


def token_of(typed: str | None, account: gr.OAuthToken | None) -> str:
    """The visitor's: the one that was typed, else the one of whoever signed in, or ""."""
    return (typed or "").strip() or (account.token if account else "")
