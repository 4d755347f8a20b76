"""The Layers page: one picture's map from the first layer to the last, and where its references lie at each."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from xaihub.progress import Progress
from xaihub.ui.boxes import ANSWERED
from xaihub.ui.combobox import shown_if
from xaihub.ui.desk import Desk
from xaihub.ui.desk_layers import Explored, LayersDesk
from xaihub.ui.drawing import bars
from xaihub.ui.drawing_layers import plane_shown, strip_shown
from xaihub.ui.layout_layers import LayersLayout
from xaihub.ui.menus import PREDICTED, class_choices
from xaihub.ui.page import KEPT, ChangingPage, Work
from xaihub.ui.settings import Settings
from xaihub.ui.turns import Visitor
from xaihub.ui.wiring import Updates, read
from xaihub.ui.words import alarm, note, status

__all__ = ["LayersPage"]


class LayersPage(ChangingPage, LayersLayout):
    """The page, and what happens when its boxes are used."""

    def __init__(self, settings: Settings, desk: Desk) -> None:
        self.layers = LayersDesk(desk)
        super().__init__(settings, desk)

    def _wire(self) -> None:
        asks = {
            self.picture, self.model, self.references, self.limit, self.target, self.method, self.token, self.explored,
        }  # fmt: skip
        shown = [
            self.alert, self.welcome, self.answer, self.explored, self.about, self.said, self.target, self.method,
            self.strip, self.trouble, self.projection, self.plane, self.freshness.answered,
        ]  # fmt: skip
        menus = {"class": self.target, "method": self.method, "projection": self.projection}
        asked = {"image": self.picture, "model": self.model, "references": (self.references, self.limit)}
        self.freshness.watch(self.verb, asked | menus, tuple(menus))
        runs = self._wire_question(asks, shown)
        changes = self._model_work()
        for name, box in self._menu_boxes().items():
            runs.append(box.input(self.changed(name), [self.explored, box], shown, **changes))
        self._wire_stop([], [self.alert], runs)
        self._wire_model(self.explored)

    def _menu_boxes(self) -> dict[str, Any]:
        """By the names of an answer's choices."""
        return {"target": self.target, "method": self.method, "projection": self.projection}

    # What happens

    def _work(self, given: Updates, account: gr.OAuthToken | None) -> Work:
        question = self._question(given, account, method=read(given, self.method))
        return lambda report: self.layers.answer(question, report)

    def _step(self, answer: Explored, given: Updates) -> Updates:
        return self.drawn(answer, waiting=bool(read(given, self.references)) and not _has_all(answer))

    def _change(self, answer: Explored | None, changes: dict[str, str], who: Visitor, progress: Progress) -> Updates:
        def run() -> Updates:
            known = self._still(answer)
            again = list(self.stops.run(who, lambda report: self._again(known, changes, report), progress))[-1]
            return self.drawn(again, alike=_plane(again) == _plane(known))

        return self._guarded(run, partial(self._back, answer))

    def _again(self, explored: Explored, changes: dict[str, str], report: Progress) -> Iterator[Explored]:
        if "projection" in changes:
            yield self.layers.laid_out(explored, changes["projection"], report)
        else:
            yield self.layers.again(explored, report, **changes)

    def _back(self, answer: Explored | None) -> Updates:
        """The menus as what is shown was asked."""
        shown = answer.choices if answer is not None else {}
        return {self._menu_boxes()[name]: gr.update(value=value) for name, value in shown.items()}

    def stop(self, presses: str, request: gr.Request) -> Updates:
        return self._stopped(presses, KEPT * self.stops.stop(self._who(request), KEPT))

    def _emptied(self) -> Updates:
        return {self.explored: None}

    def opened(self, request: gr.Request) -> Updates:
        """The boxes as the page's address says: ?model=...&references=..."""
        asked = {name: str(value)[:200] for name, value in dict(request.query_params).items()}
        boxes = {"model": self.model, "references": self.references, "class": self.target}
        return {box: asked[name] for name, box in boxes.items() if name in asked} or self._nothing()

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
            self.answer: ANSWERED,
            self.said: bars(strip.prediction, strip.target, explored.plan.repo_id, count=3),
            self.target: gr.update(
                choices=class_choices(strip.prediction.labels, PREDICTED), value=explored.choices["target"]
            ),
            self.method: gr.update(choices=_methods(), value=explored.choices["method"]),
            self.strip: strip_shown(explored),
            self.trouble: alarm(explored.trouble) if explored.trouble else trouble,
            self.projection: gr.update(
                visible=shown_if(explored.shown is not None),
                choices=_projections(),
                value=explored.choices["projection"],
            ),
        }
        if not alike:
            updates[self.plane] = plane_shown(explored)
        if classifier is not None:
            updates[self.about] = status(explored.plan, classifier)
        return updates


def _has_all(explored: Explored) -> bool:
    return explored.shown is not None or bool(explored.trouble)


def _plane(explored: Explored) -> tuple[Any, str]:
    """What the plane shows; the class and the method of the maps do not enter."""
    return explored.shown, explored.choices["projection"]


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
