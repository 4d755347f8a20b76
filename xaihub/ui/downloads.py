"""Files to take along: the evidence, and references that were embedded here."""

import io
import tempfile
import zipfile
from pathlib import Path

from gradio.processing_utils import save_bytes_to_cache

from xaihub.errors import XaihubError
from xaihub.ui.desk import Asked

__all__ = ["evidence_zip", "references_zip"]


def evidence_zip(asked: Asked, cache: str) -> str:
    """The path of a zip of `explanation.save`, in gradio's own cache, which is emptied by age."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.explanation.save(Path(temporary) / "explanation")
        return save_bytes_to_cache(_zipped(folder), "xaihub-explanation.zip", cache)


def references_zip(asked: Asked, cache: str) -> str:
    """The path of a zip of the references' folder; unpacked, `load_references` reads it."""
    if asked.references is None:
        raise XaihubError("There are no references beside this answer.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.references.save(Path(temporary) / "references")
        return save_bytes_to_cache(_zipped(folder), "xaihub-references.zip", cache)


def _zipped(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(folder.name) / file.relative_to(folder))
    return stream.getvalue()
