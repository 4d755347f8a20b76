"""The boxes of page 1, in the order in which they are read; what they do is in `page_explain`."""

from typing import Any

import gradio as gr

from xaihub.curated import CURATED_DATASETS
from xaihub.ui.drawing import examples_shown
from xaihub.ui.finding import curated_choices
from xaihub.ui.menus import AUTOMATIC, PREDICTED, RUNNER_UP
from xaihub.ui.picture import picture_box
from xaihub.ui.settings import Settings, starter_examples

__all__ = ["WELCOME", "Layout"]

EXAMPLE_CLICKED = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("select", { index: Number(button.dataset.index), value: button.dataset.index });
});
"""
NO_REFERENCES = ("none: only the heatmap", "")
WELCOME = (
    '<div class="xh-welcome"><h2>Why did it answer that?</h2><p>Choose an example, or send a picture of your own.'
    " You will see what the classifier says, where in the picture that comes from, the pictures it knows that look most"
    " alike to it, and the nearest ones it calls something else.</p></div>"
)


class Layout:
    """The page's components. Made inside a `gr.Blocks`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.examples = starter_examples()
        self.asked = gr.State(None, time_to_live=settings.keep_minutes * 60)
        with gr.Row(elem_classes="xh-columns"):
            with gr.Column(scale=4, min_width=300):
                self._make_question()
            with gr.Column(scale=7, min_width=300):
                self._make_answer()

    def _make_question(self) -> None:
        self.model = gr.Dropdown(
            curated_choices(),
            value=self.settings.model,
            allow_custom_value=True,
            label="Model",
            info="Type to search the Hub's image classifiers, or paste an id",
            elem_id="xh-model",
        )
        self.about = gr.HTML(elem_id="xh-about")
        self.picture = picture_box(
            label="Picture", sources=["upload", "clipboard", "webcam"], height=260, elem_id="xh-picture", buttons=[]
        )
        self.example = gr.HTML(
            examples_shown(self.examples),
            visible=bool(self.examples),
            elem_id="xh-examples",
            js_on_load=EXAMPLE_CLICKED,
        )
        with gr.Row(elem_classes="xh-go"):
            self.go = gr.Button("Explain", variant="primary", elem_id="xh-explain", scale=3, min_width=140)
            self.halt = gr.Button("Stop", elem_id="xh-stop", scale=1, min_width=80)
        with gr.Accordion("References: the pictures that are searched", open=True):
            self.references = gr.Dropdown(
                [NO_REFERENCES, *((f"{name} ({what})", name) for name, what in CURATED_DATASETS.items())],
                value=self.settings.opening_references,
                allow_custom_value=True,
                show_label=False,
                info="Any labelled image dataset of the Hub, or references that were published there",
                label="References",
                elem_id="xh-references",
            )
            self.limit = gr.Slider(
                10, 1000, value=self.settings.embed_pictures, step=10, label="Pictures to embed of a dataset, at most"
            )
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
            with gr.Row():
                self.target = _menu([PREDICTED], "Explain the class", "xh-class")
                self.against = _menu([RUNNER_UP], "Rather than", "xh-against", visible=False)
            with gr.Row():
                self.method = _menu([("Grad-CAM", "gradcam")], "Method", "xh-method")
                self.layer = _menu([AUTOMATIC], 'Layer, or several as "a + b"', "xh-layer")
            self.view = gr.HTML(elem_id="xh-view")
            self.trust = gr.HTML(elem_id="xh-trust")
            self.beside = gr.HTML(elem_id="xh-beside")
            self.adopt = gr.Button("Embed these pictures for this classifier", visible=False, elem_id="xh-adopt")
            with gr.Row():
                self.link = gr.Button("Copy link", size="sm", min_width=120)
                self.keep = gr.Button("Download the evidence", size="sm", min_width=120, elem_id="xh-keep")
                self.keep_references = gr.Button("Download the references", size="sm", min_width=120, visible=False)
            self.file = gr.DownloadButton("", visible="hidden", elem_id="xh-file")
            self.linked = gr.HTML(elem_id="xh-linked")


def _menu(choices: list[tuple[str, str]], label: str, elem_id: str, **settings: Any) -> gr.Dropdown:
    """A dropdown that starts with its first choice and takes what is typed; 140 px so that two share a telephone."""
    first = choices[0][1]
    return gr.Dropdown(
        choices, value=first, label=label, elem_id=elem_id, min_width=140, allow_custom_value=True, **settings
    )
