"""The boxes of page 1 that other pages have not; what they do is in `page_explain`."""

import gradio as gr

from xaihub.ui.boxes import Boxes, kept_answer, looks_box, menu, references_box
from xaihub.ui.combobox import HIDDEN
from xaihub.ui.menus import AUTOMATIC, PREDICTED, RUNNER_UP
from xaihub.ui.settings import Settings

__all__ = ["Layout"]

LONGEST_WORDS = 300  # letters


class Layout(Boxes):
    """The page's components. Made inside a `gr.Blocks`."""

    verb = "Explain"
    greeting = (
        '<div class="xh-welcome"><h2>Why did it answer that?</h2><p>Choose an example, or send a picture of your own.'
        " You will see what the classifier says, where in the picture that comes from, pictures that it decides alike,"
        " the nearest ones that it calls something else, and the smallest change that would turn its answer."
        "</p></div>"
    )
    picture_height = 260

    def __init__(self, settings: Settings) -> None:
        self.asked = kept_answer(settings)
        super().__init__(settings)

    def _make_choices(self) -> None:
        self._make_go()
        with gr.Accordion("References: the pictures that are searched", open=True):
            self.references = references_box(self.settings.opening_references, "none: only the heatmap")
            self.limit = gr.Slider(
                10, 1000, value=self.settings.embed_pictures, step=10, label="Pictures to embed of a dataset, at most"
            )
            self.looks = looks_box()
            self.words = gr.Textbox(
                label="Search the references with words",
                info="Enter shows the pictures that fit best",
                placeholder="a cat on grass",
                max_lines=1,
                max_length=LONGEST_WORDS,
                visible=False,
                elem_id="xh-words",
            )

    def _make_results(self) -> None:
        with gr.Row():
            self.target = menu([PREDICTED], "Explain the class", "xh-class")
            self.against = menu([RUNNER_UP], "Rather than", "xh-against", visible=HIDDEN)
        with gr.Row():
            self.method = menu([("Grad-CAM", "gradcam")], "Method", "xh-method")
            self.layer = menu([AUTOMATIC], 'Layer, or several as "a + b"', "xh-layer")
        self.view = gr.HTML(elem_id="xh-view")
        self.trust = gr.HTML(elem_id="xh-trust")
        self.check = gr.Button("Check this map", visible=False, elem_id="xh-check")
        self.beside = gr.HTML(elem_id="xh-beside")
        self.smallest = gr.HTML(elem_id="xh-smallest")  # not beside: it comes later, and what is open there stays open
        self.change = gr.Button("Find the smallest change", visible=False, elem_id="xh-change")
        self.found = gr.HTML(elem_id="xh-found")
        self.adopt = gr.Button("Embed these pictures for this classifier", visible=False, elem_id="xh-adopt")
        with gr.Row():
            self.link = gr.Button("Copy link", size="sm", min_width=120)
            self.keep = gr.Button("Download the evidence", size="sm", min_width=120, elem_id="xh-keep")
            self.keep_references = gr.Button("Download the references", size="sm", min_width=120, visible=False)
        self._make_file()
