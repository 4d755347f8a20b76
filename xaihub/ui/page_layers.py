"""The Layers page: one picture's map from the first layer to the last, and where its references lie at each."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from xaihub.errors import CancelledError, XaihubError
from xaihub.progress import Progress
from xaihub.ui.desk import Desk, Question
from xaihub.ui.desk_layers import Explored, LayersDesk
from xaihub.ui.drawing import bars
from xaihub.ui.drawing_layers import plane_shown, strip_shown
from xaihub.ui.finding import Finder
from xaihub.ui.layout_layers import WELCOME, LayersLayout
from xaihub.ui.menus import PREDICTED, class_choices
from xaihub.ui.page_explain import MODEL_WORK, TO_ANSWER
from xaihub.ui.results import is_refusal
from xaihub.ui.settings import Settings
from xaihub.ui.stopping import Stops
from xaihub.ui.words import BROKEN, alarm, note, planned, status

__all__ = ["LayersPage"]

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]


class LayersPage(LayersLayout):
    """The page, and what happens when its boxes are used."""

    def __init__(self, settings: Settings, desk: Desk) -> None:
        super().__init__(settings)
        self.desk, self.layers, self.stops, self.finder = desk, LayersDesk(desk), Stops(), Finder()
        self._wire()

    def _wire(self) -> None:
        private = {"api_visibility": "private"}
        at_once: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
        asks = {
            self.picture, self.model, self.references, self.limit, self.target, self.method, self.token, self.explored,
        }  # fmt: skip
        shown = [
            self.alert, self.welcome, self.answer, self.explored, self.about, self.said, self.target, self.method,
            self.strip, self.trouble, self.projection, self.plane,
        ]  # fmt: skip
        work = {**MODEL_WORK, **private, "trigger_mode": "once", "show_progress_on": [self.progress]}
        pressed = self.go.click(self.run, asks, shown, **work)
        picked = self.example.select(self.pick, None, [self.picture], **at_once)
        clicked = picked.then(self.run, asks, shown, **work)
        for run in (pressed, clicked):
            run.then(None, js=TO_ANSWER, **private)
        changes = work | {"trigger_mode": "always_last"}
        runs = [pressed, clicked]
        for box, name in ((self.target, "target"), (self.method, "method"), (self.projection, "projection")):
            runs.append(box.input(self.changed(name), [self.explored, box], shown, **changes))
        self.halt.click(self.stop, None, [self.alert], cancels=runs, **at_once)
        looks = {"concurrency_id": "look", "concurrency_limit": 4, "show_progress": "hidden", **private}
        self.model.key_up(self.suggest, None, [self.model], trigger_mode="always_last", **looks)
        cleared = [self.alert, self.answer, self.welcome, self.explored, self.target]
        self.model.input(self.clear, [self.model, self.explored], cleared, **at_once)
        about = [self.about, self.alert]
        self.model.input(self.describe, [self.model, self.token], about, trigger_mode="always_last", **looks)

    # What happens

    def run(
        self,
        given: Updates,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """The page after Explore: the strip first, the references when they are there."""
        yield {self.alert: ""}
        earlier = {self.answer: gr.update(visible=False)}  # an earlier picture's answer must not stand below an error
        try:
            if not given[self.picture]:
                yield {self.alert: alarm("There is no picture yet. Choose an example, or send one of your own.")}
                return
            question = self._question(given, account)
            answers = self.stops.run(
                str(request.session_hash), lambda report: self.layers.answer(question, report), _bar(progress)
            )
            for explored in answers:
                earlier = {}
                yield self.drawn(explored, waiting=bool(question.references) and not _has_all(explored))
        except CancelledError as error:
            yield {self.alert: note(str(error))}
        except XaihubError as error:
            similar = self.finder.similar(given[self.model] or "") if is_refusal(error) else []
            yield {self.alert: alarm(str(error), similar), **earlier}
        except Exception:
            logger.exception("Explore failed for %s", given[self.model])
            yield {self.alert: alarm(BROKEN), **earlier}

    def _question(self, given: Updates, account: gr.OAuthToken | None) -> Question:
        def text(box: Any) -> str:
            return str(given[box] or "").strip()

        return Question(
            given[self.picture],
            text(self.model),
            text(self.references),
            int(given[self.limit]),
            text(self.target),
            method=text(self.method),
            token=text(self.token) or (account.token if account else ""),
        )

    def changed(self, name: str) -> Callable[..., Updates]:
        """The handler of a menu: the same picture with another class, method or projection."""

        def handler(
            explored: Explored | None,
            value: str | None,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
        ) -> Updates:
            if explored is not None and explored.choices[name] == (value or ""):
                return {self.alert: gr.update()}  # a box that is left by the keyboard reports an input, changed or not
            return self._guarded(explored, lambda known: self._again(known, name, value or "", request, progress))

        return handler

    def _again(self, explored: Explored, name: str, value: str, request: gr.Request, progress: gr.Progress) -> Explored:
        def work(report: Progress) -> Iterator[Explored]:
            if name == "projection":
                yield self.layers.laid_out(explored, value, report)
            else:
                yield self.layers.again(explored, report, **{name: value})

        return list(self.stops.run(str(request.session_hash), work, _bar(progress)))[-1]

    def stop(self, request: gr.Request) -> str:
        running = self.stops.stop(str(request.session_hash))
        return note("Stopped. What had been downloaded is kept." if running else "Stopped.")

    def pick(self, chosen: gr.SelectData) -> str:
        """The example's file; its place comes from the browser, so it is checked by being looked up."""
        return str(dict(enumerate(self.examples))[int(chosen.index)])

    def suggest(self, typed: gr.KeyUpData) -> Any:
        if len(typed.key) > 1 and typed.key not in ("Backspace", "Delete"):
            return gr.update()  # Enter, Tab, an arrow: nothing was typed, and new choices would open the list again
        return gr.update(choices=self.finder.suggest(typed.input_value))

    def clear(self, model: str, explored: Explored | None) -> Updates:
        """The page without an earlier model's answer."""
        if explored is not None and explored.plan.repo_id == (model or "").strip():
            return {self.alert: gr.update()}
        return {
            self.alert: "",
            self.answer: gr.update(visible=False),
            self.welcome: gr.update(visible=True, value=WELCOME),
            self.explored: None,
            self.target: gr.update(choices=[PREDICTED], value=""),
        }

    def describe(self, model: str, token: str | None, account: gr.OAuthToken | None) -> Updates:
        """What the Hub says of a model before it is fetched."""
        try:
            plan = self.desk.look((model or "").strip(), (token or "").strip() or (account.token if account else ""))
            classifier = self.desk.loaded(plan)
            return {self.about: status(plan, classifier) if classifier else planned(plan)}
        except XaihubError as error:
            similar = self.finder.similar(model or "") if is_refusal(error) else []
            return {self.about: "", self.alert: alarm(str(error), similar)}
        except Exception:
            logger.exception("Looking at %s failed", model)
            return {self.about: "", self.alert: alarm(BROKEN)}

    def opened(self, request: gr.Request) -> Updates:
        """The boxes as the page's address says: ?model=...&references=..."""
        asked = {name: str(value)[:200] for name, value in dict(request.query_params).items()}
        boxes = {"model": self.model, "references": self.references, "class": self.target}
        return {box: asked[name] for name, box in boxes.items() if name in asked} or {self.alert: gr.update()}

    def drawn(self, explored: Explored, *, waiting: bool = False, alike: bool = False) -> Updates:
        """Every part of the page that shows an answer.

        Args:
            waiting: whether the references are still to come.
            alike: whether the plane is shown already: with its pictures it is by far the largest part.
        """
        strip = explored.strip
        classifier = self.desk.loaded(explored.plan)
        trouble = note("The references are being embedded at every layer.") if waiting else ""
        updates: Updates = {
            self.explored: explored,
            self.alert: "",
            self.welcome: gr.update(visible=False),
            self.answer: gr.update(visible=True),
            self.said: bars(strip.prediction, strip.target, explored.plan.repo_id, count=3),
            self.target: gr.update(
                choices=class_choices(strip.prediction.labels, PREDICTED), value=explored.choices["target"]
            ),
            self.method: gr.update(choices=_methods(), value=explored.choices["method"]),
            self.strip: strip_shown(explored),
            self.trouble: alarm(explored.trouble) if explored.trouble else trouble,
            self.projection: gr.update(
                visible=explored.shown is not None, choices=_projections(), value=explored.choices["projection"]
            ),
        }
        if not alike:
            updates[self.plane] = plane_shown(explored)
        if classifier is not None:
            updates[self.about] = status(explored.plan, classifier)
        return updates

    def _guarded(self, explored: Explored | None, run: Callable[[Explored], Explored]) -> Updates:
        """What a change gives, or why not; then the menus go back to what is shown."""
        try:
            again = run(_still(explored))
            return self.drawn(again, alike=_plane(again) == _plane(explored))
        except CancelledError as error:
            said = note(str(error))
        except XaihubError as error:
            said = alarm(str(error))
        except Exception:
            logger.exception("A change of the layers failed")
            said = alarm(BROKEN)
        back = {"target": self.target, "method": self.method, "projection": self.projection}
        shown = explored.choices if explored is not None else {}
        return {self.alert: said} | {back[name]: gr.update(value=value) for name, value in shown.items()}


def _still(explored: Explored | None) -> Explored:
    if explored is None:
        raise XaihubError("This result is no longer kept. Press Explore again.")
    return explored


def _has_all(explored: Explored) -> bool:
    return explored.shown is not None or bool(explored.trouble)


def _plane(explored: Explored | None) -> tuple[Any, str]:
    """What the plane shows; the class and the method of the maps do not enter."""
    return (explored.shown, explored.choices["projection"]) if explored is not None else (None, "")


def _methods() -> list[tuple[str, str]]:
    from xaihub import METHODS
    from xaihub.cams import CAMS

    return [(METHODS[name].title, name) for name in CAMS]


def _projections() -> list[tuple[str, str]]:
    """Every way to two dimensions; one that is not installed says so, and answers with what to install."""
    from xaihub.projections import PROJECTIONS

    return [
        (entry.title + (f" – needs {entry.package}" if entry.missing else ""), name)
        for name, entry in PROJECTIONS.items()
    ]


def _bar(progress: gr.Progress) -> Progress:
    """The library's progress on gradio's bar."""
    return lambda share, stage: progress(share, desc=stage)
