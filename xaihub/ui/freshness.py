"""Answers that were asked about something else than the boxes say now are marked, on every page, at once.

The server says of each answer what it was asked about; the browser compares that with the boxes (`freshness.js`).
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from xaihub.ui.wiring import PRIVATE, Updates

__all__ = ["Freshness"]

_NUMBERS = itertools.count(1)  # each answer's own: the same question may be answered twice


class Freshness:
    """The mark above an answer, and what the answer was asked about.

    Attributes:
        stale: what the browser writes above the answer.
        answered: what the server says of the answer; "" where there is none. A handler that draws one gives it.
    """

    def __init__(self) -> None:
        self.stale = gr.HTML(elem_id="xh-stale")
        self.answered = gr.Textbox("", visible="hidden")
        self._watched: dict[str, tuple[Any, ...]] = {}

    def watch(
        self, verb: str, boxes: Mapping[str, Any], unasked: Sequence[str] = (), *, subject: str = "This answer is"
    ) -> None:
        """Mark the answer when one of the boxes changes after it.

        Args:
            verb: on the button that asks.
            boxes: what a box is called in the mark -> the box, or several of which the rest matter with the first.
            unasked: names of those whose change is answered without the button.
        """
        self._watched = {name: box if isinstance(box, tuple) else (box,) for name, box in boxes.items()}
        names = json.dumps([[name, len(parts), name in unasked] for name, parts in self._watched.items()])
        every = [*(box for parts in self._watched.values() for box in parts), self.answered]
        gr.on(
            [box.change for box in every],
            None,
            every,
            [self.stale],
            js=f"(...values) => xaihubFresh({names}, {json.dumps(subject)}, {json.dumps(verb)}, values)",
            show_progress="hidden",
            **PRIVATE,
        )

    def answer_to(self, given: Mapping[Any, Any]) -> Updates:
        """The update that says that the answer is to what the boxes hold; what is said of other boxes stays."""
        about = {name: _held(parts, given) for name, parts in self._watched.items() if parts[0] in given}
        return {self.answered: json.dumps({"number": next(_NUMBERS), "about": about})}

    def changed_to(self, updates: Updates) -> Updates:
        """The same for a change of the answer, whose updates set the menus as it was asked."""
        values = {
            box: update["value"] for box, update in updates.items() if isinstance(update, dict) and "value" in update
        }
        return self.answer_to(values)

    def gone(self) -> Updates:
        """The update that says that there is no answer."""
        return {self.answered: ""}


def _held(parts: tuple[Any, ...], given: Mapping[Any, Any]) -> str:
    first, *more = (_plain(given.get(box)) for box in parts)
    return "" if not first else " ".join([first, *more])


def _plain(value: Any) -> str:
    """A value as the browser writes it: of a file its name and its folder's, which is one of its own."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return "|".join(map(_plain, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return "/".join(Path(text).parts[-2:]) if isinstance(value, str) and Path(text).is_absolute() else text
