"""Page 1: a model, a picture, and why."""

import logging
from collections.abc import Iterator
from typing import Any

import gradio as gr

from xaihub.errors import CancelledError, TargetLayerError, XaihubError
from xaihub.progress import Progress
from xaihub.ui import results
from xaihub.ui.desk import Asked, Desk, Question
from xaihub.ui.downloads import evidence_zip, references_zip
from xaihub.ui.finding import Finder
from xaihub.ui.layout_explain import WELCOME, Layout
from xaihub.ui.menus import AUTOMATIC, PREDICTED, RUNNER_UP
from xaihub.ui.settings import Settings
from xaihub.ui.stopping import Stops
from xaihub.ui.wiring import MODEL_WORK, TO_ANSWER, progress_bar
from xaihub.ui.words import BROKEN, alarm, note, planned, status

__all__ = ["ExplainPage"]

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]


class ExplainPage(Layout):
    """The page, and what happens when its boxes are used."""

    def __init__(self, settings: Settings, desk: Desk) -> None:
        super().__init__(settings)
        self.desk, self.finder = desk, Finder()
        self.stops, self.changes = Stops(), Stops()  # questions, and changes of an answer, which give way to each other
        self.gave_way: set[str] = set()  # whose change was ended by another question
        self._wire()

    def _wire(self) -> None:
        private = {"api_visibility": "private"}
        asks = {
            self.picture, self.model, self.references, self.limit, self.target, self.against, self.method, self.layer,
            self.token, self.asked,
        }  # fmt: skip
        shown = [self.alert, self.welcome, self.answer, *self._result_components()]
        work = {**MODEL_WORK, **private, "trigger_mode": "once", "show_progress_on": [self.progress]}
        pressed = self.go.click(self.run, asks, shown, **work)
        picked = self.example.select(self.pick, None, [self.picture], queue=False, show_progress="hidden", **private)
        clicked = picked.then(self.run, asks, shown, **work)
        relayered = self.layer.input(self.relayer, asks, shown, **work)
        adopting = work | {"show_progress_on": [self.beside]}  # the button is far below the bar
        adopted = self.adopt.click(self.embed_again, [self.asked, self.limit], shown, **adopting)
        for run in (pressed, clicked):
            run.then(None, js=TO_ANSWER, **private)  # on a telephone the answer lies below the boxes
        at_once: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
        self.go.click(self.give_way, None, None, **at_once)
        runs = [pressed, clicked, relayered, adopted]
        changes = work | {"trigger_mode": "multiple"}  # one that follows waits for the earlier one, which gives way
        for box, name in ((self.target, "target"), (self.method, "method"), (self.against, "against")):
            chosen = box.input(self.give_way, None, None, trigger_mode="multiple", **at_once)
            runs.append(chosen.then(self.changed(name), [self.asked, box], shown, **changes))
        left = [self.alert, self.target, self.against, self.method, self.layer]
        self.halt.click(self.stop, [self.asked], left, cancels=runs, **at_once)
        looks = {"concurrency_id": "look", "concurrency_limit": 4, "show_progress": "hidden", **private}
        self.model.key_up(self.suggest, None, [self.model], trigger_mode="always_last", **looks)
        cleared = [self.alert, self.answer, self.welcome, self.asked, self.target, self.against, self.layer]
        self.model.input(self.clear, [self.model, self.asked], cleared, queue=False, show_progress="hidden", **private)
        about = [self.about, self.alert]
        self.model.input(self.describe, [self.model, self.token], about, trigger_mode="always_last", **looks)
        for button, make in ((self.keep, evidence_zip), (self.keep_references, references_zip)):
            made = button.click(self.packed(make), [self.asked], [self.file, self.alert], **looks)
            made.success(None, js="() => document.querySelector('#xh-file').click()", **private)
        linked = [self.model, self.target, self.against, self.method, self.layer, self.references]
        self.link.click(None, linked, [self.linked], js="xaihubLink", **private)

    def _result_components(self) -> list[Any]:
        return [
            self.asked, self.about, self.said, self.target, self.method, self.layer, self.view, self.trust,
            self.against, self.beside, self.adopt, self.keep_references,
        ]  # fmt: skip

    # What happens

    def run(
        self,
        given: Updates,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """The page after Explain: the heatmap first, the examples when they are there."""
        yield {self.alert: ""}
        earlier = {self.answer: gr.update(visible=False)}  # an earlier picture's answer must not stand below an error
        try:
            if not given[self.picture]:
                yield {self.alert: alarm("There is no picture yet. Choose an example, or send one of your own.")}
                return
            question = self._question(given, account)
            answers = self.stops.run(
                str(request.session_hash), lambda report: self.desk.answer(question, report), progress_bar(progress)
            )
            for asked in answers:
                earlier = {}
                yield self.drawn(asked)
        except CancelledError as error:
            yield {self.alert: note(str(error))} | self._menus(given[self.asked])
        except TargetLayerError as error:
            yield {self.alert: alarm(str(error))} | self._menus(given[self.asked])
        except XaihubError as error:
            similar = self.finder.similar(given[self.model] or "") if results.is_refusal(error) else []
            yield {self.alert: alarm(str(error), similar), **earlier}
        except Exception:
            logger.exception("Explain failed for %s", given[self.model])
            yield {self.alert: alarm(BROKEN), **earlier}

    def relayer(
        self,
        given: Updates,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """The same picture explained at another layer; the references are those of that layer too."""
        asked, layer = given[self.asked], (given[self.layer] or "").strip()
        if asked is not None and asked.choices["layer"] == layer:
            yield self._nothing()  # a box that is left by the keyboard reports an input, changed or not
        else:
            yield from self.run(given, request, account, progress)

    def _question(self, given: Updates, account: gr.OAuthToken | None) -> Question:
        def text(box: Any) -> str:
            return (given[box] or "").strip()

        return Question(
            given[self.picture],
            text(self.model),
            text(self.references),
            int(given[self.limit]),
            target=text(self.target),
            against=text(self.against),
            method=text(self.method),
            layer=text(self.layer),
            token=text(self.token) or (account.token if account else ""),
        )

    def embed_again(
        self,
        asked: Asked | None,
        limit: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Updates:
        """The page once another classifier's reference pictures were embedded for this one."""

        def run() -> Updates:
            known = _still(asked)
            answers = self.stops.run(
                str(request.session_hash),
                lambda report: self.desk.adopt(known, int(limit), report),
                progress_bar(progress),
            )
            return self.drawn(list(answers)[-1])

        return self._guarded(run)

    def changed(self, name: str) -> Any:
        """The handler of a menu: the same picture asked about another class or with another method."""

        def handler(
            asked: Asked | None,
            value: str | None,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
        ) -> Updates:
            if asked is not None and asked.choices.get(name) == (value or ""):
                return self._nothing()

            def work(report: Progress) -> Iterator[Asked]:
                yield self.desk.again(_still(asked), report, **{name: value or ""})

            visitor = str(request.session_hash)
            answers = self.changes.run(visitor, work, progress_bar(progress))
            updates = self._guarded(lambda: self.drawn(list(answers)[-1]), asked)
            if visitor not in self.gave_way:
                return updates
            self.gave_way.discard(visitor)
            return self._nothing()  # the boxes hold the next question already

        return handler

    def give_way(self, request: gr.Request) -> None:
        """A long change of the answer ends when something else is asked: else its turn would come only then."""
        visitor = str(request.session_hash)
        if self.changes.stop(visitor):
            self.gave_way.add(visitor)

    def stop(self, asked: Asked | None, request: gr.Request) -> Updates:
        visitor = str(request.session_hash)
        changing, running = self.changes.stop(visitor), self.stops.stop(visitor)
        kept = "What had been downloaded is kept." if running else "The earlier answer stands." if changing else ""
        return {self.alert: note(f"Stopped. {kept}".strip())} | self._menus(asked)

    def pick(self, chosen: gr.SelectData) -> str:
        """The example's file; its place comes from the browser, so it is checked by being looked up."""
        return str(dict(enumerate(self.examples))[int(chosen.index)])

    def suggest(self, typed: gr.KeyUpData) -> Any:
        if len(typed.key) > 1 and typed.key not in ("Backspace", "Delete"):
            return gr.update()  # Enter, Tab, an arrow: nothing was typed, and new choices would open the list again
        return gr.update(choices=self.finder.suggest(typed.input_value))

    def clear(self, model: str, asked: Asked | None) -> Updates:
        """The page without an earlier model's answer; at once, since what the Hub says of the new one may be late."""
        if asked is not None and asked.plan.repo_id == (model or "").strip():
            return self._nothing()  # a box that is left by the keyboard reports an input, changed or not
        return {
            self.alert: "",
            self.answer: gr.update(visible=False),
            self.welcome: gr.update(visible=True, value=WELCOME),
            self.asked: None,
            self.target: gr.update(choices=[PREDICTED], value=""),
            self.against: gr.update(choices=[RUNNER_UP], value="", visible=False),
            self.layer: gr.update(choices=[AUTOMATIC], value=""),
        }

    def describe(self, model: str, token: str | None, account: gr.OAuthToken | None) -> Updates:
        """What the Hub says of a model before it is fetched."""
        return self._described(model, (token or "").strip() or (account.token if account else ""))

    def _described(self, model: str, token: str) -> Updates:
        try:
            plan = self.desk.look((model or "").strip(), token)
            classifier = self.desk.loaded(plan)
            return {self.about: status(plan, classifier) if classifier else planned(plan)}
        except XaihubError as error:
            similar = self.finder.similar(model or "") if results.is_refusal(error) else []
            return {self.about: "", self.alert: alarm(str(error), similar)}
        except Exception:
            logger.exception("Looking at %s failed", model)
            return {self.about: "", self.alert: alarm(BROKEN)}

    def opened(self, request: gr.Request) -> Updates:
        """The boxes as the page's address says: ?model=...&class=...&method=...&references=..."""
        asked = {name: str(value)[:200] for name, value in dict(request.query_params).items()}
        boxes = {
            "model": self.model, "class": self.target, "against": self.against, "method": self.method,
            "layer": self.layer, "references": self.references,
        }  # fmt: skip
        updates: Updates = {box: asked[name] for name, box in boxes.items() if name in asked}
        if asked.keys() & {"class", "against", "method", "layer"}:
            try:
                updates[self.welcome] = WELCOME + note(results.link_in_words(asked))
            except XaihubError as error:
                updates[self.welcome] = WELCOME + alarm(f"This link cannot be followed as it is. {error}")
                updates[self.method] = "gradcam"
        return updates or self._nothing()

    def packed(self, make: Any) -> Any:
        """The handler of a download button: the file is made only when it is wanted."""

        def handler(asked: Asked | None) -> Updates:
            return self._guarded(lambda: {self.file: make(_still(asked), self.file.GRADIO_CACHE)})

        return handler

    def drawn(self, asked: Asked) -> Updates:
        """Every part of the page that shows an answer."""
        return results.drawn(self, asked)

    def _nothing(self) -> Updates:
        """No change; gradio takes an empty dictionary for a value."""
        return {self.alert: gr.update()}

    def _menus(self, asked: Asked | None) -> Updates:
        """The menus as the answer that still stands was asked."""
        return results.menus(self, asked) if asked is not None else {}

    def _guarded(self, run: Any, asked: Asked | None = None) -> Updates:
        try:
            return {self.alert: ""} | run()
        except CancelledError as error:
            stands = f"{error} The earlier answer stands." if asked is not None else str(error)
            return {self.alert: note(stands)} | self._menus(asked)
        except XaihubError as error:
            return {self.alert: alarm(str(error))} | self._menus(asked)
        except Exception:
            logger.exception("A change of the answer failed")
            return {self.alert: alarm(BROKEN)} | self._menus(asked)


def _still(asked: Asked | None) -> Asked:
    if asked is None:
        raise XaihubError("This result is no longer kept. Press Explain again.")
    return asked
