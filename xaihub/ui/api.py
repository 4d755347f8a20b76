"""`/explain`, for programs: the same question, answered as JSON and files."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import gradio as gr

from xaihub.errors import CancelledError, XaihubError, log_failure
from xaihub.progress import Progress, silent
from xaihub.ui.desk import Asked, Desk, Question
from xaihub.ui.desk_examples import CHANGE
from xaihub.ui.desk_trust import with_card
from xaihub.ui.downloads import evidence_zip
from xaihub.ui.picture import picture_box
from xaihub.ui.stopping import Stops
from xaihub.ui.wiring import visitor
from xaihub.ui.words import BROKEN

__all__ = ["add_api"]

logger = logging.getLogger(__name__)

DESCRIPTION = (
    "Why an image classifier of the Hub answered as it did on one picture. target, a class by its label, may be empty"
    " for the predicted one; method, any that shows a map (gradcam, rise, finercam, ...) or, with references, swap (the"
    " smallest change), within the host's time limit; references, a dataset's id, may be empty; against, the class that"
    " it is compared with; layer, one or several as a + b. Gives the answer as JSON, the heatmap over the picture, and"
    " a zip of all evidence. Read trust before the map: its verdict is passed, care or do not rely, with a sentence and"
    " every check (63 passes of the picture); null, with the reason, where the map was not checked."
)


def add_api(desk: Desk) -> None:
    """Registers the endpoint in the blocks being built; its boxes are never shown."""
    with gr.Row(visible=False):
        boxes = [
            picture_box(label="picture"),
            gr.Textbox(desk.settings.model, label="model"),
            gr.Textbox("", label="target"),
            gr.Textbox("gradcam", label="method"),
            gr.Textbox("", label="references"),
            gr.Textbox("", label="against"),
            gr.Textbox("", label="layer"),
        ]
        shown = [gr.JSON(label="explanation"), gr.Image(label="overlay", format="png"), gr.File(label="evidence")]
        button = gr.Button("explain")

    def explain(
        picture: Any,
        model: str,
        target: str,
        method: str,
        references: str,
        request: gr.Request,
        against: str = "",
        layer: str = "",
    ) -> tuple[Any, ...]:
        def work(report: Progress) -> Iterator[Asked]:
            asked = list(desk.answer(question, report))[-1]
            if question.method == CHANGE and desk.lacks_change(asked):
                asked = desk.smallest_change(asked, report)
            with suppress(CancelledError):  # at the time limit: the answer says that it was not checked
                asked = desk.trusted(asked) if desk.lacks_trust(asked) and desk.is_checked_soon(asked) else asked
            yield asked

        try:
            limit = desk.settings.embed_pictures
            question = Question(picture or b"", model, references, limit, target, against, method.strip(), layer)
            who = visitor(request, desk.settings.proxies_in_front)
            asked = list(Stops(desk.turns).run(who, work, silent))[-1]  # several of one visitor do not end each other
            return record(asked), overlay(asked), evidence_zip(asked, shown[2].GRADIO_CACHE)
        except XaihubError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:
            log_failure(logger, "/explain failed for %s", model)
            raise gr.Error(BROKEN, print_exception=False) from error

    button.click(
        explain,
        boxes,
        shown,
        api_name="explain",
        api_description=DESCRIPTION,
        concurrency_limit=None,  # whose turn it is: see turns.py
        concurrency_id="model",
    )


TOO_SLOW = "it would take too long here; the page checks it on demand"


def record(asked: Asked) -> dict[str, Any]:
    """The answer without its pictures."""
    explanation = asked.explanation
    return {
        "prediction": [{"label": label, "probability": share} for label, share in explanation.prediction.top(5)],
        "target": explanation.target_label,
        "evidence": {
            name: [{"caption": one.caption, "score": one.score, "facts": dict(one.facts)} for one in shown]
            for name, shown in explanation.evidence.items()
        },
        "notes": {name: list(lines) for name, lines in explanation.notes.items() if lines},
        "trouble": asked.trouble,
        "provenance": dict(explanation.provenance),
        "trust": with_card(asked, TOO_SLOW).trust.get(asked.method),
    }


def overlay(asked: Asked) -> Any:
    """The crop that the model saw, or the smallest change of it, with its heatmap over it where there is one."""
    found = asked.explanation.evidence.get(asked.method, ())
    if not found:
        return asked.explanation.image
    if found[0].heatmap is None:
        return found[0].image
    return found[0].overlay
