"""The boxes that every page has, in the order in which they are read; a page's own stand between them."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import gradio as gr
from gradio.processing_utils import hash_file

from xaihub.curated import CURATED_DATASETS
from xaihub.curated import CURATED_EMBEDDERS as EYES
from xaihub.ui.combobox import Choice, combobox
from xaihub.ui.drawing import examples_shown
from xaihub.ui.finding import Finder, curated_choices
from xaihub.ui.freshness import Freshness
from xaihub.ui.picture import picture_box
from xaihub.ui.settings import Settings, starter_examples

__all__ = [
    "ANSWERED",
    "UNANSWERED",
    "Boxes",
    "kept_answer",
    "looks_box",
    "menu",
    "model_box",
    "references_box",
    "signal",
]

EXAMPLE_CLICKED = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("select", { index: Number(button.dataset.index), value: button.dataset.index });
});
"""

# Whether the answer is seen. Its boxes are there from the start: gradio makes those of an invisible column when it
# becomes visible, and what the server says of them meanwhile is lost.
ANSWERED, UNANSWERED = gr.update(elem_classes=[]), gr.update(elem_classes=["xh-none"])


class Boxes(ABC):
    """A page's components: the question, and beside it the answer. Made inside a `gr.Blocks`."""

    verb: ClassVar[str]  # on the button
    greeting: ClassVar[str]  # HTML, where the answer will be
    example_verb: ClassVar[str] = "explain"  # what a click on an example does
    picture_height: ClassVar[int] = 220
    widths: ClassVar[tuple[int, int]] = (4, 7)  # of the question and of the answer

    def __init__(self, settings: Settings) -> None:
        self.settings, self.finder = settings, Finder()
        self.examples = starter_examples()
        with gr.Row(elem_classes="xh-columns"):
            with gr.Column(scale=self.widths[0], min_width=300):
                self._make_question()
            with gr.Column(scale=self.widths[1], min_width=300):
                self._make_answer()

    @abstractmethod
    def _make_choices(self) -> None:
        """The page's own boxes of the question, and its buttons."""

    @abstractmethod
    def _make_results(self) -> None:
        """What shows the answer, below what the classifier said."""

    def _make_question(self) -> None:
        self.model = model_box("Model", "xh-model", self.settings.model, self.finder)
        self.about = gr.HTML(elem_id="xh-about")
        self.picture = picture_box(
            label="Picture",
            sources=["upload", "clipboard", "webcam"],
            height=self.picture_height,
            elem_id="xh-picture",
            buttons=[],
        )
        self.example = gr.HTML(
            examples_shown(
                self.examples, [f"{hash_file(file)}/{file.name}" for file in self.examples], self.example_verb
            ),
            visible=bool(self.examples),
            elem_id="xh-examples",
            js_on_load=EXAMPLE_CLICKED,
        )
        self._make_choices()
        self._make_token()

    def _make_go(self) -> None:
        with gr.Row(elem_classes="xh-go"):
            self.go = gr.Button(self.verb, variant="primary", elem_id=f"xh-{self.verb.lower()}", scale=3, min_width=140)
            self.halt = gr.Button("Stop", elem_id="xh-stop", scale=1, min_width=80)

    def _make_token(self) -> None:
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
        self.freshness = Freshness()
        self.progress = gr.HTML(elem_id="xh-progress")
        self.welcome = gr.HTML(self.greeting)
        with gr.Column(elem_id="xh-results", elem_classes="xh-none") as self.answer:
            self.said = gr.HTML(elem_id="xh-said")
            self._make_results()

    def _make_file(self) -> None:
        """What a download and a copied link go through; neither is seen before."""
        self.file = gr.DownloadButton("", visible="hidden", elem_id="xh-file")
        self.linked = gr.HTML(elem_id="xh-linked")


def kept_answer(settings: Settings) -> gr.State:
    """A visitor's answer, of which more can be asked for a while."""
    return gr.State(None, time_to_live=settings.keep_minutes * 60)


def signal() -> gr.Textbox:
    """What nobody sees, and whose change sets something off. A State would do so only after an event of the queue."""
    return gr.Textbox("", visible="hidden")


def model_box(label: str, elem_id: str, value: str | None, finder: Finder, **settings: Any) -> gr.HTML:
    """Where a classifier is chosen, searched or pasted."""
    return combobox(
        curated_choices(),
        value=value,
        label=label,
        info="Type to search the Hub's image classifiers, or paste an id",
        elem_id=elem_id,
        search=finder.suggest,
        **settings,
    )


def references_box(value: str, none: str) -> gr.HTML:
    """Where labelled pictures are chosen or pasted; `none` says in words what is left without any."""
    return combobox(
        [(none, ""), *((f"{name} ({what})", name) for name, what in CURATED_DATASETS.items())],
        value=value,
        show_label=False,
        info="Any labelled image dataset of the Hub, or references that were published there",
        label="References",
        elem_id="xh-references",
    )


def looks_box() -> gr.HTML:
    """By whose eye the pictures of a dataset look alike, where they are embedded here."""
    return combobox(
        [("pixels only (built in, no download)", ""), *((f"{name} ({what})", name) for name, what in EYES.items())],
        value="",
        label="Looks alike by",
        info="For a dataset that is embedded here: any network of the Hub that describes pictures",
        elem_id="xh-looks",
    )


def menu(choices: list[Choice], label: str, elem_id: str, **settings: Any) -> gr.HTML:
    """A menu that starts with its first choice; 140 px so that two share a telephone."""
    return combobox(
        choices, value=choices[0][1], label=label, elem_id=elem_id, completes=True, min_width=140, **settings
    )
