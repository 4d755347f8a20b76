"""A picture box that leaves decoding to the library."""

import base64
import binascii
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

__all__ = ["picture_box"]


def picture_box(**settings: Any) -> gr.Image:
    """gr.Image whose handler gets the file as it was sent.

    gr.Image opens the file itself before a handler runs: a text file named .png or a huge picture then ends in its own
    error, and 16-bit, CMYK and transparent pictures arrive already damaged. The method is replaced on the box, because
    a subclass makes gradio write a .pyi file beside this one.
    """
    box = gr.Image(type="filepath", image_mode=None, **settings)
    box.preprocess = partial(_as_sent, Path(box.GRADIO_CACHE))
    return box


def _as_sent(uploads: Path, payload: Any) -> str | bytes | None:
    """The path of the uploaded file, or the bytes that came in a `data:` address.

    gradio vets the path only of what calls itself a file (`meta`), and a request need not: a path that is not among the
    uploads would be any file of the host, so it is no picture.
    """
    if payload is None:
        return None
    if payload.url and payload.url.startswith("data:"):
        try:
            return base64.b64decode(payload.url.partition(",")[2], validate=True)
        except binascii.Error:
            return b""  # an empty picture has its own sentence
    file = Path(str(payload.path or "")).resolve()
    return str(file) if file.is_relative_to(uploads.resolve()) and file.is_file() else None
