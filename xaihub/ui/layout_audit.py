"""The boxes of the Audit page that other pages have not; what they do is in `page_audit`."""

import gradio as gr

from xaihub.curated import CURATED_DATASETS
from xaihub.ui.boxes import Boxes, kept_answer, model_box
from xaihub.ui.combobox import combobox
from xaihub.ui.settings import Settings

__all__ = ["TO_EXPLAINED", "AuditLayout"]

MOST_PICTURES = 1000
PICTURES = 200

# a click on a picture asks for its explanation; one on a count leads to its pictures, by hand, since gradio would load
# the page anew for an address of its own
REPORT_USED = """
element.addEventListener("click", (event) => {
  const count = event.target.closest(".xh-confused a");
  const cell = count && element.querySelector(count.getAttribute("href"));
  if (cell) {
    event.preventDefault();
    const folded = cell.closest("details");
    if (folded) folded.open = true;
    cell.scrollIntoView({ block: "start" });
    cell.focus({ preventScroll: true });
  }
  const shot = event.target.closest(".xh-ask");
  if (!shot) return;
  for (const asked of document.querySelectorAll(".xh-ask[aria-current]")) asked.removeAttribute("aria-current");
  shot.setAttribute("aria-current", "true");
  trigger("select", { index: 0, value: shot.dataset.key });
});
"""
EXPLAINED_USED = """
element.addEventListener("click", (event) => {
  if (!event.target.closest(".xh-back")) return;
  const asked = document.querySelector(".xh-ask[aria-current]");
  asked?.scrollIntoView({ block: "center" });
  asked?.focus({ preventScroll: true });
});
"""
TO_EXPLAINED = """() => {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const parts = [...document.querySelectorAll("#xh-alert, #xh-explained h3")];
  const shown = parts.filter((part) => part.innerText?.trim()).at(-1);
  shown?.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  shown?.focus({ preventScroll: true });
}"""


class AuditLayout(Boxes):
    """The page's components. Made inside a `gr.Blocks`."""

    verb = "Audit"
    greeting = (
        '<div class="xh-welcome"><h2>Could it be right for the wrong reason?</h2><p>Choose a labelled dataset, and a'
        " classifier if you like. You will see what tells its labels apart beside what the pictures show: file format,"
        " size, compression, colours, sharpness, borders, marks in the corners, copies between splits; whether the"
        " classifier goes by it; where it does worse; and each of its mistakes, one click from its explanation."
        "</p></div>"
    )
    widths = (3, 8)

    def __init__(self, settings: Settings) -> None:
        self.audited = kept_answer(settings)
        super().__init__(settings)

    def _make_question(self) -> None:
        self.dataset = combobox(
            [(f"{name} ({what})", name) for name, what in CURATED_DATASETS.items()],
            value=self.settings.opening_references or next(iter(CURATED_DATASETS)),
            label="Dataset",
            info="Any labelled image dataset of the Hub",
            elem_id="xh-data",
        )
        self.limit = gr.Slider(
            40, MOST_PICTURES, value=max(40, min(PICTURES, self.settings.embed_pictures)), step=20,
            label="Pictures, at most", info="The more, the narrower the intervals", elem_id="xh-limit",
        )  # fmt: skip
        self.model = model_box("Model (empty: only the dataset)", "xh-model", self.settings.model, self.finder)
        self.about = gr.HTML(elem_id="xh-about")
        self._make_choices()
        self._make_token()

    def _make_choices(self) -> None:
        self._make_go()

    def _make_results(self) -> None:
        self.report = gr.HTML(elem_id="xh-report", js_on_load=REPORT_USED)
        self.explaining = gr.HTML(elem_id="xh-explaining")
        self.explained = gr.HTML(elem_id="xh-explained", js_on_load=EXPLAINED_USED)
        self.keep = gr.Button("Download the report", size="sm", min_width=120, elem_id="xh-keep")
        self._make_file()
