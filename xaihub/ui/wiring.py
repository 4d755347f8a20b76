"""What the pages' events share."""

from typing import Any

import gradio as gr

from xaihub.progress import Progress

__all__ = ["MODEL_WORK", "TO_ANSWER", "progress_bar"]

MODEL_WORK: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}  # one classifier at a time
TO_ANSWER = """() => {
  if (window.innerWidth >= 900) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const shown = [...document.querySelectorAll("#xh-alert, #xh-results")].find((part) => part.offsetHeight > 0);
  shown?.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}"""


def progress_bar(progress: gr.Progress) -> Progress:
    """The library's progress on gradio's bar."""
    return lambda share, stage: progress(share, desc=stage)
