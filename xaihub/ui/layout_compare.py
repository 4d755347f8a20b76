"""The boxes of the Compare page that other pages have not; what they do is in `page_compare`."""

from typing import Literal

import gradio as gr

from xaihub.ui.boxes import Boxes, kept_answer, menu, model_box
from xaihub.ui.combobox import shown_if
from xaihub.ui.desk_compare import CLASSES, DEFAULTS
from xaihub.ui.menus import PREDICTED
from xaihub.ui.settings import Settings

__all__ = ["OPENING", "VARIES", "Layout", "visible"]

VARIES = [("Methods", "methods"), ("Classes", "classes"), ("Two models", "models")]
OPENING = list(zip(("Grad-CAM", "Grad-CAM++", "HiResCAM", "LayerCAM", "Eigen-CAM"), DEFAULTS, strict=True))


def visible(vary: str) -> dict[str, Literal[True, "hidden"]]:
    """Which boxes matter for what varies, by their names in `Layout`."""
    shown = {
        "methods": vary == "methods",
        "method": vary != "methods",
        "classes": vary == "classes",
        "target": vary != "classes",
        "other": vary == "models",
    }
    return {name: shown_if(there) for name, there in shown.items()}


class Layout(Boxes):
    """The page's components. Made inside a `gr.Blocks`."""

    verb = "Compare"
    greeting = (
        '<div class="xh-welcome"><h2>Would another map say the same?</h2><p>The same picture under several methods,'
        " several classes or two models, side by side, with what each map costs and how alike they are. One pass"
        " through a model serves all of its maps; only the slow methods need more.</p></div>"
    )
    example_verb = "compare"

    def __init__(self, settings: Settings) -> None:
        self.compared = kept_answer(settings)
        self.plan = kept_answer(settings)
        super().__init__(settings)

    def _make_choices(self) -> None:
        shown = visible("methods")
        self.vary = gr.Radio(VARIES, value="methods", label="What varies", elem_id="xh-vary")
        self.other = model_box("Second model", "xh-other", None, self.finder, visible=shown["other"])
        self.methods = gr.Dropdown(
            OPENING, value=list(DEFAULTS), multiselect=True, label="Methods", elem_id="xh-methods"
        )
        self.method = menu(OPENING, "Method", "xh-method", visible=shown["method"])
        self.classes = gr.Dropdown(
            [],
            multiselect=True,
            allow_custom_value=True,
            label=f"Classes; the {CLASSES} most probable if none is named",
            elem_id="xh-classes",
            visible=shown["classes"],
        )
        self.target = menu([PREDICTED], "Explain the class", "xh-class")
        self.cost = gr.HTML(elem_id="xh-total")
        self._make_go()

    def _make_results(self) -> None:
        self.view = gr.HTML(elem_id="xh-view")
        with gr.Row():
            self.link = gr.Button("Copy link", size="sm", min_width=120)
            self.keep = gr.Button("Download the maps", size="sm", min_width=120, elem_id="xh-keep")
        self._make_file()
