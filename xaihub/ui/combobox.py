"""A box in which one chooses, searches or types: an accessible combobox, also for choices that are searched live.

A `gr.Dropdown` keeps places in its list; new choices that arrive while somebody types leave them pointing at nothing:
its script ends in an error, or the choice is lost without a word. Here the browser owns the list and what is typed.
"""

import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import gradio as gr

__all__ = ["HIDDEN", "Choice", "combobox", "shown_if", "styles"]

HIDDEN: Literal["hidden"] = "hidden"  # in the page, but not seen; what is invisible is made anew when it appears
Choice = tuple[str, str]  # what is shown, the value

HERE = Path(__file__).parent
TEMPLATE = (
    '<label for="text-of-{id}"{unseen}>{label}</label>'
    '<p class="xh-combo-info" id="info-of-{id}"{uninformed}>{info}</p>'
    '<div class="xh-combo-field"><input id="text-of-{id}" type="text" role="combobox" aria-autocomplete="list"'
    ' aria-expanded="false" aria-controls="list-of-{id}" aria-describedby="info-of-{id}" autocomplete="off"'
    ' autocapitalize="off" spellcheck="false"><button type="button" tabindex="-1" aria-label="Show the suggestions">'
    '▾</button><div class="xh-combo-popup" hidden><ul role="listbox" id="list-of-{id}" aria-label="{label}"></ul>'
    '<p role="status"></p></div></div>'
)


def combobox(
    choices: Sequence[Choice],
    *,
    value: str | None,
    label: str,
    info: str = "",
    elem_id: str,
    search: Callable[[str], list[Choice]] | None = None,
    completes: bool = False,
    show_label: bool = True,
    **settings: Any,
) -> gr.HTML:
    """A component whose value is a string: one of the choices', one that was found, or what was typed.

    Its `input` event is triggered when a visitor has chosen another value, not at every key. What a request gives as
    its value need not come from our page, so it may be anything: read it with `wiring.text`. `gr.update` gives it
    another value, other `choices` and another `title`; no subclass of gr.HTML does this, as gradio writes a file beside
    the source of each.

    Args:
        search: what fits a text besides the choices; it is asked while somebody types, 250 ms after the last key.
        completes: whether a typed text that fits one choice alone stands for it.
    """

    def suggest(typed: Any) -> list[Choice]:
        return search(typed) if search is not None and isinstance(typed, str) else []

    # not as properties of the component: gradio forgets them where it is shown only later
    choosing = json.dumps(
        {"choices": [list(choice) for choice in choices], "searches": search is not None, "completes": completes}
    )
    unseen = "" if show_label else ' class="xh-unseen"'
    return gr.HTML(
        value or "",
        html_template=TEMPLATE.format(
            id=elem_id, label=escape(label), info=escape(info), unseen=unseen, uninformed="" if info else " hidden"
        ),
        js_on_load=f"const settings = {choosing};\n{(HERE / 'combobox.js').read_text('utf-8')}",
        server_functions=[suggest] if search is not None else None,
        apply_default_css=False,
        container=True,
        padding=True,
        elem_id=elem_id,
        elem_classes="xh-combo",
        **settings,
    )


def shown_if(seen: bool) -> Literal[True, "hidden"]:
    """Return the `visible` of a combobox: one that gradio made anew would lose what is typed in that moment."""
    return True if seen else HIDDEN


def styles() -> str:
    """The CSS of all comboboxes."""
    return (HERE / "combobox.css").read_text("utf-8")
