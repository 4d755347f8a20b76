"""The Prototypes page: this looks like that, with points that add up and prototypes that can be switched off."""

from collections.abc import Iterator
from functools import partial

import gradio as gr

from xaihub.progress import Progress
from xaihub.ui.asking_prototypes import Fired, Kept, Recognised, Step
from xaihub.ui.boxes import ANSWERED
from xaihub.ui.desk import Desk
from xaihub.ui.desk_prototypes import PrototypesDesk
from xaihub.ui.drawing_patches import gallery_shown, near_shown
from xaihub.ui.drawing_prototypes import account_shown, fired_shown, made_shown, said_shown, sheet_shown
from xaihub.ui.layout_prototypes import FIRST, OPEN_FIRED, OPEN_NEAR, PrototypesLayout
from xaihub.ui.menus import class_choices
from xaihub.ui.page import KEPT, ChangingPage, Work
from xaihub.ui.settings import Settings
from xaihub.ui.turns import Visitor
from xaihub.ui.wiring import LOOKS, PRIVATE, Updates, progress_bar
from xaihub.ui.words import alarm, note, status

__all__ = ["PrototypesPage"]


class PrototypesPage(ChangingPage, PrototypesLayout):
    """The page, and what happens when its boxes are used."""

    def __init__(self, settings: Settings, desk: Desk) -> None:
        self.prototypes = PrototypesDesk(desk)
        super().__init__(settings, desk)

    def _wire(self) -> None:
        asks = {self.picture, self.model, self.references, self.limit, self.target, self.token, self.recognised}
        shown = [
            self.alert, self.welcome, self.answer, self.recognised, self.about, self.said, self.what, self.target,
            self.sheet, self.account, self.fired, self.trouble, self.gallery, self.near, self.freshness.answered,
        ]  # fmt: skip
        references = self.references, self.limit
        asked = {"image": self.picture, "model": self.model, "references": references, "class": self.target}
        self.freshness.watch(self.verb, asked, ("class",))
        runs = self._wire_question(asks, shown)
        # neither needs the network, so they wait for no run of it
        quick = LOOKS | {"trigger_mode": "always_last"}
        self.target.input(self.changed("target"), [self.recognised, self.target], shown, **quick)
        switched = [self.alert, self.recognised, self.account]
        self.sheet.input(self.switch, [self.recognised], switched, **quick)
        firing = self.sheet.select(self.fire, [self.recognised], [self.alert, self.fired], **self._model_work())
        firing.then(None, js=OPEN_FIRED, **PRIVATE)
        found = self.gallery.select(self.neighbours, [self.recognised], [self.alert, self.near], **quick)
        found.then(None, js=OPEN_NEAR, **PRIVATE)
        self._wire_stop([], [self.alert, self.trouble], [*runs, firing])
        self._wire_model(self.recognised)

    # What happens

    def _work(self, given: Updates, account: gr.OAuthToken | None) -> Work:
        question = self._question(given, account)
        return lambda report: self.prototypes.answer(question, report)

    def _step(self, answer: Step, _given: Updates) -> Updates:
        recognised, kept = answer.recognised, answer.kept
        if not answer.measured:
            return self.drawn(recognised, kept)
        # meanwhile the visitor may have switched prototypes off: nothing else is drawn anew
        return {self.gallery: gallery_shown(kept, self.prototypes.target(recognised, kept)), self.trouble: ""}

    def _change(
        self, answer: Recognised | None, changes: dict[str, str], _who: Visitor, _progress: Progress
    ) -> Updates:
        def run() -> Updates:
            known = self._still(answer)
            again = self.prototypes.about(known, **changes)
            return self._sheet_drawn(again, self.prototypes.of(again))

        return self._guarded(run, partial(self._back, answer))

    def _back(self, answer: Recognised | None) -> Updates:
        """The menu as what is shown was asked."""
        return {} if answer is None else {self.target: gr.update(value=answer.choices["target"])}

    def switch(self, answer: Recognised | None, pressed: gr.SelectData) -> Updates:
        """The total without the prototypes that are switched off; the sheet itself stays, and with it the focus."""

        def run() -> Updates:
            off = [int(place) for place in str(pressed.value)[:10_000].split() if place.isdecimal()]
            again = self.prototypes.without(self._still(answer), off)
            kept = self.prototypes.of(again)
            shown = account_shown(kept, again, self.prototypes.account(again, kept))
            return {self.recognised: again, self.account: shown}

        return self._guarded(run)

    def fire(
        self,
        answer: Recognised | None,
        chosen: gr.SelectData,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Updates:
        """The window that says where a prototype fires."""

        def work(report: Progress) -> Iterator[Fired]:
            yield self.prototypes.fired(self._still(answer), int(chosen.index), report)

        def run() -> Updates:
            fired = list(self.stops.run(self._who(request), work, progress_bar(progress)))[-1]
            known = self._still(answer)
            return {self.fired: fired_shown(self.prototypes.of(known), known, fired)}

        return {self.fired: ""} | self._guarded(run)

    def neighbours(self, answer: Recognised | None, chosen: gr.SelectData) -> Updates:
        """The window with a prototype's nearest patches."""

        def run() -> Updates:
            near, kept = self.prototypes.near(self._still(answer), int(chosen.index))
            return {self.near: near_shown(kept, near)}

        return {self.near: ""} | self._guarded(run)

    def stop(self, presses: str, request: gr.Request) -> Updates:
        return self._stopped(presses, KEPT * self.stops.stop(self._who(request), KEPT)) | {self.trouble: ""}

    def _emptied(self) -> Updates:
        return {self.recognised: None, self.target: gr.update(value="")}

    def opened(self, request: gr.Request) -> Updates:
        """The boxes as the page's address says: ?model=...&references=...&class=..."""
        asked = {name: str(value)[:200] for name, value in dict(request.query_params).items()}
        boxes = {"model": self.model, "references": self.references, "class": self.target}
        return {box: asked[name] for name, box in boxes.items() if name in asked} | {self.arrived: "yes"}

    def drawn(self, recognised: Recognised, kept: Kept) -> Updates:
        """Every part of the page that shows an answer."""
        classifier = self.desk.loaded(recognised.plan)
        waiting = kept.looked is not None and kept.health is None
        trouble = note("The prototypes' health is being measured.") if waiting else ""
        updates: Updates = {  # the alert is not among them: Stop may have been pressed just now, and says so there
            self.welcome: gr.update(visible=False),
            self.answer: ANSWERED,
            self.what: made_shown(kept, recognised),
            self.fired: "",
            self.near: "",
            self.trouble: alarm(recognised.trouble) if recognised.trouble else trouble,
            **self._sheet_drawn(recognised, kept),
        }
        if classifier is not None:
            updates[self.about] = status(recognised.plan, classifier)
        return updates

    def _sheet_drawn(self, recognised: Recognised, kept: Kept) -> Updates:
        """What the chosen class changes."""
        account = self.prototypes.account(recognised, kept)
        return {
            self.recognised: recognised,
            self.said: said_shown(kept, recognised, account.whole.target),
            self.target: gr.update(choices=class_choices(kept.made.labels, *FIRST), value=recognised.choices["target"]),
            self.sheet: sheet_shown(kept, recognised, account),
            self.account: account_shown(kept, recognised, account),
            self.gallery: gallery_shown(kept, account.whole.target),
        }
