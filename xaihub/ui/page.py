"""What happens on every page: a question is asked and stopped, a model is looked up, and what went wrong is said."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import gradio as gr

from xaihub.errors import CancelledError, XaihubError, log_failure
from xaihub.progress import Progress
from xaihub.ui.boxes import UNANSWERED, Boxes, signal
from xaihub.ui.desk import Desk, Question
from xaihub.ui.results import is_refusal
from xaihub.ui.settings import Settings
from xaihub.ui.stopping import EndedError, Stops
from xaihub.ui.turns import Visitor
from xaihub.ui.wiring import (
    AT_ONCE,
    LOOKS,
    MODEL_WORK,
    PRIVATE,
    TO_ANSWER,
    Updates,
    progress_bar,
    read,
    said_once,
    text,
    token_of,
    visitor,
)
from xaihub.ui.words import BROKEN, alarm, note, planned, status

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.loading import Plan

__all__ = ["KEPT", "ChangingPage", "Page"]

logger = logging.getLogger(__name__)

Work = Callable[[Progress], Iterator[Any]]

KEPT = "Stopped. What had been downloaded is kept."


class Page(Boxes):
    """A page of questions; its layout comes from a second base."""

    harmless: ClassVar[tuple[type[XaihubError], ...]] = ()  # errors after which the earlier answer stands
    kept_is: ClassVar[str] = "This result is"

    def __init__(self, settings: Settings, desk: Desk) -> None:
        super().__init__(settings)
        self.desk, self.stops = desk, Stops(desk.turns)
        self._wire()

    # What each page does in its own way

    @abstractmethod
    def _wire(self) -> None:
        """Attaches what happens to the boxes."""

    @abstractmethod
    def _work(self, given: Updates, account: gr.OAuthToken | None) -> Work:
        """What answers the question that the boxes ask, step by step."""

    @abstractmethod
    def _step(self, answer: Any, given: Updates) -> Updates:
        """The page with what there is of the answer so far."""

    @abstractmethod
    def describe(self, *asked: Any) -> Updates:
        """What the Hub says of a model before it is fetched."""

    @abstractmethod
    def stop(self, presses: str, *left: Any) -> Updates:
        """What is said when the visitor pressed Stop; see `_wire_stop`."""

    def _lacking(self, given: Updates) -> str:
        """What there must be before anything is asked, in words; "" where nothing lacks."""
        return "" if given[self.picture] else "There is no picture yet. Choose an example, or send one of your own."

    def _standing(self, _given: Updates) -> Updates:
        """The boxes as the answer that still stands was asked."""
        return {}

    # Wiring

    def _model_work(self) -> dict[str, Any]:
        """How an event is attached that runs a classifier; one more click waits for its turn."""
        return MODEL_WORK | {"trigger_mode": "always_last", "show_progress_on": [self.progress]}

    def _once(self, run: Callable[..., Iterator[Updates]]) -> Callable[..., Iterator[Updates]]:
        """How a handler of several steps is attached."""
        return said_once(run, self._nothing)

    def _wire_question(self, asks: set[Any], shown: list[Any]) -> list[Any]:
        """The events that ask: the button, and a click on an example."""
        asked = self._once(self.run)
        pressed = self.go.click(asked, asks, shown, **self._model_work())
        # set where a page is opened, and the picture by its change: a handler that may leave the picture as it is has
        # gradio make that box anew for the visitor, which then opens files itself (see `picture_box`)
        self.linked_example = signal()
        self.linked_example.change(lambda name: self._files()[name], self.linked_example, self.picture, **AT_ONCE)
        picked = self.example.select(self.pick, None, [self.picture], **AT_ONCE)
        clicked = picked.then(asked, asks, shown, **self._model_work())
        for run in (pressed, clicked):
            run.then(None, js=TO_ANSWER, **PRIVATE)  # on a telephone the answer lies below the boxes
        return [pressed, clicked]

    def _wire_looking(self, asks: Any, about: list[Any]) -> None:
        """The model is looked up when it is typed and when the page has come, in one event: its answers keep order."""
        self.arrived = signal()
        asking = [self.model.input, self.arrived.change]
        gr.on(asking, self.describe, asks, about, trigger_mode="always_last", **LOOKS)

    def _wire_stop(self, given: list[Any], left: list[Any], runs: list[Any]) -> None:
        """What Stop does: a run that is under way ends by itself; one that waits for its turn is taken from the queue.

        Never both: gradio ends whatever runs under the same name when it comes to it, and that may be the visitor's
        next question.
        """
        self.presses = signal()
        self.halt.click(self.stop, [self.presses, *given], [self.presses, *left], **AT_ONCE)
        self.presses.change(None, cancels=runs, **PRIVATE)

    def _stopped(self, presses: str, *said: str) -> Updates:
        """What Stop says, the first that is not empty; where nothing had begun yet, what waits is dropped."""
        words = next(filter(None, said), "")
        return {self.alert: note(words or "Stopped.")} | ({} if words else {self.presses: "" if presses else "again"})

    def _last_words(self, error: EndedError) -> Updates:
        return {self.alert: note(str(error))} if str(error) else self._nothing()

    def _wire_download(self, button: gr.Button, make: Callable[[Any, str], str], answer: gr.State) -> None:
        made = button.click(self.packed(make), [answer], [self.file, self.alert], **LOOKS)
        made.success(None, js="() => document.querySelector('#xh-file').click()", **PRIVATE)

    # What happens

    def run(
        self,
        given: Updates,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """The page after its button: what is quick first, the rest when it is there."""
        yield {self.alert: ""}
        earlier = {self.answer: UNANSWERED} | self.freshness.gone()  # it must not stand below another picture's error
        try:
            lacking = self._lacking(given)
            if lacking:
                yield {self.alert: alarm(lacking)}
                return
            fresh = self.freshness.answer_to(given)
            for answer in self.stops.run(self._who(request), self._work(given, account), progress_bar(progress)):
                earlier = {}
                yield self._step(answer, given) | fresh
        except EndedError as error:
            yield self._last_words(error)
        except CancelledError as error:
            yield {self.alert: note(str(error))} | self._standing(given)
        except self.harmless as error:
            yield {self.alert: alarm(str(error))} | self._standing(given)
        except XaihubError as error:
            yield {self.alert: self._refused(error, given[self.model]), **earlier}
        except Exception:  # noqa: BLE001  it is logged
            log_failure(logger, "%s failed for %s", self.verb, given[self.model])
            yield {self.alert: alarm(BROKEN), **earlier}

    def pick(self, chosen: gr.SelectData) -> str:
        """The example's file; its place comes from the browser, so it is checked by being looked up."""
        return str(dict(enumerate(self.examples))[int(chosen.index)])

    def _example(self, asked: Mapping[str, str]) -> Updates:
        """The example that a link names; no link brings a picture of somebody's own."""
        name = asked.get("example", "")
        return {self.linked_example: name} if name in self._files() else {}

    def _files(self) -> dict[str, str]:
        return {file.name: str(file) for file in self.examples}

    def packed(self, make: Callable[[Any, str], str]) -> Callable[[Any], Updates]:
        """The handler of a download button: the file is made only when it is wanted."""

        def handler(answer: Any) -> Updates:
            return self._guarded(lambda: {self.file: make(self._still(answer), self.file.GRADIO_CACHE)})

        return handler

    def _looked(
        self, model: str | None, token: str, more: "Callable[[Plan, Classifier | None], Updates] | None" = None
    ) -> Updates:
        """What the Hub says of a model before it is fetched, and what more the page makes of it."""
        try:
            plan = self.desk.look(text(model), token)
            classifier = self.desk.loaded(plan)
            about = {self.about: status(plan, classifier) if classifier else planned(plan)}
            return about | (more(plan, classifier) if more else {})
        except XaihubError as error:
            return {self.about: "", self.alert: self._refused(error, model)}
        except Exception:  # noqa: BLE001  it is logged
            log_failure(logger, "Looking at %s failed", model)
            return {self.about: "", self.alert: alarm(BROKEN)}

    def _refused(self, error: XaihubError, model: str | None) -> str:
        """What went wrong, with models that would work where another one would help."""
        return alarm(str(error), self.finder.similar(text(model)) if is_refusal(error) else [])

    def _guarded(self, run: Callable[[], Updates], back: Callable[[], Updates] = dict, stands: str = "") -> Updates:
        """What a change of the answer gives, or why not.

        Args:
            back: the boxes as they were before the change.
            stands: what is left when it was stopped, in words.
        """
        try:
            return {self.alert: ""} | run()
        except EndedError as error:
            return self._last_words(error)
        except CancelledError as error:
            said = note(f"{error} {stands}".strip())
        except XaihubError as error:
            said = alarm(str(error))
        except Exception:  # noqa: BLE001  it is logged
            log_failure(logger, "A change of the answer failed after %s", self.verb)
            said = alarm(BROKEN)
        return {self.alert: said} | back()

    def _still(self, answer: Any) -> Any:
        if answer is None:
            raise XaihubError(f"{self.kept_is} no longer kept. Press {self.verb} again.")
        return answer

    def _who(self, request: gr.Request) -> Visitor:
        return visitor(request, self.settings.proxies_in_front)

    def _nothing(self) -> Updates:
        """No change; gradio takes an empty dictionary for a value."""
        return {self.alert: gr.update()}


class ChangingPage(Page):
    """A page whose answer has menus, and goes when another model is typed. Its answers have a `plan` and `choices`."""

    references: gr.HTML
    limit: gr.Slider
    target: gr.HTML

    @abstractmethod
    def _change(self, answer: Any, changes: dict[str, str], who: Visitor, progress: Progress) -> Updates:
        """The page with another choice."""

    @abstractmethod
    def _emptied(self) -> Updates:
        """What the page's own boxes are without an answer."""

    def _wire_model(self, answer: gr.State, *emptied: Any) -> None:
        """What typing a model does."""
        cleared = [self.alert, self.answer, self.freshness.answered, self.welcome, self.target, answer, *emptied]
        self.model.input(self.clear, [self.model, answer], cleared, **AT_ONCE)
        asks, about = [self.model, self.token], [self.about, self.alert]
        self._wire_looking(asks, about)

    def _question(self, given: Updates, account: gr.OAuthToken | None, **choices: str) -> Question:
        """What the boxes say; `choices` are those that this page alone has."""
        return Question(
            given[self.picture],
            read(given, self.model),
            read(given, self.references),
            int(given[self.limit]),
            target=read(given, self.target),
            token=token_of(given[self.token], account),
            **choices,
        )

    def changed(self, name: str) -> Callable[..., Any]:
        """The handler of a menu: the same picture with another choice."""

        def handler(
            answer: Any,
            value: str | None,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
        ) -> Updates:
            updates = self._change(answer, {name: text(value)}, self._who(request), progress_bar(progress))
            return updates | self.freshness.changed_to(updates)

        return handler

    def clear(self, model: str, answer: Any) -> Updates:
        """The page without an earlier model's answer; at once, since what the Hub says of the new one may be late."""
        if answer is not None and answer.plan.repo_id == text(model):
            return self._nothing()  # a box that is left by the keyboard reports an input, changed or not
        return {
            self.alert: "",
            self.answer: UNANSWERED,
            self.welcome: gr.update(visible=True, value=self.greeting),
            self.target: "",
            **self.freshness.gone(),
        } | self._emptied()

    def describe(self, model: str, token: str | None, account: gr.OAuthToken | None) -> Updates:
        """What the Hub says of a model before it is fetched."""
        return self._looked(model, token_of(token, account))
