"""The boxes of the Prototypes page that other pages have not; what they do is in `page_prototypes`."""

import gradio as gr

from xaihub.ui.boxes import Boxes, kept_answer, menu, references_box
from xaihub.ui.desk_prototypes import RUNNER_UP
from xaihub.ui.menus import PREDICTED
from xaihub.ui.settings import Settings

__all__ = ["FIRST", "OPEN_FIRED", "OPEN_NEAR", "PrototypesLayout"]

MOST_PICTURES = 400  # of a MobileNet that is half a minute on two cores, and 100 MB of maps
FIRST = [PREDICTED, (RUNNER_UP, RUNNER_UP)]  # choices that stand before the named classes

# a switch tells all that are off, so that none is lost where two are pressed at once; a click asks where one fires
SHEET_USED = """
const told = () => {
  const off = [...element.querySelectorAll(".xh-switch:not(:checked)")].map((box) => box.dataset.prototype);
  const others = element.querySelector(".xh-sheet")?.dataset.others ?? "";
  trigger("input", { index: 0, value: `${off.join(" ")} ${others}` });
};
// what is drawn anew keeps the ticks that a visitor took away, unless it is told
new MutationObserver(() => {
  for (const box of element.querySelectorAll(".xh-switch")) box.checked = box.defaultChecked;
}).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-drawn"] });
element.addEventListener("change", (event) => {
  if (event.target.matches(".xh-switch")) told();
});
element.addEventListener("click", (event) => {
  const all = event.target.closest(".xh-all");
  if (all) {
    for (const box of element.querySelectorAll(".xh-switch")) box.checked = all.dataset.on === "yes";
    told();
  }
  const fire = event.target.closest(".xh-fire");
  if (!fire) return;
  fire.setAttribute("aria-busy", "true");
  trigger("select", { index: Number(fire.dataset.prototype), value: "" });
});
"""
GALLERY_USED = """
element.addEventListener("click", (event) => {
  const one = event.target.closest(".xh-proto");
  if (one) trigger("select", { index: Number(one.dataset.prototype), value: "" });
});
"""
OPEN = """() => {
  for (const busy of document.querySelectorAll(".xh-fire[aria-busy]")) busy.removeAttribute("aria-busy");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const dialog = document.querySelector("%s dialog");
  if (dialog) dialog.open || dialog.showModal();
  else document.querySelector("#xh-alert")?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "center" });
}"""
OPEN_FIRED, OPEN_NEAR = OPEN % "#xh-fired", OPEN % "#xh-near"


class PrototypesLayout(Boxes):
    """The page's components. Made inside a `gr.Blocks`."""

    verb = "Recognise"
    example_verb = "recognise"
    greeting = (
        '<div class="xh-welcome"><h2>This looks like that</h2><p>Choose an example, or send a picture of your own. You'
        " will see which patches of known pictures are found in it, how many points each adds for a class, and what"
        " is said when you switch one off. A model without prototypes gets some, fitted to what it predicts on the"
        " references.</p></div>"
    )
    widths = (3, 8)

    def __init__(self, settings: Settings) -> None:
        self.recognised = kept_answer(settings)
        super().__init__(settings)

    def _make_choices(self) -> None:
        self._make_go()
        with gr.Accordion("References: what prototypes are cut from", open=True):
            self.references = references_box(self.settings.opening_references, "none: only a model's own prototypes")
            most = max(20, min(MOST_PICTURES, self.settings.embed_pictures))
            self.limit = gr.Slider(20, MOST_PICTURES, value=most, step=20, label="Pictures, at most")

    def _make_results(self) -> None:
        self.what = gr.HTML(elem_id="xh-what")
        self.target = menu(FIRST, "Account for the class", "xh-class")
        self.sheet = gr.HTML(elem_id="xh-sheet", js_on_load=SHEET_USED)
        self.account = gr.HTML(elem_id="xh-account")
        self.fired = gr.HTML(elem_id="xh-fired")
        self.trouble = gr.HTML(elem_id="xh-trouble")
        self.gallery = gr.HTML(elem_id="xh-gallery", js_on_load=GALLERY_USED)
        self.near = gr.HTML(elem_id="xh-near")
