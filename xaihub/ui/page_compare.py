"""The Compare page: one picture under several methods, several classes, or two models."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from xaihub.errors import CancelledError, XaihubError
from xaihub.ui import results
from xaihub.ui.desk import Desk
from xaihub.ui.desk_compare import CLASSES, DEFAULTS, Compared, Comparison, compare
from xaihub.ui.downloads import comparison_zip
from xaihub.ui.drawing_compare import compared_maps, said
from xaihub.ui.finding import Finder
from xaihub.ui.layout_compare import VARIES, WELCOME, Layout, visible
from xaihub.ui.menus import PREDICTED, class_choices, method_choices
from xaihub.ui.pace import total_in_words
from xaihub.ui.settings import Settings
from xaihub.ui.stopping import Stops
from xaihub.ui.wiring import MODEL_WORK, TO_ANSWER, progress_bar
from xaihub.ui.words import BROKEN, alarm, note, planned, status

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.loading import Plan

__all__ = ["ComparePage"]

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]
BETWEEN = "|"  # names in a link: no label of a data set that we know holds one


class ComparePage(Layout):
    """The page, and what happens when its boxes are used."""

    def __init__(self, settings: Settings, desk: Desk) -> None:
        super().__init__(settings)
        self.desk, self.stops, self.finder = desk, Stops(), Finder()
        self._wire()

    def _wire(self) -> None:
        private = {"api_visibility": "private"}
        at_once: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
        picks = {self.vary, self.methods, self.method, self.classes, self.plan}
        asks = picks | {self.picture, self.model, self.other, self.target, self.token, self.compared}
        shown = [
            self.alert, self.welcome, self.answer, self.said, self.view, self.compared, self.about, self.plan,
            self.methods, self.method, self.classes, self.target, self.cost,
        ]  # fmt: skip
        work = {**MODEL_WORK, **private, "trigger_mode": "once", "show_progress_on": [self.progress]}
        pressed = self.go.click(self.run, asks, shown, **work)
        picked = self.example.select(self.pick, None, [self.picture], **at_once)
        clicked = picked.then(self.run, asks, shown, **work)
        for run in (pressed, clicked):
            run.then(None, js=TO_ANSWER, **private)  # on a telephone the answer lies below the boxes
        self.halt.click(self.stop, None, [self.alert], cancels=[pressed, clicked], **at_once)
        looks = {"concurrency_id": "look", "concurrency_limit": 4, "show_progress": "hidden", **private}
        for box in (self.model, self.other):
            box.key_up(self.suggest, None, [box], trigger_mode="always_last", **looks)
        self.describing = looks | {"inputs": picks | {self.model, self.token}}
        self.describing["outputs"] = [self.about, self.plan, self.cost, self.alert]
        self.model.input(self.describe, trigger_mode="always_last", **self.describing)
        varying = [self.methods, self.method, self.classes, self.target, self.other, self.cost]
        self.vary.input(self.varied, picks, varying, **at_once)
        for menu in (self.methods, self.method, self.classes):
            menu.input(self.costing, picks, [self.cost], **at_once)
        made = self.keep.click(self.packed, [self.compared], [self.file, self.alert], **looks)
        made.success(None, js="() => document.querySelector('#xh-file').click()", **private)
        linked = [self.model, self.vary, self.other, self.methods, self.method, self.classes, self.target]
        self.link.click(None, linked, [self.linked], js="xaihubCompareLink", **private)

    def greet(self, demo: gr.Blocks) -> None:
        """Fills the boxes when the page is opened; inside its route."""
        boxes = [
            self.model, self.vary, self.methods, self.method, self.classes, self.target, self.other, self.welcome,
        ]  # fmt: skip
        opened = demo.load(self.opened, None, boxes, show_progress="hidden", queue=False, api_visibility="private")
        opened.then(self.describe, **self.describing)

    # What happens

    def run(
        self,
        given: Updates,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """The page after Compare: what there is before each slow map, then all of it."""
        yield {self.alert: ""}
        earlier = {self.answer: gr.update(visible=False)}  # an earlier picture's maps must not stand below an error
        try:
            if not given[self.picture]:
                yield {self.alert: alarm("There is no picture yet. Choose an example, or send one of your own.")}
                return
            question = self._question(given, account)
            before = given[self.compared].asked if given[self.compared] is not None else ()
            steps = self.stops.run(
                str(request.session_hash),
                lambda report: compare(self.desk, question, report, before),
                progress_bar(progress),
            )
            for compared in steps:
                earlier = {}
                yield self.drawn(compared, given)
        except CancelledError as error:
            yield {self.alert: note(str(error))}
        except XaihubError as error:
            similar = self.finder.similar(given[self.model] or "") if results.is_refusal(error) else []
            yield {self.alert: alarm(str(error), similar), **earlier}
        except Exception:
            logger.exception("Compare failed for %s", given[self.model])
            yield {self.alert: alarm(BROKEN), **earlier}

    def _question(self, given: Updates, account: gr.OAuthToken | None) -> Comparison:
        def text(box: Any) -> str:
            return (given[box] or "").strip()

        vary = text(self.vary)
        classes = given[self.classes] or [] if vary == "classes" else [text(self.target)]
        return Comparison(
            given[self.picture],
            text(self.model),
            vary,
            text(self.other),
            tuple(given[self.methods] or []) if vary == "methods" else (text(self.method),),
            tuple(name for name in classes if name),
            token=text(self.token) or (account.token if account else ""),
        )

    def drawn(self, compared: Compared, given: Updates) -> Updates:
        """Every part of the page that shows a comparison; its menus now know the model."""
        asked = compared.asked[0]
        updates: Updates = {
            self.alert: "",
            self.welcome: gr.update(visible=False),
            self.answer: gr.update(visible=True),
            self.said: said(compared),
            self.view: compared_maps(compared),
            self.compared: compared,
            self.plan: asked.plan,
        }
        if asked.query is not None:
            classifier, labels = asked.query.classifier, asked.explanation.prediction.labels
            choices = method_choices(classifier, self.desk.pace)
            updates |= {
                self.about: status(asked.plan, classifier),
                self.methods: gr.update(choices=choices),
                self.method: gr.update(choices=choices),
                self.classes: gr.update(choices=class_choices(labels)),
                self.target: gr.update(choices=class_choices(labels, PREDICTED)),
                self.cost: self._total(given, classifier),
            }
        return updates

    def costing(self, given: Updates) -> str:
        """What the chosen maps will cost, before they are made."""
        plan: Plan | None = given[self.plan]
        return self._total(given, self.desk.loaded(plan) if plan is not None else None)

    def _total(self, given: Updates, classifier: "Classifier | None") -> str:
        vary = given[self.vary]
        names = (given[self.methods] or []) if vary == "methods" else [given[self.method]]
        times = {"methods": 1, "classes": len(given[self.classes] or []) or CLASSES, "models": 2}[vary]
        return total_in_words(names, times, classifier, self.desk.pace, self.settings.compare_seconds, vary)

    def varied(self, given: Updates) -> Updates:
        """The boxes that matter for what varies."""
        shown = visible(given[self.vary])
        updates = {getattr(self, name): gr.update(visible=there) for name, there in shown.items()}
        return updates | {self.cost: self.costing(given)}

    def describe(self, given: Updates, account: gr.OAuthToken | None) -> Updates:
        """What the Hub says of the model before it is fetched, and what the maps will cost in it."""
        token = (given[self.token] or "").strip() or (account.token if account else "")
        return self._described((given[self.model] or "").strip(), token, given)

    def _described(self, model: str, token: str, given: Updates) -> Updates:
        try:
            plan = self.desk.look(model, token)
            classifier = self.desk.loaded(plan)
            about = status(plan, classifier) if classifier else planned(plan)
            return {self.about: about, self.plan: plan, self.cost: self._total(given, classifier), self.alert: ""}
        except XaihubError as error:
            similar = self.finder.similar(model) if results.is_refusal(error) else []
            return {self.about: "", self.plan: None, self.alert: alarm(str(error), similar)}
        except Exception:
            logger.exception("Looking at %s failed", model)
            return {self.about: "", self.plan: None, self.alert: alarm(BROKEN)}

    def opened(self, request: gr.Request) -> Updates:
        """The menus, and the boxes as the page's address says: ?model=...&vary=classes&method=rise&classes=cat|dog"""
        asked = {name: str(value)[:2000] for name, value in dict(request.query_params).items()}
        choices = method_choices(None, self.desk.pace)
        known = [name for _, name in choices]
        methods = [name for name in asked.get("methods", "").split(BETWEEN) if name]
        wrong = [name for name in (*methods, asked.get("method", "gradcam")) if name not in known]
        vary = asked.get("vary", "methods")
        wrong += [vary] if vary not in dict(VARIES).values() else []
        if wrong:
            return {
                self.methods: gr.update(choices=choices),
                self.method: gr.update(choices=choices),
                self.welcome: WELCOME + alarm(f"This link asks for {wrong[0][:60]!r}, which is not known here."),
            }
        updates: Updates = {self.model: asked["model"][:200]} if "model" in asked else {}
        classes = [name[:200] for name in asked.get("classes", "").split(BETWEEN) if name]
        shown = visible(vary)
        updates |= {
            self.vary: vary,
            self.methods: gr.update(choices=choices, visible=shown["methods"], value=methods or list(DEFAULTS)),
            self.method: gr.update(choices=choices, visible=shown["method"], value=asked.get("method", "gradcam")),
            self.classes: gr.update(visible=shown["classes"], value=classes),
            self.target: gr.update(visible=shown["target"], value=asked.get("class", "")[:200]),
            self.other: gr.update(visible=shown["other"], value=asked.get("with", "")[:200] or None),
        }
        if asked:
            updates[self.welcome] = WELCOME + note(
                "The boxes are as the link says. Send the picture and press Compare."
            )
        return updates

    def pick(self, chosen: gr.SelectData) -> str:
        """The example's file; its place comes from the browser, so it is checked by being looked up."""
        return str(dict(enumerate(self.examples))[int(chosen.index)])

    def suggest(self, typed: gr.KeyUpData) -> Any:
        if len(typed.key) > 1 and typed.key not in ("Backspace", "Delete"):
            return gr.update()  # as on the Explain page
        return gr.update(choices=self.finder.suggest(typed.input_value))

    def stop(self, request: gr.Request) -> str:
        running = self.stops.stop(str(request.session_hash))
        return note("Stopped. The maps that were there before stay." if running else "Stopped.")

    def packed(self, compared: Compared | None) -> Updates:
        """The download, made only when it is wanted."""
        try:
            if compared is None:
                raise XaihubError("These maps are no longer kept. Press Compare again.")  # noqa: TRY301
            return {self.file: comparison_zip(compared, self.file.GRADIO_CACHE), self.alert: ""}
        except XaihubError as error:
            return {self.alert: alarm(str(error))}
        except Exception:
            logger.exception("The maps could not be packed")
            return {self.alert: alarm(BROKEN)}
