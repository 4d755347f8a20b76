"""What is shown, as frozen records: on the CPU, out of the graph, and saved as JSON, PNG and npy."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xaihub import notebook
from xaihub.errors import UnknownNameError
from xaihub.folders import replacing
from xaihub.images import drawn_over
from xaihub.registry import nearest_name

__all__ = ["Box", "Evidence", "Explanation", "Gain", "Prediction", "Score", "TrustCard"]

Heatmap: TypeAlias = NDArray[np.float32]
Box: TypeAlias = tuple[float, float, float, float]  # left, upper, right, lower, in pixels
Facts: TypeAlias = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, eq=False)  # arrays have no one truth: records are equal to themselves only
class Prediction:
    """What the classifier said: (C,) probabilities with their labels.

    With `softmax` they sum to one and the classes exclude each other; with `sigmoid` each stands for itself.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    activation: Literal["softmax", "sigmoid"] = "softmax"

    @property
    def index(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        return self.labels[self.index]

    @property
    def probability(self) -> float:
        return float(self.probabilities[self.index])

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[i], float(self.probabilities[i])) for i in best]

    def _repr_html_(self) -> str:
        """What a notebook shows: the five most probable classes."""
        return notebook.card(f"<b>{notebook.text(self.label)}</b>, {self.probability:.1%}", self.bars())

    def bars(self, target: int | None = None) -> str:
        """HTML of the five most probable classes, and of the target where it is none of them; the target is bold."""
        best = np.argsort(-self.probabilities, kind="stable")[:5].tolist()
        shown = best if target is None or target in best else [*best, target]
        bold, rest = best[0] if target is None else target, len(self.labels) - len(shown)
        more = f"and {rest:,} more classes. " if rest else ""
        alone = "" if self.activation == "softmax" else "Each class has a probability of its own."
        shares = self.probabilities.tolist()
        rows = [(self.labels[i], f"{shares[i]:.1%}", shares[i], i == bold) for i in shown]
        return notebook.bars(rows, (more + alone).strip())

    @property
    def runner_up(self) -> int:
        """The second most probable class: the question "why this rather than that?" asks about it."""
        return int(np.argsort(-self.probabilities, kind="stable")[1])


@dataclass(frozen=True, eq=False)
class Evidence:
    """One picture shown as a reason. Everything the app draws is one of these.

    Attributes:
        image: what the model saw, as (H, W) pixels.
        caption: the sentence under it.
        score: how strong it is (a similarity, a share); what it means stands in the caption.
        heatmap: (H, W) in [0, 1], aligned with `image`: the positive part over the largest absolute value.
        raw: (h, w), before normalisation and resizing.
        boxes: regions of `image` that carry the reason.
        matches: regions of the explained picture's crop, one for each of `boxes`; none where there is nothing to pair.
        facts: what the caption says, for programs.
    """

    image: Image.Image
    caption: str
    score: float | None = None
    heatmap: Heatmap | None = None
    raw: Heatmap | None = None
    boxes: tuple[Box, ...] = ()
    matches: tuple[Box, ...] = ()
    facts: Facts = field(default_factory=dict)

    @property
    def signed(self) -> Heatmap | None:
        """(H, W) in [-1, 1]: what speaks for the class and what against it; None where the method does not tell.

        The largest size is 1, after the same share of the hottest is cut off as in `heatmap`. Where a place for and one
        against meet, they are mixed here, while in `heatmap` the one against does not count.
        """
        if self.raw is None or not self.facts.get("signed"):
            return None
        raw = Image.fromarray(np.ascontiguousarray(np.nan_to_num(self.raw), dtype=np.float32))
        large = np.asarray(raw.resize(self.image.size, Image.Resampling.BILINEAR), dtype=np.float32)
        sizes = np.abs(large)
        limit = float(np.quantile(sizes, 1 - float(self.facts.get("clip") or 0))) or float(sizes.max())
        return np.clip(large / (limit or 1), -1, 1).astype(np.float32)

    @property
    def overlay(self) -> Image.Image:
        """The image as it is shown: with its heatmap and its boxes over it, if there are any."""
        return drawn_over(self.image, self.heatmap, self.boxes, numbered=bool(self.matches))

    def __repr__(self) -> str:
        return f"Evidence({self.caption!r}, {self.image.width} x {self.image.height} pixels)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture with its heatmap and boxes, and the caption."""
        return self.figure(edge=notebook.LARGE)

    def figure(self, heading: str = "", edge: int = notebook.SMALL) -> str:
        """HTML of the same, as large as asked for."""
        return notebook.figure(
            self.image, self.caption, heading=heading, heatmap=self.heatmap, boxes=self.boxes, edge=edge
        )


class Gain(NamedTuple):
    """By how much a method is better than a baseline, picture by picture: above 0 is better, whichever way is up."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """One row of an evaluation: how one method did on one metric, beside its baselines.

    Attributes:
        value: the mean over the pictures, with its 95 % bootstrap interval, `low` to `high`.
        count: of how many pictures it is the mean.
        baselines: what each map that knows nothing of the network scored on the same pictures.
        gains: over each baseline. Where the interval reaches zero, the method is no better than that baseline.
        model: the classifier's repository, at `revision`.
        settings: of the metric.
        baseline: whether the method itself is one of the maps that know nothing.
    """

    method: str
    metric: str
    value: float
    low: float
    high: float
    count: int
    higher_is_better: bool
    baselines: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, Gain] = field(default_factory=dict)
    category: str = ""
    model: str = ""
    revision: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    baseline: bool = False

    def beats(self, baseline: str) -> bool:
        """Whether the gain's whole interval lies above zero."""
        return baseline in self.gains and self.gains[baseline].low > 0

    @property
    def no_better_than(self) -> tuple[str, ...]:
        """The baselines that it does not beat."""
        return tuple(name for name in self.gains if not self.beats(name))


class TrustCard(Protocol):
    """Interface of a trust card that an explanation can keep."""

    @property
    def method(self) -> str: ...

    def as_record(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one picture was answered as it was: `explanation["gradcam"][0].heatmap`.

    Attributes:
        image: exactly the crop that the model saw.
        original: the picture that was given, upright.
        crop: where the crop lies on the original, in its pixels; beyond its edges where the model saw padding.
        target: the class that every method explains.
        evidence: method -> what it shows, best first.
        notes: method -> sentences on what it left out, or why it shows nothing.
        provenance: model, revision, layer, preprocessing, versions.
        trust: method -> how far its map can be relied on, for the maps that were checked; see `with_trust`.
    """

    image: Image.Image
    original: Image.Image
    crop: Box
    prediction: Prediction
    target: int
    evidence: Mapping[str, tuple[Evidence, ...]]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    trust: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __getitem__(self, method: str) -> tuple[Evidence, ...]:
        if method in self.evidence:
            return self.evidence[method]
        known = ", ".join(self.evidence) or "none"
        why = " ".join(self.notes.get(method, ())) or nearest_name(method, list(self.evidence)).strip()
        raise UnknownNameError(f"This explanation holds no {method!r}. It holds: {known}. {why}".strip())

    def __iter__(self) -> Iterator[str]:
        return iter(self.evidence)

    def __contains__(self, method: object) -> bool:
        return method in self.evidence

    def __repr__(self) -> str:
        shown = ", ".join(f"{method} ({len(evidence)})" for method, evidence in self.evidence.items())
        return f"Explanation({self.prediction.label!r} at {self.prediction.probability:.1%}; {shown or 'no evidence'})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, the prediction, what each method found or left out, and who made it."""
        made = self.provenance
        alone = [shown[0].figure(method) for method, shown in self.evidence.items() if len(shown) == 1]
        several = [
            notebook.row([evidence.figure() for evidence in shown], method)
            for method, shown in self.evidence.items()
            if len(shown) > 1
        ]
        saw = notebook.figure(self.image, "What the classifier saw.", edge=notebook.LARGE)
        revision = f" at {str(made['revision'])[:12]}" if made.get("revision") else ""
        told = [f"{method}: {card['sentence']}" for method, card in self.trust.items()]
        told += [f"{method}: {line}" for method, lines in self.notes.items() for line in lines]
        title = f"Why <b>{notebook.text(self.target_label)}</b>?"
        if self.target != self.prediction.index:
            title += f" (The classifier says {notebook.text(self.prediction.label)}.)"
        return notebook.card(
            title,
            notebook.row([saw, self.prediction.bars(self.target)]),
            *[notebook.row(alone[i : i + notebook.MOST_FIGURES]) for i in range(0, len(alone), notebook.MOST_FIGURES)],
            *several,
            notebook.notes(told),
            notebook.facts(made, f"{made.get('model', 'your own network')}{revision}, layer {made.get('layer')}"),
        )

    @property
    def target_label(self) -> str:
        return self.prediction.labels[self.target]

    def on_original(self, evidence: Evidence, *, signed: bool = False) -> Heatmap:
        """(H, W) the evidence's heatmap, or its signed map, on the original: zero where the model never looked."""
        values = evidence.signed if signed else evidence.heatmap
        if values is None:
            raise ValueError(f"This evidence has no {'signed map' if signed else 'heatmap'}.")
        return _place(values, self.crop, self.original.size)

    def with_trust(self, card: "TrustCard") -> "Explanation":
        """Return the same with the trust card of one of its maps: `explanation.with_trust(trust(query, "gradcam"))`."""
        return replace(self, trust={**self.trust, card.method: card.as_record()})

    def save(self, folder: str | Path) -> Path:
        """The folder that now holds `explanation.json`, the images as PNG and the maps as npy.

        Of each piece of evidence `gradcam.png` is what is shown: the image with its heatmap and boxes; beside it stand
        `gradcam-image.png`, the image alone, and `gradcam-query.png`, the explained image with the boxes that match.
        The trust cards stand in `explanation.json`, and in words in `trust.txt`.

        It is written beside its final place and moved there at once, so no reader sees half of it.
        A folder that is already there is replaced only if it holds an explanation.
        """
        folder = Path(folder)
        with replacing(folder, "explanation.json") as draft:
            self._write(draft)
        return folder

    def _write(self, folder: Path) -> None:
        self.image.save(folder / "image.png")
        self.original.save(folder / "original.png")
        shown = {method: _write_evidence(folder, method, found, self.image) for method, found in self.evidence.items()}
        if self.trust:
            (folder / "trust.txt").write_text("\n\n".join(card["text"] for card in self.trust.values()) + "\n", "utf-8")
        record = {
            "format": 1,
            "prediction": {
                "label": self.prediction.label,
                "probability": self.prediction.probability,
                "activation": self.prediction.activation,
                "classes": [
                    {"label": label, "probability": float(probability)}
                    for label, probability in zip(self.prediction.labels, self.prediction.probabilities, strict=True)
                ],
            },
            "target": {"index": self.target, "label": self.target_label},
            "crop": list(self.crop),
            "evidence": shown,
            "notes": {name: list(lines) for name, lines in self.notes.items()},
            "provenance": dict(self.provenance),
            "trust": {method: dict(card) for method, card in self.trust.items()},
        }
        text = json.dumps(_plain(record), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "explanation.json").write_text(text, "utf-8")


_ENDS = (".png", "-image.png", "-query.png", "-heatmap.npy", "-raw.npy")


def _write_evidence(folder: Path, method: str, shown: tuple[Evidence, ...], query: Image.Image) -> list[dict[str, Any]]:
    """Return what `explanation.json` says of a method's evidence, once its files are written."""
    rows = []
    for rank, evidence in enumerate(shown):
        name = re.sub(r"[^\w.-]", "-", f"{method}-{rank}" if len(shown) > 1 else method)
        while any((folder / f"{name}{end}").exists() for end in _ENDS):  # a method may be called "original"
            name += "-"
        drawn = {"overlay": evidence.overlay}
        if evidence.heatmap is not None or evidence.boxes:
            drawn["image"] = evidence.image
        if evidence.matches:
            drawn["query"] = drawn_over(query, boxes=evidence.matches, numbered=True)
        files = {kind: f"{name}.png" if kind == "overlay" else f"{name}-{kind}.png" for kind in drawn}
        for kind, image in drawn.items():
            image.save(folder / files[kind])
        files.setdefault("image", files["overlay"])
        for kind, values in (("heatmap", evidence.heatmap), ("raw", evidence.raw)):
            if values is not None:
                files[kind] = f"{name}-{kind}.npy"
                np.save(folder / files[kind], values, allow_pickle=False)
        rows.append(
            {
                "caption": evidence.caption,
                "score": evidence.score,
                "boxes": [list(box) for box in evidence.boxes],
                "matches": [list(box) for box in evidence.matches],
                "facts": dict(evidence.facts),
                "files": files,
            }
        )
    return rows


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers of numpy as Python's, and null for those that are none."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _place(heatmap: Heatmap, crop: Box, size: tuple[int, int]) -> Heatmap:
    """The map resampled so that its corners fall on the crop's, in a picture of (width, height), bilinear."""
    width, height = size
    left, upper, right, lower = crop
    heatmap = _no_finer(heatmap, abs(right - left), abs(lower - upper))
    rows, columns = heatmap.shape
    x = (np.arange(width) + 0.5 - left) * columns / (right - left) - 0.5
    y = (np.arange(height) + 0.5 - upper) * rows / (lower - upper) - 0.5
    inside = (abs(y - (rows - 1) / 2) <= rows / 2)[:, None] & (abs(x - (columns - 1) / 2) <= columns / 2)[None, :]
    across = _blend_axis(heatmap, np.clip(x, 0, columns - 1), axis=1)
    return np.where(inside, _blend_axis(across, np.clip(y, 0, rows - 1), axis=0), 0).astype(np.float32)


def _no_finer(heatmap: Heatmap, width: float, height: float) -> Heatmap:
    """The map with at most a value for each pixel: between the pixels of a small picture, heat would be lost."""
    rows, columns = heatmap.shape
    size = min(columns, math.ceil(width)), min(rows, math.ceil(height))
    if size == (columns, rows):
        return heatmap
    image = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def _blend_axis(values: Heatmap, place: NDArray[np.float64], axis: int) -> Heatmap:
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (place - low).astype(np.float32)  # doubles of a whole photograph would be big
    share = share.reshape((-1, 1) if axis == 0 else (1, -1))
    return np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
