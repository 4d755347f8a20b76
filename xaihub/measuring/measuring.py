"""How well a classifier does on labelled pictures: any classifier, any dataset, classes matched by their names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.duplicates import BITS, near_copies, near_pairs
from xaihub.errors import DatasetError
from xaihub.figures import confusion_picture
from xaihub.images import perceptual_hash
from xaihub.measuring.asking import Asked, Shown
from xaihub.measuring.scoring import scores, wilson
from xaihub.progress import Progress, silent
from xaihub.same_content import copies_by_sketch, same_content, sketches, small

__all__ = ["Measured", "Trained", "measure", "metrics_of", "trained_images", "write_json", "write_measured"]


_HELD = {"perceptual_hashes": 16, "content_sketches": 64}  # hex digits of each in training.json
_DIGITS = set("0123456789abcdef")


class _Compared(NamedTuple):
    hashed: int
    small: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Trained:
    """Identifiers of the images that a classifier was trained on.

    Attributes:
        hashes: (M,), perceptual ones, all that older records hold.
        sketches: (M, 4), of their content, or None.
    """

    hashes: Sequence[int] = ()
    sketches: NDArray[np.uint64] | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """What a classifier said of N pictures whose classes are known.

    Attributes:
        keys: of the pictures.
        truth: (N,), true classes, indices of the classifier's labels.
        probabilities: (N, C).
        metrics: what `metrics.json` holds.
    """

    keys: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    metrics: Mapping[str, Any]

    @property
    def in_words(self) -> str:
        """One line for a terminal."""
        return in_words(self.metrics)


def in_words(metrics: Mapping[str, Any]) -> str:
    """One line on the figures of metrics.json, for a terminal."""
    if metrics.get("accuracy") is None:
        return "Nothing unseen was measured: the pictures have no test or validation split."
    low, high = metrics["accuracy_interval"]
    share, interval = f"{metrics['accuracy']:.1%}", f"95 % interval {low:.1%} to {high:.1%}"
    said = f"{share} of {metrics['n']:,} pictures right ({interval})"
    if metrics.get("agreement") is not None:
        said += f", {metrics['agreement']:.1%} as the network it was made from says"
    copies, without = metrics["near_copies_of_training"], metrics["accuracy_without_them"]
    if not copies:
        return said
    rest = f"; {without:.1%} without them" if without is not None else ""
    return f"{said}. {copies:,} of them are, or nearly are, pictures it was trained on{rest}"


def measure(
    classifier: Classifier,
    pictures: LabelledPictures,
    *,
    batch_size: int | None = None,
    trained_on: Trained | None = None,
    black_box: Classifier | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Measured:
    """Every labelled picture is shown to the classifier once; broken ones are left out and counted.

    Args:
        trained_on: what the images are known by that it was trained on, to count near copies of them.
        black_box: the network that a ProtoPNet was trained from, to count how often the two agree; other prototypes
            have it inside.
        seed: of the bootstrap intervals.

    Raises:
        DatasetError: the dataset's classes are not the classifier's, or it has no labelled picture that can be read.
        UnsupportedModelError: the answer to a picture is not finite.
        CancelledError: from `progress`.
    """
    _refuse_other_classes(classifier, pictures)
    keys, truth, compared = [], [], []
    asked, batch = Asked(classifier, black_box), list[Shown]()

    def flush() -> None:
        asked.show(batch)
        batch.clear()

    for key, label, (shown, seen) in pictures.prepared(lambda picture: _seen(asked, picture)):
        if label is None:
            continue
        keys.append(key)
        truth.append(classifier.labels.index(label))
        compared.append(seen)
        batch.append(shown)
        if len(batch) == (batch_size or classifier.batch):
            flush()
            progress(len(keys) / max(1, len(pictures)), f"Measured {len(keys):,} of {len(pictures):,} pictures")
    flush()
    if not keys:
        raise DatasetError(_nothing(pictures))
    classifier.refuse_not_finite(asked.logits, keys)
    probabilities = classifier.probabilities(asked.logits).double().numpy()
    found = np.array(truth, dtype=np.int64)
    copies = None if trained_on is None else _copies(compared, trained_on)
    metrics = metrics_of(keys, found, probabilities, classifier.labels, copies=copies, seed=seed)
    return Measured(tuple(keys), found, probabilities, metrics | asked.agreement | _origin(classifier, pictures))


def metrics_of(
    keys: Sequence[str],
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    labels: Sequence[str],
    *,
    copies: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The figures, the mistakes, most confident first, and what near copies of training pictures make of the accuracy.

    Args:
        copies: (N,), which pictures are near copies of training pictures; None where that is not known.
    """
    right = probabilities.argmax(1) == truth
    wrong = sorted(np.flatnonzero(~right).tolist(), key=lambda i: -probabilities[i].max())
    new = None if copies is None else right[~copies]
    return scores(truth, probabilities, labels, seed=seed) | {
        "mistakes": [_mistake(keys[i], labels, int(truth[i]), probabilities[i]) for i in wrong],
        "near_copies_of_training": None if copies is None else int(copies.sum()),
        "accuracy_without_them": None if new is None or not len(new) else float(new.mean()),
        "accuracy_without_them_interval": None
        if new is None or not len(new)
        else list(wilson(int(new.sum()), len(new))),
    }


def trained_images(training: Mapping[str, Any]) -> Trained | None:
    """Return what a `training.json` holds of the images it was trained on, or None; what is no hash is passed over."""
    hashes, held = (_hex(training.get(name), digits) for name, digits in _HELD.items())
    if hashes is None and held is None:
        return None
    rows = [[int(text[start : start + 16], 16) for start in range(0, 64, 16)] for text in held or ()]
    return Trained([int(text, 16) for text in hashes or ()], np.array(rows, dtype=np.uint64) if rows else None)


def _hex(held: Any, digits: int) -> list[str] | None:
    if not isinstance(held, list):
        return None
    return [text for text in held if isinstance(text, str) and len(text) == digits and set(text) <= _DIGITS]


def _copies(compared: Sequence[_Compared], trained: Trained) -> NDArray[np.bool_] | None:
    """(N,), which images are copies of training images; None where that cannot be told."""
    images = np.stack([each.small for each in compared])
    if trained.sketches is not None:
        return copies_by_sketch(sketches(images), trained.sketches)
    return _by_hash([each.hashed for each in compared], images, trained.hashes)


def _by_hash(hashes: Sequence[int], images: NDArray[np.uint8], others: Sequence[int]) -> NDArray[np.bool_] | None:
    """As `_copies`, by as many different bits as images of other content among these do not have by chance."""
    pairs, found = near_pairs(hashes), np.zeros(len(hashes), dtype=np.bool_)
    same = set(map(tuple, same_content(images).tolist())) if len(pairs) else set()
    unlike = [int(hashes[one] ^ hashes[other]).bit_count() for one, other in pairs.tolist() if (one, other) not in same]
    share = len(hashes) * len(others) / max(1, len(hashes) * (len(hashes) - 1) / 2)
    bits = next((bits for bits in range(BITS, -1, -1) if share * sum(each <= bits for each in unlike) < 1), None)
    if bits is None:
        return None
    found[[mine for mine, _ in near_copies(hashes, others, bits=bits)]] = True
    return found


def _seen(asked: Asked, picture: Image.Image) -> tuple[Shown, _Compared]:
    return asked.prepared(picture), _Compared(perceptual_hash(picture), small(picture))


def _mistake(key: str, labels: Sequence[str], truth: int, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    answer = int(probabilities.argmax())
    return {
        "key": key,
        "label": labels[truth],
        "predicted": labels[answer],
        "probability": float(probabilities[answer]),
    }


def _origin(classifier: Classifier, pictures: LabelledPictures) -> dict[str, Any]:
    return {
        "dataset": pictures.name,
        "dataset_revision": pictures.revision,
        "dataset_config": pictures.config,
        "split": pictures.split,
        "pictures_left_out": len(pictures.skipped),
        "classifier": classifier.repo_id,
        "classifier_revision": classifier.revision,
    }


def _refuse_other_classes(classifier: Classifier, pictures: LabelledPictures) -> None:
    occurring = dict.fromkeys(label for _, label, _ in pictures.sources if label is not None)
    if not occurring:
        raise DatasetError(_nothing(pictures))
    if any(label not in classifier.labels for label in occurring):
        raise DatasetError(
            f"{pictures.name} has the classes {_listed(list(occurring))}, but {classifier.repo_id} answers with"
            f" {_listed(classifier.labels)}. Classes are matched by their names: rename the dataset's, or measure on"
            " pictures of the classifier's own classes."
        )


def _nothing(pictures: LabelledPictures) -> str:
    if pictures.skipped:
        why = next(iter(pictures.skipped.values()))
        return f"None of the {len(pictures)} pictures of {pictures.name} could be read. {why}"
    return (
        f"{pictures.name} has no labels{f' in its split {pictures.split!r}' * bool(pictures.split)}, so nothing can be"
        " measured on it. Name a split that has them."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return f"{shown} and {len(names) - 10:,} more" if len(names) > 10 else shown


def write_measured(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes `metrics.json` and the picture of its confusion matrix."""
    write_json(folder / "metrics.json", metrics)
    if metrics.get("confusion"):
        (folder / "images").mkdir(exist_ok=True)
        confusion = metrics["confusion"]
        title = f"{metrics['n']:,} pictures, {metrics['accuracy']:.1%} right"
        confusion_picture(confusion["matrix"], confusion["labels"], title=title).save(
            folder / "images" / "confusion.png", optimize=True
        )


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Writes records as people can read them, too."""
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
