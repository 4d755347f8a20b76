"""The Audit page: what a dataset gives away, whether a classifier goes by it, and each mistake with its reasons."""

import logging
from collections.abc import Iterator
from typing import Any

import gradio as gr

from xaihub.errors import CancelledError, XaihubError, log_failure
from xaihub.ui.asking import Asked
from xaihub.ui.boxes import ANSWERED, UNANSWERED
from xaihub.ui.desk import Desk
from xaihub.ui.desk_audit import AuditDesk, Audited, AuditQuestion
from xaihub.ui.downloads import audit_zip
from xaihub.ui.drawing_audit import explained_shown, report_shown
from xaihub.ui.layout_audit import MOST_PICTURES, TO_EXPLAINED, AuditLayout
from xaihub.ui.page import KEPT, Page, Work
from xaihub.ui.settings import Settings
from xaihub.ui.stopping import EndedError
from xaihub.ui.wiring import AT_ONCE, PRIVATE, TO_ANSWER, Updates, progress_bar, read, text, token_of
from xaihub.ui.words import BROKEN, alarm, note, status

__all__ = ["AuditPage"]

logger = logging.getLogger(__name__)


class AuditPage(Page, AuditLayout):
    """The page, and what happens when its boxes are used."""

    kept_is = "This audit is"

    def __init__(self, settings: Settings, desk: Desk) -> None:
        self.audits = AuditDesk(desk)
        super().__init__(settings, desk)

    def _wire(self) -> None:
        asks = {self.dataset, self.limit, self.model, self.token}
        shown = [self.alert, self.welcome, self.answer, self.audited, self.about, self.report, self.explained]
        shown.append(self.freshness.answered)
        self.freshness.watch(self.verb, {"dataset": (self.dataset, self.limit), "model": self.model})
        asked = self.go.click(self._once(self.run), asks, shown, **self._model_work())
        asked.then(None, js=TO_ANSWER, **PRIVATE)
        work = self._model_work() | {"show_progress_on": [self.explaining]}
        why = [self.explained, self.alert]
        explaining = self.report.select(self._once(self.explain), [self.audited, self.token], why, **work)
        explaining.then(None, js=TO_EXPLAINED, **PRIVATE)
        self._wire_stop([], [self.alert], [asked, explaining])
        self._wire_looking([self.model, self.token], [self.about, self.alert])
        for box in (self.model, self.dataset):
            box.input(self.clear, [self.audited, self.model, self.dataset], shown, **AT_ONCE)
        self._wire_download(self.keep, audit_zip, self.audited)

    # What happens

    def _lacking(self, given: Updates) -> str:
        return "" if read(given, self.dataset) else "There is no dataset yet. Choose one, or paste its id on the Hub."

    def _work(self, given: Updates, account: gr.OAuthToken | None) -> Work:
        limit = max(1, min(MOST_PICTURES, int(given[self.limit])))  # a request need not come from the slider
        token = token_of(given[self.token], account)
        question = AuditQuestion(read(given, self.model), read(given, self.dataset), limit, token)
        return lambda report: self.audits.answer(question, report)

    def _step(self, answer: Audited, _given: Updates) -> Updates:
        updates: Updates = {
            self.audited: answer,
            self.welcome: gr.update(visible=False),
            self.answer: ANSWERED,
            self.report: report_shown(answer.report),
            self.explained: "",
        }
        classifier = self.desk.loaded(answer.plan) if answer.plan is not None else None
        if answer.plan is not None and classifier is not None:
            updates[self.about] = status(answer.plan, classifier)
        return updates

    def explain(
        self,
        audited: Audited | None,
        token: str | None,
        chosen: gr.SelectData,
        request: gr.Request,
        account: gr.OAuthToken | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> Iterator[Updates]:
        """Why the classifier answered so on the picture that was clicked; its key comes from the browser."""
        key, mine = str(chosen.value)[:500], token_of(token, account)
        yield {self.alert: "", self.explained: ""}
        try:
            known = self._still(audited)
            label = next((case.label for case in known.report.cases if case.key == key), "")
            steps = self.stops.run(self._who(request), self._explaining(known, key, mine), progress_bar(progress))
            for place, asked in enumerate(steps):
                yield {self.explained: explained_shown(asked, key, label, waiting=not place)}
        except EndedError as error:
            yield self._last_words(error)
        except CancelledError as error:
            yield {self.alert: note(str(error))}
        except XaihubError as error:
            yield {self.alert: alarm(str(error))}
        except Exception:  # noqa: BLE001  it is logged
            log_failure(logger, "An explanation beside an audit failed")
            yield {self.alert: alarm(BROKEN)}

    def _explaining(self, known: Audited, key: str, token: str) -> Work:
        def work(report: Any) -> Iterator[Asked]:
            return self.audits.explained(known, key, token, report)

        return work

    def clear(self, audited: Audited | None, model: str | None, dataset: str | None) -> Updates:
        """The page without the audit of another dataset or model."""
        if audited is not None:
            was = audited.plan.repo_id if audited.plan is not None else ""
            if (was, audited.dataset) == (text(model), text(dataset)):
                return self._nothing()  # a box that is left by the keyboard reports an input, changed or not
        return {
            self.alert: "",
            self.answer: UNANSWERED,
            self.welcome: gr.update(visible=True, value=self.greeting),
            self.audited: None,
            self.explained: "",
            **self.freshness.gone(),
        }

    def describe(self, model: str | None, token: str | None, account: gr.OAuthToken | None) -> Updates:
        """What the Hub says of a model before it is fetched; nothing of none."""
        if not text(model):
            return {self.about: note("Without a model the dataset alone is audited."), self.alert: ""}
        return self._looked(model, token_of(token, account))

    def stop(self, presses: str, request: gr.Request) -> Updates:
        return self._stopped(presses, KEPT * self.stops.stop(self._who(request), KEPT))

    def opened(self, request: gr.Request) -> Updates:
        """The boxes as the page's address says: ?model=...&data=..."""
        asked = {name: str(value)[:200] for name, value in dict(request.query_params).items()}
        boxes = {"model": self.model, "data": self.dataset}
        return {box: asked[name] for name, box in boxes.items() if name in asked} | {self.arrived: "yes"}
