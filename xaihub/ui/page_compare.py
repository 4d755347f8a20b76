"""The Compare page: one picture under several methods, several classes, or two models."""

from typing import TYPE_CHECKING

import gradio as gr

from xaihub.ui.boxes import ANSWERED
from xaihub.ui.desk_compare import CLASSES, DEFAULTS, Compared, Comparison, compare
from xaihub.ui.downloads import comparison_zip
from xaihub.ui.drawing_compare import compared_maps, said
from xaihub.ui.layout_compare import VARIES, Layout, visible
from xaihub.ui.menus import PREDICTED, class_choices, method_choices
from xaihub.ui.pace import total_in_words
from xaihub.ui.page import Page, Work
from xaihub.ui.wiring import AT_ONCE, PRIVATE, Updates, read, token_of
from xaihub.ui.words import alarm, note, status

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.loading import Plan

__all__ = ["ComparePage"]

BETWEEN = "|"  # names in a link: no label of a data set that we know holds one


class ComparePage(Page, Layout):
    """The page, and what happens when its boxes are used."""

    kept_is = "These maps are"

    def _wire(self) -> None:
        picks = {self.vary, self.methods, self.method, self.classes, self.plan}
        asks = picks | {self.picture, self.model, self.other, self.target, self.token, self.compared}
        shown = [
            self.alert, self.welcome, self.answer, self.said, self.view, self.compared, self.about, self.plan,
            self.methods, self.method, self.classes, self.target, self.cost, self.freshness.answered,
        ]  # fmt: skip
        asked = {
            "image": self.picture, "model": self.model, "second model": self.other, "kind of comparison": self.vary,
            "methods": self.methods, "method": self.method, "classes": self.classes, "class": self.target,
        }  # fmt: skip
        self.freshness.watch(self.verb, asked)
        runs = self._wire_question(asks, shown)
        self._wire_stop([], [self.alert], runs)
        self._wire_looking(picks | {self.model, self.token}, [self.about, self.plan, self.cost, self.alert])
        varying = [self.methods, self.method, self.classes, self.target, self.other, self.cost]
        self.vary.input(self.varied, picks, varying, **AT_ONCE)
        for menu in (self.methods, self.method, self.classes):
            menu.input(self.costing, picks, [self.cost], **AT_ONCE)
        self._wire_download(self.keep, comparison_zip, self.compared)
        linked = [self.picture, self.model, self.vary, self.other, self.methods, self.method, self.classes, self.target]
        self.link.click(None, linked, [self.linked], js="xaihubCompareLink", **PRIVATE)

    def greet(self, demo: gr.Blocks) -> None:
        """Fills the boxes when the page is opened; inside its route."""
        boxes = [
            self.model, self.vary, self.methods, self.method, self.classes, self.target, self.other, self.welcome,
            self.arrived, self.linked_example,
        ]  # fmt: skip
        demo.load(self.opened, None, boxes, **AT_ONCE)

    # What happens

    def _work(self, given: Updates, account: gr.OAuthToken | None) -> Work:
        vary = read(given, self.vary)
        before = given[self.compared].asked if given[self.compared] is not None else ()
        classes = given[self.classes] or [] if vary == "classes" else [read(given, self.target)]
        question = Comparison(
            given[self.picture],
            read(given, self.model),
            vary,
            read(given, self.other),
            tuple(given[self.methods] or []) if vary == "methods" else (read(given, self.method),),
            tuple(name for name in classes if name),
            token=token_of(given[self.token], account),
        )
        return lambda report: compare(self.desk, question, report, before)

    def _step(self, answer: Compared, given: Updates) -> Updates:
        return self.drawn(answer, given)

    def drawn(self, compared: Compared, given: Updates) -> Updates:
        """Every part of the page that shows a comparison; its menus now know the model."""
        asked = compared.asked[0]
        updates: Updates = {
            self.alert: "",
            self.welcome: gr.update(visible=False),
            self.answer: ANSWERED,
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

        def more(plan: "Plan", classifier: "Classifier | None") -> Updates:
            return {self.plan: plan, self.cost: self._total(given, classifier), self.alert: ""}

        return {self.plan: None} | self._looked(read(given, self.model), token_of(given[self.token], account), more)

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
                self.arrived: "yes",
                self.methods: gr.update(choices=choices),
                self.method: gr.update(choices=choices),
                self.welcome: self.greeting + alarm(f"This link asks for {wrong[0][:60]!r}, which is not known here."),
            }
        updates: Updates = {self.arrived: "yes"} | ({self.model: asked["model"][:200]} if "model" in asked else {})
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
        updates |= self._example(asked)
        if asked:
            send = "Press" if self.linked_example in updates else "Send the picture and press"
            updates[self.welcome] = self.greeting + note(f"The boxes are as the link says. {send} Compare.")
        return updates

    def stop(self, presses: str, request: gr.Request) -> Updates:
        said = "Stopped. The maps that were there before stay."
        return self._stopped(presses, said * self.stops.stop(self._who(request), said))
