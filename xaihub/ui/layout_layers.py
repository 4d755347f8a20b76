"""The boxes of the Layers page that other pages have not; what they do is in `page_layers`."""

import gradio as gr

from xaihub.ui.boxes import Boxes, kept_answer, menu, references_box
from xaihub.ui.combobox import HIDDEN
from xaihub.ui.menus import PREDICTED
from xaihub.ui.settings import Settings

__all__ = ["LayersLayout"]

PICTURES, MOST_PICTURES = 50, 300  # half of a telephone's patience, and what a plane can show without overlap
METHOD = ("Grad-CAM", "gradcam")
PROJECTION = ("PCA", "pca")


class LayersLayout(Boxes):
    """The page's components. Made inside a `gr.Blocks`."""

    verb = "Explore"
    greeting = (
        '<div class="xh-welcome"><h2>What happens layer by layer?</h2><p>Choose an example, or send a picture of your'
        " own. You will see its map at every stage of the classifier, first to last; and the reference pictures as each"
        " layer sees them, with yours among them, and where on the way their classes come apart.</p></div>"
    )
    widths = (3, 8)

    def __init__(self, settings: Settings) -> None:
        self.explored = kept_answer(settings)
        super().__init__(settings)

    def _make_choices(self) -> None:
        self._make_go()
        with gr.Accordion("References: the pictures that are laid out", open=True):
            self.references = references_box(self.settings.opening_references, "none: only the strip")
            self.limit = gr.Slider(10, MOST_PICTURES, value=PICTURES, step=10, label="Pictures, at most")

    def _make_results(self) -> None:
        with gr.Row():
            self.target = menu([PREDICTED], "Explain the class", "xh-class")
            self.method = menu([METHOD], "Method of the maps", "xh-method")
        self.strip = gr.HTML(elem_id="xh-strip")
        self.trouble = gr.HTML(elem_id="xh-trouble")
        self.projection = menu([PROJECTION], "Two dimensions by", "xh-projection", visible=HIDDEN)
        self.plane = gr.HTML(elem_id="xh-plane")
