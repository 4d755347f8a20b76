"""The boxes of the Layers page, in the order in which they are read; what they do is in `page_layers`."""

from typing import Any

import gradio as gr

from xaihub.curated import CURATED_DATASETS
from xaihub.ui.drawing import examples_shown
from xaihub.ui.finding import curated_choices
from xaihub.ui.layout_explain import EXAMPLE_CLICKED
from xaihub.ui.menus import PREDICTED
from xaihub.ui.picture import picture_box
from xaihub.ui.settings import Settings, starter_examples

__all__ = ["LayersLayout"]

PICTURES, MOST_PICTURES = 50, 300  # half of a telephone's patience, and what a plane can show without overlap
NO_REFERENCES = ("none: only the strip", "")
METHOD = ("Grad-CAM", "gradcam")
PROJECTION = ("PCA", "pca")
WELCOME = (
    '<div class="xh-welcome"><h2>What happens layer by layer?</h2><p>Choose an example, or send a picture of your own.'
    " You will see its map at every stage of the classifier, first to last; and the reference pictures as each layer"
    " sees them, with yours among them, and where on the way their classes come apart.</p></div>"
)


class LayersLayout:
    """The page's components. Made inside a `gr.Blocks`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.examples = starter_examples()
        self.explored = gr.State(None, time_to_live=settings.keep_minutes * 60)
        with gr.Row(elem_classes="xh-columns"):
            with gr.Column(scale=3, min_width=300):
                self._make_question()
            with gr.Column(scale=8, min_width=300):
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
            label="Picture", sources=["upload", "clipboard", "webcam"], height=220, elem_id="xh-picture", buttons=[]
        )
        self.example = gr.HTML(
            examples_shown(self.examples),
            visible=bool(self.examples),
            elem_id="xh-examples",
            js_on_load=EXAMPLE_CLICKED,
        )
        with gr.Row(elem_classes="xh-go"):
            self.go = gr.Button("Explore", variant="primary", elem_id="xh-explore", scale=3, min_width=140)
            self.halt = gr.Button("Stop", elem_id="xh-stop", scale=1, min_width=80)
        with gr.Accordion("References: the pictures that are laid out", open=True):
            self.references = gr.Dropdown(
                [NO_REFERENCES, *((f"{name} ({what})", name) for name, what in CURATED_DATASETS.items())],
                value=self.settings.opening_references,
                allow_custom_value=True,
                show_label=False,
                info="Any labelled image dataset of the Hub, or references that were published there",
                label="References",
                elem_id="xh-references",
            )
            self.limit = gr.Slider(10, MOST_PICTURES, value=PICTURES, step=10, label="Pictures, at most")
        with gr.Accordion("Private or gated models", open=False):
            if self.settings.sign_in:
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
                self.target = _menu([PREDICTED], "Explain the class", "xh-class", allow_custom_value=True)
                self.method = _menu([METHOD], "Method of the maps", "xh-method")
            self.strip = gr.HTML(elem_id="xh-strip")
            self.trouble = gr.HTML(elem_id="xh-trouble")
            self.projection = _menu([PROJECTION], "Two dimensions by", "xh-projection", visible=False)
            self.plane = gr.HTML(elem_id="xh-plane")


def _menu(choices: list[tuple[str, str]], label: str, elem_id: str, **settings: Any) -> gr.Dropdown:
    return gr.Dropdown(choices, value=choices[0][1], label=label, elem_id=elem_id, min_width=140, **settings)
