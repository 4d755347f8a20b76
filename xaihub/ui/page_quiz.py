"""The Quiz page: people guess what the model answers, with and without an explanation, and see whether that helped."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from xaihub.progress import Progress
from xaihub.ui.asking import Question
from xaihub.ui.boxes import ANSWERED, UNANSWERED
from xaihub.ui.desk import Desk
from xaihub.ui.desk_quiz import QuizDesk, Round
from xaihub.ui.drawing_quiz import answer_shown, figures_shown, place_shown, question_shown
from xaihub.ui.layout_quiz import COUNTS, EXPLANATIONS, TO_NEXT, TO_QUESTION, QuizLayout
from xaihub.ui.page import KEPT, Page, Work
from xaihub.ui.settings import Settings
from xaihub.ui.wiring import AT_ONCE, LOOKS, PRIVATE, Updates, progress_bar, read, text, token_of
from xaihub.ui.words import status

__all__ = ["QuizPage"]


class QuizPage(Page, QuizLayout):
    """The page, and what happens when its boxes are used."""

    kept_is = "This round is"

    def __init__(self, settings: Settings, desk: Desk) -> None:
        self.quiz = QuizDesk(desk)
        super().__init__(settings, desk)

    def _wire(self) -> None:
        asks = {self.model, self.references, self.limit, self.methods, self.count, self.seed, self.token}
        shown = [
            self.alert, self.welcome, self.answer, self.going, self.about, self.said, self.question, self.guess,
            self.sure, self.tell, self.told, self.next, self.figures, self.freshness.answered,
        ]  # fmt: skip
        asked = {
            "model": self.model, "references": (self.references, self.limit), "explanations": self.methods,
            "number of questions": self.count, "number of the round": self.seed,
        }  # fmt: skip
        self.freshness.watch(self.verb, asked, subject="This round is")
        work = self._model_work()
        began = self.go.click(self._once(self.run), asks, shown, **work)
        guessed = [self.going, self.guess, self.sure, self.agree]
        told = self.tell.click(self.guessed, guessed, shown, **LOOKS)
        turned = self.next.click(self.turned, [self.going], shown, **work | {"show_progress_on": [self.question]})
        for event, then in ((began, TO_QUESTION), (told, TO_NEXT), (turned, TO_QUESTION)):
            event.then(None, js=then, **PRIVATE)
        self._wire_stop([], [self.alert], [began, turned])
        self.model.input(
            self.clear,
            [self.model, self.going],
            [self.alert, self.answer, self.welcome, self.going, self.freshness.answered],
            **AT_ONCE,
        )
        self._wire_looking([self.model, self.token], [self.about, self.alert])

    # What happens

    def _lacking(self, _given: Updates) -> str:
        return ""  # it needs no picture

    def _work(self, given: Updates, account: gr.OAuthToken | None) -> Work:
        question = Question(
            "",
            read(given, self.model),
            read(given, self.references),
            int(given[self.limit]),
            token=token_of(given[self.token], account),
        )
        known = [name for _, name in EXPLANATIONS]
        methods = [name for name in given[self.methods] or [] if name in known]
        count = next((count for count in COUNTS if count == given[self.count]), COUNTS[0])

        def work(report: Progress) -> Iterator[Round]:
            yield self.quiz.begin(question, methods, count, read(given, self.seed), report)

        return work

    def _step(self, answer: Round, _given: Updates) -> Updates:
        updates = self.drawn(answer) | {
            self.alert: "",
            self.welcome: gr.update(visible=False),
            self.answer: ANSWERED,
        }
        classifier = self.desk.loaded(answer.plan)
        return updates | ({self.about: status(answer.plan, classifier)} if classifier is not None else {})

    def guessed(self, going: Round | None, guess: str | None, sure: float | None, agreed: bool) -> Updates:
        """The page with the answer, once there is a guess."""

        def run() -> Updates:
            return self.drawn(self.quiz.guessed(self._still(going), guess, sure, agreed=bool(agreed)))

        return self._guarded(run)

    def turned(
        self,
        going: Round | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Updates:
        """The page with the next question."""

        def work(report: Progress) -> Iterator[Round]:
            yield self.quiz.next(self._still(going), report)

        def run() -> Updates:
            return self.drawn(list(self.stops.run(self._who(request), work, progress_bar(progress)))[-1])

        return self._guarded(run)

    def clear(self, model: str, going: Round | None) -> Updates:
        """The page without a round of another model."""
        if going is None or going.plan.repo_id == text(model):
            return self._nothing()
        return {
            self.alert: "",
            self.answer: UNANSWERED,
            self.welcome: gr.update(visible=True),
            self.going: None,
            **self.freshness.gone(),
        }

    def describe(self, model: str, token: str | None, account: gr.OAuthToken | None) -> Updates:
        """What the Hub says of a model before it is fetched."""
        return self._looked(model, token_of(token, account))

    def stop(self, presses: str, request: gr.Request) -> Updates:
        return self._stopped(presses, KEPT * self.stops.stop(self._who(request), KEPT))

    def opened(self, request: gr.Request) -> Updates:
        """The boxes as the page's address says: ?model=...&references=...&seed=..."""
        asked = {name: str(value)[:200] for name, value in dict(request.query_params).items()}
        boxes: dict[str, Any] = {"model": self.model, "references": self.references, "seed": self.seed}
        return {box: asked[name] for name, box in boxes.items() if name in asked} | {self.arrived: "yes"}

    def drawn(self, going: Round) -> Updates:
        """Every part of the page that shows a round; of a question without a guess, nothing that tells its answer."""
        guessed, over = going.guessed, going.over
        everybody = self.quiz.everybody(going) if over else []
        updates: Updates = {
            self.going: going,
            self.tell: gr.update(visible=not guessed),
            self.told: answer_shown(going) if guessed else "",
            self.next: gr.update(visible=guessed and not over),
            self.figures: figures_shown(going.answers, everybody, over=over) if guessed else "",
        }
        if guessed:
            return updates | {
                self.said: place_shown(going),
                self.guess: gr.update(interactive=False),
                self.sure: gr.update(interactive=False),
            }
        sureness = [(f"{share:.0%}{' (a mere guess)' * (not i)}", share) for i, share in enumerate(going.sureness)]
        return updates | {
            self.said: place_shown(going),
            self.question: question_shown(going),
            self.guess: gr.update(choices=list(going.choices), value=None, interactive=True),
            self.sure: gr.update(choices=sureness, value=None, interactive=True),
        }
