"""Six explained pictures for a classifier's card, mistakes among them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.errors import PictureError, TargetLayerError
from xaihub.explaining import explain
from xaihub.figures import Example, examples_sheet
from xaihub.images import blend, open_picture
from xaihub.progress import Progress

__all__ = ["write_examples"]

EXAMPLES = 6


def write_examples(
    folder: Path, classifier: Classifier, pictures: LabelledPictures, metrics: Mapping[str, Any], progress: Progress
) -> str:
    """Draws images/examples.jpg, and says in words what it shows."""
    wrong = [mistake["key"] for mistake in metrics.get("mistakes", ())][: EXAMPLES // 2]
    chosen = _spread(pictures, wrong)
    shown: list[Example] = []
    for done, (key, label, picture) in enumerate(_pictures(chosen)):
        progress(0.9 + 0.1 * done / EXAMPLES, f"Explaining {key}")
        shown.append(_explained(classifier, picture, label))
    if not shown:
        return ""
    (folder / "images").mkdir(exist_ok=True)
    examples_sheet(shown).save(folder / "images" / "examples.jpg", quality=90)
    whose = "Unseen pictures" if metrics else "Pictures it was trained on"
    mistaken = sum(example.label != example.predicted for example in shown)
    looked = "as the network saw them and where it looked (Grad-CAM)" if shown[0].overlay else "as the network saw them"
    return f"{whose}, {looked}; {mistaken or 'none'} of these {len(shown)} {'is' if mistaken == 1 else 'are'} mistaken."


def _spread(pictures: LabelledPictures, first: Sequence[str]) -> LabelledPictures:
    """Those first, then others in turn from each class."""
    by_key = {source[0]: source for source in pictures.sources}
    chosen = [by_key[key] for key in first]
    classes = [[s for s in pictures.sources if s[1] == label and s[0] not in first] for label in pictures.label_names]
    for round_ in range(EXAMPLES):
        chosen += [own[round_ * len(own) // EXAMPLES] for own in classes if round_ < len(own)]
    return replace(pictures, sources=chosen[:EXAMPLES], skipped={})


def _pictures(pictures: LabelledPictures) -> list[tuple[str, str, Any]]:
    return [(row.key, row.label or "", row.picture) for row in pictures]


def _explained(classifier: Classifier, picture: Any, label: str) -> Example:
    try:
        found = explain(classifier, open_picture(picture), ["gradcam"])
    except (TargetLayerError, PictureError):  # no layer shows where: the picture and the names are still an example
        view = classifier.transform.view(picture)
        return Example(view.image, None, label, classifier.predict(picture).label)
    heat = found["gradcam"][0].heatmap if found["gradcam"] else None
    return Example(found.image, None if heat is None else blend(found.image, heat), label, found.prediction.label)
