"""The boxes of the Compare page, in the order in which they are read; what they do is in `page_compare`."""

from typing import Any

import gradio as gr

from xaihub.ui.desk_compare import CLASSES, DEFAULTS
from xaihub.ui.drawing import examples_shown
from xaihub.ui.finding import curated_choices
from xaihub.ui.layout_explain import EXAMPLE_CLICKED
from xaihub.ui.menus import PREDICTED
from xaihub.ui.picture import picture_box
from xaihub.ui.settings import Settings, starter_examples

__all__ = ["VARIES", "WELCOME", "Layout", "visible"]

VARIES = [("Methods", "methods"), ("Classes", "classes"), ("Two models", "models")]
OPENING = list(zip(("Grad-CAM", "Grad-CAM++", "HiResCAM", "LayerCAM", "Eigen-CAM"), DEFAULTS, strict=True))
WELCOME = (
    '<div class="xh-welcome"><h2>Would another map say the same?</h2><p>The same picture under several methods, several'
    " classes or two models, side by side, with what each map costs and how alike they are. One pass through a model"
    " serves all of its maps; only the slow methods need more.</p></div>"
)


def visible(vary: str) -> dict[str, bool]:
    """Which boxes matter for what varies, by their names in `Layout`."""
    return {
        "methods": vary == "methods",
        "method": vary != "methods",
        "classes": vary == "classes",
        "target": vary != "classes",
        "other": vary == "models",
    }


class Layout:
    """The page's components. Made inside a `gr.Blocks`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.examples = starter_examples()
        self.compared = gr.State(None, time_to_live=settings.keep_minutes * 60)
        self.plan = gr.State(None, time_to_live=settings.keep_minutes * 60)
        with gr.Row(elem_classes="xh-columns"):
            with gr.Column(scale=4, min_width=300):
                self._make_question()
            with gr.Column(scale=7, min_width=300):
                self._make_answer()

    def _make_question(self) -> None:
        shown = visible("methods")
        self.model = _model_box("Model", "xh-model", self.settings.model)
        self.about = gr.HTML(elem_id="xh-about")
        self.picture = picture_box(
            label="Picture", sources=["upload", "clipboard", "webcam"], height=220, elem_id="xh-picture", buttons=[]
        )
        self.example = gr.HTML(
            examples_shown(self.examples, "compare"),
            visible=bool(self.examples),
            elem_id="xh-examples",
            js_on_load=EXAMPLE_CLICKED,
        )
        self.vary = gr.Radio(VARIES, value="methods", label="What varies", elem_id="xh-vary")
        self.other = _model_box("Second model", "xh-other", None, visible=shown["other"])
        self.methods = gr.Dropdown(
            OPENING, value=list(DEFAULTS), multiselect=True, label="Methods", elem_id="xh-methods"
        )
        self.method = gr.Dropdown(
            OPENING, value="gradcam", label="Method", elem_id="xh-method", visible=shown["method"]
        )
        self.classes = gr.Dropdown(
            [],
            multiselect=True,
            allow_custom_value=True,
            label=f"Classes; the {CLASSES} most probable if none is named",
            elem_id="xh-classes",
            visible=shown["classes"],
        )
        self.target = gr.Dropdown(
            [PREDICTED], value="", allow_custom_value=True, label="Explain the class", elem_id="xh-class"
        )
        self.cost = gr.HTML(elem_id="xh-total")
        with gr.Row(elem_classes="xh-go"):
            self.go = gr.Button("Compare", variant="primary", elem_id="xh-compare", scale=3, min_width=140)
            self.halt = gr.Button("Stop", elem_id="xh-stop", scale=1, min_width=80)
        with gr.Accordion("Private or gated models", open=False):
            if self.settings.sign_in:  # elsewhere gradio pretends that the host's own account had signed in
                gr.LoginButton(size="sm")
            self.token = gr.Textbox(
                label="Your Hub token",
                type="password",
                info="With the right to read. It is used for your questions only; it is not stored and not logged.",
                elem_id="xh-token",
                autofocus=False,
            )

    def _make_answer(self) -> None:
        self.alert = gr.HTML(elem_id="xh-alert")
        self.progress = gr.HTML(elem_id="xh-progress")
        self.welcome = gr.HTML(WELCOME)
        with gr.Column(visible=False, elem_id="xh-results") as self.answer:
            self.said = gr.HTML(elem_id="xh-said")
            self.view = gr.HTML(elem_id="xh-view")
            with gr.Row():
                self.link = gr.Button("Copy link", size="sm", min_width=120)
                self.keep = gr.Button("Download the maps", size="sm", min_width=120, elem_id="xh-keep")
            self.file = gr.DownloadButton("", visible="hidden", elem_id="xh-file")
            self.linked = gr.HTML(elem_id="xh-linked")


def _model_box(label: str, elem_id: str, value: str | None, **settings: Any) -> gr.Dropdown:
    return gr.Dropdown(
        curated_choices(),
        value=value,
        allow_custom_value=True,
        label=label,
        info="Type to search the Hub's image classifiers, or paste an id",
        elem_id=elem_id,
        **settings,
    )
