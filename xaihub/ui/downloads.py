"""Files to take along: the evidence, and references that were embedded here."""

import csv
import io
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradio.processing_utils import save_bytes_to_cache

from xaihub.errors import XaihubError
from xaihub.ui.desk import Asked
from xaihub.ui.desk_compare import Compared
from xaihub.ui.desk_trust import with_card

if TYPE_CHECKING:
    from xaihub.records import Explanation
    from xaihub.ui.desk_audit import Audited

__all__ = ["audit_zip", "comparison_zip", "evidence_zip", "references_zip"]


def evidence_zip(asked: Asked, cache: str) -> str:
    """The path of a zip of `explanation.save`, trust card included, in gradio's own cache, which is emptied by age."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = with_card(asked).save(Path(temporary) / "explanation")
        return save_bytes_to_cache(_zipped(folder), "xaihub-explanation.zip", cache)


def comparison_zip(compared: Compared, cache: str) -> str:
    """The path of a zip of the maps, a folder for each model and class, and of how alike they are as a table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "comparison"
        for name, explanation in _by_class(compared).items():
            explanation.save(folder / name)
        titles = [compared.cells[i].title for i in compared.maps]
        with (folder / "rank-correlation.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["", *titles])
            table.writerows([title, *line] for title, line in zip(titles, compared.alike.tolist(), strict=False))
        return save_bytes_to_cache(_zipped(folder), "xaihub-comparison.zip", cache)


def _by_class(compared: Compared) -> "dict[str, Explanation]":
    """One explanation for each model and class, with all its maps."""
    merged: dict[str, Explanation] = {}
    for cell in compared.cells:
        model = next(i for i, one in enumerate(compared.asked) if one.explanation.original is cell.explanation.original)
        name = f"model-{model + 1}-class-{cell.explanation.target}"
        known = merged.get(name, cell.explanation)
        notes = {**known.notes, cell.method: cell.shown.notes}
        merged[name] = replace(known, evidence={**known.evidence, cell.method: cell.shown.evidence}, notes=notes)
    return merged


def audit_zip(audited: "Audited", cache: str) -> str:
    """The path of a zip of the report that opens offline, and of its figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = audited.report.save(Path(temporary) / "audit")
        return save_bytes_to_cache(_zipped(folder), "xaihub-audit.zip", cache)


def references_zip(asked: Asked, cache: str) -> str:
    """The path of a zip of the references' folder; unpacked, `load_references` reads it."""
    if asked.whole is None:
        raise XaihubError("There are no references beside this answer.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.whole.save(Path(temporary) / "references")
        return save_bytes_to_cache(_zipped(folder), "xaihub-references.zip", cache)


def _zipped(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(folder.name) / file.relative_to(folder))
    return stream.getvalue()
