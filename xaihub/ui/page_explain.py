"""Page 1: a model, a picture, and why."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from xaihub.errors import TargetLayerError, XaihubError
from xaihub.progress import Progress
from xaihub.ui import results
from xaihub.ui.combobox import HIDDEN
from xaihub.ui.desk import Asked, Desk, Question
from xaihub.ui.desk_words import found_by_words
from xaihub.ui.downloads import evidence_zip, references_zip
from xaihub.ui.layout_explain import Layout
from xaihub.ui.page import KEPT, ChangingPage, Work
from xaihub.ui.results_examples import found_shown
from xaihub.ui.settings import Settings
from xaihub.ui.stopping import Stops
from xaihub.ui.turns import Visitor
from xaihub.ui.wiring import PRIVATE, Updates, progress_bar, read, text, token_of
from xaihub.ui.words import alarm, note

__all__ = ["ExplainPage"]


class ExplainPage(ChangingPage, Layout):
    """The page, and what happens when its boxes are used."""

    harmless = (TargetLayerError,)  # of a layer that was typed beside the answer

    def __init__(self, settings: Settings, desk: Desk) -> None:
        self.changes = Stops(desk.turns)  # of an answer; they give way to each other and to questions
        super().__init__(settings, desk)

    def _wire(self) -> None:
        asks = {
            self.picture, self.model, self.references, self.limit, self.target, self.against, self.method, self.layer,
            self.looks, self.token, self.asked,
        }  # fmt: skip
        shown = [self.alert, self.welcome, self.answer, self.freshness.answered, *self._result_components()]
        menus = {
            "class": self.target,
            "class to compare with": self.against,
            "method": self.method,
            "layer": self.layer,
        }
        asked = {
            "image": self.picture, "model": self.model, "references": (self.references, self.limit, self.looks),
        }  # fmt: skip
        self.freshness.watch(self.verb, asked | menus, tuple(menus))
        work = self._model_work()
        runs = self._wire_question(asks, shown)
        runs.append(self.layer.input(self._once(self.run), asks, shown, **work))  # its references are others too
        # these two buttons are far below the bar
        adopting, changing = (work | {"show_progress_on": [below]} for below in (self.beside, self.smallest))
        embeds = [self.asked, self.limit, self.looks, self.token]
        runs.append(self.adopt.click(self._once(self.embed_again), embeds, shown, **adopting))
        changes = work | {"trigger_mode": "multiple"}  # the earlier one ends when the next begins
        for box, name in ((self.target, "target"), (self.method, "method"), (self.against, "against")):
            runs.append(box.input(self._once(self.changed(name)), [self.asked, box], shown, **changes))
        runs.append(self.change.click(self.change_now, [self.asked], shown, **changing))
        checking = work | {"show_progress_on": [self.trust]}
        runs.append(self.check.click(self.trust_now, [self.asked], shown, **checking))
        reading = [self.asked, self.words, self.token], [self.found, self.alert]
        runs.append(self.words.submit(self.search, *reading, **changes | {"show_progress_on": [self.found]}))
        left = [
            self.alert, self.target, self.against, self.method, self.layer, self.change, self.smallest, self.trust,
            self.check,
        ]  # fmt: skip
        self._wire_stop([self.asked], left, runs)
        self._wire_model(self.asked, self.against, self.layer, self.found, self.words)
        self._wire_download(self.keep, evidence_zip, self.asked)
        self._wire_download(self.keep_references, references_zip, self.asked)
        linked = [self.picture, self.model, self.target, self.against, self.method, self.layer, self.references]
        self.link.click(None, linked, [self.linked], js="xaihubLink", **PRIVATE)

    def _result_components(self) -> list[Any]:
        return [
            self.asked, self.about, self.said, self.target, self.method, self.layer, self.view, self.trust, self.check,
            self.against, self.beside, self.smallest, self.change, self.words, self.found, self.adopt,
            self.keep_references,
        ]  # fmt: skip

    # What happens

    def run(
        self,
        given: Updates,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """The page after its button: the map, the examples, how far to rely on the map, then the smallest change."""
        # a long change of the answer ends here: else this question's turn would come only after it. No event of its own
        # does this, since gradio begins the second event of one click when the first has ended
        self.changes.stop(self._who(request))
        yield from self._then_more(super().run(given, request, account, progress), request, progress)

    def changed(self, name: str) -> Callable[..., Iterator[Updates]]:
        """The handler of a menu: the same picture with another choice, then what goes with it and takes longer."""
        change = super().changed(name)

        def handler(
            answer: Any,
            value: str | None,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
        ) -> Iterator[Updates]:
            def step() -> Iterator[Updates]:
                yield change(answer, value, request, progress)

            yield from self._then_more(step(), request, progress)

        return handler

    def _work(self, given: Updates, account: gr.OAuthToken | None) -> Work:
        boxes = {"against": self.against, "method": self.method, "layer": self.layer, "looks": self.looks}
        question = self._question(
            given, account, **_usual_if_empty({name: read(given, box) for name, box in boxes.items()})
        )
        return lambda report: self.desk.answer(question, report)

    def _step(self, answer: Asked, _given: Updates) -> Updates:
        return self.drawn(answer)

    def _standing(self, given: Updates) -> Updates:
        return self._menus(given[self.asked])

    def embed_again(
        self,
        asked: Asked | None,
        limit: float,
        looks: str | None,
        token: str | None,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """The page once another classifier's reference pictures were embedded for this one."""

        def work(report: Progress) -> Iterator[Asked]:
            return self.desk.adopt(self._still(asked), int(limit), report, looks or "", token_of(token, account))

        def run() -> Updates:
            return self.drawn(list(self.stops.run(self._who(request), work, progress_bar(progress)))[-1])

        def step() -> Iterator[Updates]:
            yield self._guarded(run)

        yield from self._then_more(step(), request, progress)

    def _then_more(self, steps: Iterator[Updates], request: gr.Request, progress: gr.Progress) -> Iterator[Updates]:
        """The steps; then, where they take little time, the trust card and the smallest change of the answer they gave.

        In one event, since gradio loses the answer of a queued event now and then that follows upon another.
        """
        asked, who = None, self._who(request)
        before = self.stops.under_way(who)
        for step in steps:
            asked = step.get(self.asked, asked)
            yield step
        if self.stops.under_way(who) not in (None, before):
            return  # another question has begun: what follows would be drawn into its answer
        if asked is not None and self.desk.lacks_trust(asked) and self.desk.is_checked_soon(asked):
            checked = self._changed(self._trusted, asked, who, progress_bar(progress), unasked=True)
            asked = checked.get(self.asked)  # None where it was stopped: then nothing follows
            yield checked
        if asked is not None and self.desk.lacks_change(asked) and self.desk.is_soon(asked):
            yield self._changed(self._smallest, asked, who, progress_bar(progress), unasked=True)

    def trust_now(
        self,
        asked: Asked | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Updates:
        """The page with how far the map can be relied on; the rest of it stays untouched."""
        return self._changed(self._trusted, asked, self._who(request), progress_bar(progress))

    def _trusted(self, asked: Asked, report: Progress) -> Updates:
        return results.trust_drawn(self, self.desk.trusted(asked, report))

    def change_now(
        self,
        asked: Asked | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Updates:
        """The page with the smallest change that turns the answer; the rest of it stays untouched."""
        return self._changed(self._smallest, asked, self._who(request), progress_bar(progress))

    def _smallest(self, asked: Asked, report: Progress) -> Updates:
        return results.change_drawn(self, self.desk.smallest_change(asked, report))

    def search(
        self,
        asked: Asked | None,
        words: str | None,
        token: str | None,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Updates:
        """The references that fit the words."""
        wanted, given = text(words), token_of(token, account)

        def work(report: Progress) -> Iterator[Any]:
            known = self._still(asked)
            if known.whole is None or not known.reader:
                raise XaihubError("There are no references here that can be searched with words.")
            yield found_by_words(self.desk, known.whole, known.reader, wanted, given, report)

        def run() -> Updates:
            found = list(self.changes.run(self._who(request), work, progress_bar(progress)))[-1]
            return {self.found: found_shown(found, wanted)}

        return self._guarded(run)

    def _change(self, answer: Asked | None, changes: dict[str, str], who: Visitor, progress: Progress) -> Updates:
        def again(asked: Asked, report: Progress) -> Updates:
            return self.drawn(self.desk.again(asked, report, **_usual_if_empty(changes)))

        return self._changed(again, answer, who, progress)

    def _changed(
        self,
        change: Callable[[Asked, Progress], Updates],
        answer: Asked | None,
        who: Visitor,
        progress: Progress,
        *,
        unasked: bool = False,
    ) -> Updates:
        """The page as a change of the answer leaves it, or with the menus as they were."""

        def work(report: Progress) -> Iterator[Updates]:
            yield change(self._still(answer), report)

        def run() -> Updates:
            return list(self.changes.run(who, work, progress, unasked=unasked))[-1]

        stands = "The earlier answer stands." if answer is not None else ""
        return self._guarded(run, partial(self._left, answer), stands)

    def stop(self, presses: str, asked: Asked | None, request: gr.Request) -> Updates:
        who = self._who(request)
        stands = "Stopped. The earlier answer stands." if asked is not None else "Stopped."
        changing, running = self.changes.stop(who, stands), self.stops.stop(who, KEPT)
        return self._stopped(presses, KEPT * running, stands * changing) | self._left(asked)

    def _emptied(self) -> Updates:
        return {
            self.asked: None,
            self.found: "",
            self.words: gr.update(visible=False),
            self.against: gr.update(value="", visible=HIDDEN),
            self.layer: gr.update(value=""),
        }

    def opened(self, request: gr.Request) -> Updates:
        """The boxes as the page's address says: ?model=...&class=...&method=...&references=..."""
        asked = {name: str(value)[:200] for name, value in dict(request.query_params).items()}
        boxes = {
            "model": self.model, "class": self.target, "against": self.against, "method": self.method,
            "layer": self.layer, "references": self.references,
        }  # fmt: skip
        updates: Updates = {box: asked[name] for name, box in boxes.items() if name in asked} | {self.arrived: "yes"}
        updates |= self._example(asked)
        if asked.keys() & {"class", "against", "method", "layer", "example"}:
            try:
                updates[self.welcome] = self.greeting + note(results.link_in_words(asked))
            except XaihubError as error:
                updates[self.welcome] = self.greeting + alarm(f"This link cannot be followed as it is. {error}")
                updates[self.method] = "gradcam"
        return updates

    def drawn(self, asked: Asked) -> Updates:
        """Every part of the page that shows an answer."""
        return results.drawn(self, asked)

    def _left(self, asked: Asked | None) -> Updates:
        """The answer that still stands after something was stopped."""
        return self._menus(asked) | results.stopped(self, asked) if asked is not None else {}

    def _menus(self, asked: Asked | None) -> Updates:
        """The menus as the answer that still stands was asked."""
        return results.menus(self, asked) if asked is not None else {}


def _usual_if_empty(choices: dict[str, str]) -> dict[str, str]:
    """The choices by name, an emptied box's as a question has it by default."""
    return {name: value or getattr(Question, name) for name, value in choices.items()}
