"""The boxes of the Quiz page that other pages have not; what they do is in `page_quiz`."""

import gradio as gr

from xaihub.ui.boxes import Boxes, kept_answer, model_box, references_box
from xaihub.ui.settings import Settings

__all__ = ["TO_NEXT", "TO_QUESTION", "QuizLayout"]

COUNTS = [8, 12, 20]  # questions: four are the least with which two explanations and none can take turns twice
EXPLANATIONS = [("Grad-CAM map", "gradcam"), ("Twins", "twins"), ("Counterfactuals", "counterfactuals")]
AGREE = (
    "Stored are, for each guess: the model, the references and which of their pictures; the explanation; what the model"
    " and the dataset say; your guess and how sure you were; a random number for this round, and the day. In what is"
    " stored there is nothing of you: no name, address or session, no time of day, no text or picture of yours. A round"
    " is a file of its own: the host of this page can see when it was written. Where the host sends answers to the Hub,"
    " that happens every five minutes, and whoever may read them there sees when."
)

CHOSEN = (
    "The questions are chosen: up to half of them are about pictures that the classifier gets wrong, as far as there"
    " are any. For the starter's quiz some pets are drawn small on purpose, so that it errs. So the classifier is wrong"
    " here far more often than usual."
)

# what is hidden loses the focus: it goes to what comes next
TO_NEXT = """() => setTimeout(() => document.querySelector("#xh-next:not([disabled])")?.focus(), 150)"""
TO_QUESTION = """() => setTimeout(() => {
  const place = document.querySelector("#xh-said h2");
  if (!place?.offsetHeight) return;
  place.focus({ preventScroll: true });
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const top = place.getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) place.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}, 150)"""


class QuizLayout(Boxes):
    """The page's components. Made inside a `gr.Blocks`."""

    verb = "Start"
    greeting = (
        '<div class="xh-welcome"><h2>Do explanations help you?</h2><p>You guess what the classifier answers, for'
        " pictures with and without an explanation, and say how sure you are. At the end you see whether the"
        " explanations helped, whether you were too sure, and whether you trusted the classifier where it was"
        f" wrong.</p><p>{CHOSEN}</p></div>"
    )
    widths = (3, 8)

    def __init__(self, settings: Settings) -> None:
        self.going = kept_answer(settings)
        super().__init__(settings)

    def _make_question(self) -> None:
        self.model = model_box("Model", "xh-model", self.settings.model, self.finder)
        self.about = gr.HTML(elem_id="xh-about")
        self._make_choices()
        self._make_token()

    def _make_choices(self) -> None:
        self.methods = gr.CheckboxGroup(
            EXPLANATIONS,
            value=["gradcam", "twins"],
            label="Explanations, in half of the questions",
            elem_id="xh-methods",
        )
        self.count = gr.Radio(COUNTS, value=COUNTS[1], label="Questions", elem_id="xh-count")
        self.agree = gr.Checkbox(False, label="My answers may be stored", info=AGREE, elem_id="xh-agree")
        self._make_go()
        with gr.Accordion("References: the pictures that are asked about", open=True):
            self.references = references_box(self.settings.opening_references, "none")
            self.limit = gr.Slider(
                20, 1000, value=self.settings.embed_pictures, step=20, label="Pictures to embed of a dataset, at most"
            )
            self.seed = gr.Textbox(
                label="Number of the round",
                info="The same number gives the same questions; empty for any",
                max_lines=1,
                max_length=9,
                elem_id="xh-seed",
            )

    def _make_results(self) -> None:
        self.question = gr.HTML(elem_id="xh-question")
        self.guess = gr.Radio([], label="What does the model answer?", elem_id="xh-guess")
        self.sure = gr.Radio([], label="How sure are you of that?", elem_id="xh-sure")
        self.tell = gr.Button("Answer", variant="primary", elem_id="xh-tell")
        self.told = gr.HTML(elem_id="xh-told")
        self.next = gr.Button("Next question", variant="primary", visible=False, elem_id="xh-next")
        self.figures = gr.HTML(elem_id="xh-figures")
