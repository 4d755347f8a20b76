"""The whole site: its pages, how it is served, and what is made ready once it answers."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from xaihub.curated import STARTER
from xaihub.errors import log_failure
from xaihub.progress import silent
from xaihub.ui.api import add_api
from xaihub.ui.colours import filters
from xaihub.ui.combobox import styles
from xaihub.ui.desk import Desk, Question
from xaihub.ui.memory import few_arenas
from xaihub.ui.page_audit import AuditPage
from xaihub.ui.page_compare import ComparePage
from xaihub.ui.page_explain import ExplainPage
from xaihub.ui.page_layers import LayersPage
from xaihub.ui.page_prototypes import PrototypesPage
from xaihub.ui.page_quiz import QuizPage
from xaihub.ui.settings import Settings, starter_examples
from xaihub.ui.wiring import AT_ONCE

__all__ = ["build", "framed", "launch_options", "serve", "settle"]

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
SCRIPTS = "stream.js", "page.js", "freshness.js"  # of every page
SPARE_THREADS = 60  # beside the questions that wait: those that run, are looked up or refused, uploads, files
WARM_AFTER = 1.0  # seconds after the server answers: importing torch holds the interpreter that serves the first page
HEADER = (
    '<header class="xh-header"><h1>xaihub</h1><p>Paste an image classifier of the Hugging Face Hub, drop in a picture,'
    " see why it answered as it did.</p></header>"
)
PRIVACY = (
    '<footer class="xh-footer">Pictures are used to answer and are deleted from this server within two hours; they and'
    " tokens are never logged. Models run in float32 on this machine; no code of a model repository is run.</footer>"
)


def build(settings: Settings | None = None, desk: Desk | None = None) -> gr.Blocks:
    """The site, not yet served. Imports neither torch nor a client library."""
    settings = settings or Settings.from_environment()
    desk = desk or Desk(settings)
    demo = gr.Blocks(title="xaihub", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True)
    with demo, framed():
        page = ExplainPage(settings, desk)
        add_api(desk)
        boxes = [
            page.model, page.target, page.against, page.method, page.layer, page.references, page.welcome, page.alert,
            page.arrived, page.linked_example,
        ]  # fmt: skip
        demo.load(page.opened, None, boxes, **AT_ONCE)
    settle(demo)
    with demo.route("Compare", "compare"), framed():
        ComparePage(settings, desk).greet(demo)
    settle(demo)
    with demo.route("Layers", "layers"), framed():
        layers = LayersPage(settings, desk)
        boxes = [layers.model, layers.references, layers.target, layers.alert]
        demo.load(layers.opened, None, boxes, **AT_ONCE)
    settle(demo)
    with demo.route("Prototypes", "prototypes"), framed():
        prototypes = PrototypesPage(settings, desk)
        boxes = [prototypes.model, prototypes.references, prototypes.target, prototypes.arrived]
        demo.load(prototypes.opened, None, boxes, **AT_ONCE)
    settle(demo)
    with demo.route("Audit", "audit"), framed():
        audits = AuditPage(settings, desk)
        demo.load(audits.opened, None, [audits.model, audits.dataset, audits.arrived], **AT_ONCE)
    settle(demo)
    with demo.route("Quiz", "quiz"), framed():
        quiz = QuizPage(settings, desk)
        boxes = [quiz.model, quiz.references, quiz.seed, quiz.arrived]
        demo.load(quiz.opened, None, boxes, **AT_ONCE)
    settle(demo)
    demo.queue(max_size=settings.queue + SPARE_THREADS)  # whom no thread has heard yet; turns.py bounds who waits
    demo.xaihub = settings, desk
    return demo


@contextmanager
def framed() -> Iterator[None]:
    """The head with the way to the other pages, what is made inside, and the foot: on every page."""
    gr.HTML(HEADER + filters())
    gr.Navbar(main_page_name="Explain")
    yield
    gr.HTML(PRIVACY)


def settle(demo: gr.Blocks) -> None:
    """After a page: gradio would attach its components' own load events again, to each page that comes later."""
    for block in demo.blocks.values():
        if getattr(block, "load_event_to_attach", None):
            block.load_event_to_attach = None


def launch_options(settings: Settings) -> dict[str, Any]:
    """What `launch` is called with: a stranger's upload is bounded, and nothing is told to anybody."""
    return {
        "theme": theme(),
        "css": (HERE / "style.css").read_text("utf-8") + styles(),
        "head": "".join(f"<script>{(HERE / name).read_text('utf-8')}</script>" for name in SCRIPTS),
        "max_file_size": settings.upload,
        "max_threads": settings.queue + SPARE_THREADS,
        "state_session_capacity": settings.sessions,
        "strict_cors": True,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "footer_links": ["api"],
        "allowed_paths": [],
        "show_error": False,
    }


def theme() -> gr.themes.Base:
    """The machine's own fonts, since fetched ones tell somebody who visits; an accent dark enough under white words."""
    calm = gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="zinc",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return calm.set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
    )


def serve(demo: gr.Blocks, *, share: bool = False) -> None:
    """Serves until it is interrupted; what is slow to import is imported once the page can be had."""
    few_arenas()
    settings, desk = demo.xaihub
    share = share or os.environ.get("GRADIO_SHARE", "").lower() in ("1", "true")
    demo.launch(share=share, prevent_thread_lock=True, **launch_options(settings))
    threading.Thread(target=warm, args=(desk,), daemon=True, name="warm-up").start()
    demo.block_thread()


def warm(desk: Desk, after: float = WARM_AFTER) -> None:
    """Imports what is slow and explains one example with the starter, so that the first visitor's is quick."""
    time.sleep(after)
    try:
        import xaihub.explaining  # noqa: F401

        examples = starter_examples()
        if examples:
            for _ in desk.answer(Question(str(examples[0]), STARTER, STARTER), silent):
                pass
    except Exception:  # noqa: BLE001  the page works without: the first visitor waits instead
        log_failure(logger, "The starter could not be made ready")
