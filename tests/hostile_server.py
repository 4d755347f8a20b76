"""One server of the app, without its pages, in a process of its own: a question a line in, an answer a line out.

Asked as `{"ask": "explain", "model": ..., "references": ..., "picture": ...}`, with `ask` one of explain, audit and
eye. Answers `{"answered": ...}`, `{"refused": ...}` in the words that a visitor would read, or `{"broken": ...}`.
"""

import json
import os
import sys
import traceback
from typing import Any

from xaihub.errors import XaihubError
from xaihub.progress import silent
from xaihub.ui.desk import Desk, Question
from xaihub.ui.desk_audit import AuditDesk, AuditQuestion
from xaihub.ui.settings import Settings
from xaihub.ui.site import warm

STARTED = "ready"


def answer(desk: Desk, asked: dict[str, Any]) -> dict[str, str]:
    try:
        return {"answered": _answer(desk, asked)}
    except XaihubError as error:
        return {"refused": str(error)}
    except BaseException:  # noqa: BLE001  what a page would call broken
        return {"broken": traceback.format_exc()[-3000:]}


def _answer(desk: Desk, asked: dict[str, Any]) -> str:
    if asked["ask"] == "eye":
        return desk.embedder(asked["model"], "", silent).name
    if asked["ask"] == "audit":
        *_, audited = AuditDesk(desk).answer(AuditQuestion("", asked["references"], 20), silent)
        return audited.report.verdict
    question = Question(asked["picture"], asked["model"], asked.get("references", ""), 20)
    *_, found = desk.answer(question, silent)
    return found.trouble or f"{found.explanation.prediction.label}, {found.explanation.prediction.probability:.3f}"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # whatever a library prints goes elsewhere
    os.dup2(2, 1)
    desk = Desk(Settings())
    warm(desk, 0.0)
    print(json.dumps({"answered": STARTED}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(desk, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
