"""Methods x metrics x pictures, in pieces that are kept: what was measured once is not measured again."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.errors import DatasetError
from xaihub.evaluating.judging import Judge, drawn, example_values, grid_of
from xaihub.evaluating.pieces import Pieces, code_of, key_of, of_classifier
from xaihub.evaluating.plans import Metrics, Plan, plan, refuse_seed
from xaihub.evaluating.questions import Batch, Images, Mask, Target, batches, named_pictures
from xaihub.methods import METHODS
from xaihub.metrics import BASELINES, METRICS
from xaihub.passes import slices
from xaihub.progress import Pace, Progress, silent
from xaihub.references import ReferenceSet

__all__ = ["Measured", "measured"]

Floats: TypeAlias = NDArray[np.float64]

_CURVE = " curve"  # what the key of a metric's curve ends in


@dataclass(frozen=True, eq=False)
class Measured:
    """What each metric said of each method, picture by picture: N questions.

    Attributes:
        numbers, keys, digests: (N,) of the pictures; see `Batch`.
        targets, predicted: (N,) class indices. `probability`: (N,) of the target.
        values: (metric, method) -> (N,); a method may be a baseline.
        curves: likewise -> (N, points), of metrics that are areas under a curve.
        skipped: picture -> why it could not be read.
    """

    classifier: Classifier
    plan: Plan
    numbers: NDArray[np.int64]
    keys: tuple[str, ...]
    digests: tuple[str, ...]
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: Floats
    values: Mapping[tuple[str, ...], Floats] = field(repr=False)
    curves: Mapping[tuple[str, ...], Floats] = field(repr=False)
    skipped: Mapping[str, str] = field(default_factory=dict)


def measured(
    classifier: Classifier,
    images: Images,
    methods: Sequence[str] | None = None,
    metrics: Metrics = None,
    *,
    targets: Sequence[Target] | None = None,
    masks: Sequence[Mask] | None = None,
    references: ReferenceSet | None = None,
    folder: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Measured:
    """Every method and every baseline through every metric, on the same pictures; see `evaluate`."""
    refuse_seed(seed)
    asked = plan(classifier, methods, metrics, masks=masks is not None, references=references)
    pictures = named_pictures(images, progress)
    if not len(pictures):
        raise DatasetError(f"There are no pictures in {pictures.name}, so nothing can be measured. Give at least one.")
    work = _Work(classifier, asked, Pieces(folder), references, seed, len(pictures), progress)
    for batch in batches(classifier, pictures, targets=targets, masks=masks):
        work.add(batch)
    if not work.batches:
        given = f"{len(pictures):,} picture{'s' * (len(pictures) != 1)}"
        why = next(iter(pictures.skipped.values()))
        raise DatasetError(f"Of {given} in {pictures.name} none could be read, so nothing can be measured. {why}")
    return work.measured(dict(pictures.skipped))


class _Work:
    """What was found so far, batch by batch; of the pictures no more than one batch is held."""

    def __init__(
        self,
        classifier: Classifier,
        asked: Plan,
        pieces: Pieces,
        references: ReferenceSet | None,
        seed: int,
        count: int,
        progress: Progress,
    ) -> None:
        self.classifier, self.plan, self.pieces, self.references, self.seed = (
            classifier,
            asked,
            pieces,
            references,
            seed,
        )
        self.progress, self.count, self.pace = progress, count, Pace()
        self.batches: list[Batch] = []
        self.answers: list[dict[str, list[Any]]] = []
        self.found: dict[tuple[str, ...], list[Floats]] = defaultdict(list)
        self.curves: dict[tuple[str, ...], list[Floats]] = defaultdict(list)
        self.done, self.left = 0, ""
        self._classifier = of_classifier(classifier)
        self._references = None if references is None else _identity(references)

    def add(self, batch: Batch) -> None:
        """Measures what is not known yet of some pictures more, a file for each method."""
        answers = self._answers(batch)
        targets = torch.tensor(answers["target"])
        judge = Judge(self.classifier, batch, targets, self.plan.methods, seed=self.seed)
        for subject in self.plan.subjects:
            self._tell(batch, subject)
            self._judge(batch, judge, subject)
        for method in self.plan.examples:
            self._tell(batch, method)
            self._show(batch, targets, method)
        self.done += len(batch)
        self.answers.append(answers)
        self.batches.append(_without_pixels(batch))

    def measured(self, skipped: Mapping[str, str]) -> Measured:
        """All of it, with the metrics that follow from others."""
        self.progress(1.0, f"Measured {self.done:,} pictures")
        values = {key: np.concatenate(parts) for key, parts in self.found.items()}
        for metric in self.plan.metrics:
            combine, parts = METRICS[metric].combine, METRICS[metric].parts
            for subject in self.plan.subjects if combine is not None and self.plan.follows(metric) else ():
                known = [torch.from_numpy(values[part, subject]) for part in parts]
                values[metric, subject] = combine(*known).numpy()  # type: ignore[misc]
        told = {name: [each for of_batch in self.answers for each in of_batch[name]] for name in self.answers[0]}
        return Measured(
            self.classifier,
            self.plan,
            np.array([number for batch in self.batches for number in batch.numbers]),
            tuple(key for batch in self.batches for key in batch.keys),
            tuple(digest for batch in self.batches for digest in batch.digests),
            np.array(told["target"]),
            np.array(told["predicted"]),
            np.array(told["probability"]),
            values,
            {key: np.concatenate(parts) for key, parts in self.curves.items()},
            skipped,
        )

    def _answers(self, batch: Batch) -> dict[str, list[Any]]:
        """What the classifier says of each picture, and which class is explained."""
        key = self._key(batch, {"answers": 1})
        known = self.pieces.read(key)
        if not known:
            known = _asked(self.classifier, batch)
            self.pieces.write(key, known)
        return known

    def _judge(self, batch: Batch, judge: Judge, subject: str) -> None:
        """One method's maps of a batch through every metric."""
        facts = {"baseline": subject, "grid": grid_of(self.classifier), "seed": self.seed}
        if subject not in BASELINES:
            facts = {"method": subject, "code": code_of(METHODS[subject].run)}
        masks = "" if batch.masks is None else hashlib.sha256(batch.masks.numpy().tobytes()).hexdigest()
        keys = {metric: self.plan.key(metric, masks) for metric in self.plan.measured}
        key = self._key(batch, facts)
        known = self.pieces.read(key)
        missing = [metric for metric in keys if keys[metric] not in known]
        curved = drawn(list(keys), self.plan.settings)
        if any(keys[metric] + _CURVE not in known for metric in curved):  # measured once, but one without the other
            missing = list(dict.fromkeys([*missing, *curved]))
        if missing:
            values, curves = judge.judged(subject, missing, self.plan.settings)
            fresh = {keys[metric]: value.double().tolist() for metric, value in values.items()}
            fresh |= {keys[metric] + _CURVE: curve.double().tolist() for metric, curve in curves.items()}
            known |= fresh
            self.pieces.write(key, known)
            self._measured_one(batch, subject)
        for metric, under in keys.items():
            self.found[metric, subject].append(np.array(known[under], dtype=np.float64))
            if metric in curved:
                self.curves[metric, subject].append(np.array(known[under + _CURVE], dtype=np.float32))

    def _show(self, batch: Batch, targets: Tensor, method: str) -> None:
        """What one method shows of a batch through every metric of such pictures."""
        keys = {metric: self.plan.key(metric) for metric in self.plan.examples[method]}
        code = code_of(METHODS[method].run)
        key = self._key(batch, {"method": method, "code": code, "references": self._references})
        known = self.pieces.read(key)
        missing = [metric for metric in keys if keys[metric] not in known]
        if missing:
            values = example_values(self.classifier, batch, targets, self.references, {method: missing})[method]
            known |= {keys[metric]: value.tolist() for metric, value in values.items()}
            self.pieces.write(key, known)
            self._measured_one(batch, method)
        for metric, under in keys.items():
            self.found[metric, method].append(np.array(known[under], dtype=np.float64))

    def _key(self, batch: Batch, facts: Mapping[str, Any]) -> str:
        return key_of([self._classifier, facts, batch.digests, batch.wanted])

    def _tell(self, batch: Batch, subject: str) -> None:
        """The share that is done and the time that is left; what `progress` raises ends the work."""
        share = self._steps(batch, subject) / max(1, self.count * len(self._kinds))
        name = METHODS[subject].title if subject in METHODS else f"the {subject} map"
        self.progress(share, f"Picture {self.done + 1:,} of {self.count:,}, {name}{self.left}")

    def _measured_one(self, batch: Batch, subject: str) -> None:
        """The time that is left, by the pace of what this run measured itself: what was kept took no time."""
        steps = self.count * len(self._kinds) - self._steps(batch, subject)
        self.left = f": {self.pace.left(max(0, steps // len(batch) - 1))}"

    def _steps(self, batch: Batch, subject: str) -> int:
        """How many maps were judged before these."""
        return self.done * len(self._kinds) + self._kinds.index(subject) * len(batch)

    @property
    def _kinds(self) -> list[str]:
        return [*self.plan.subjects, *self.plan.examples]


def _asked(classifier: Classifier, batch: Batch) -> dict[str, list[Any]]:
    logits = torch.cat([classifier.logits(batch.pixels[some]).cpu() for some in slices(len(batch), classifier.batch)])
    classifier.refuse_not_finite(logits, batch.keys)
    probabilities = classifier.probabilities(logits)
    predicted = logits.argmax(1).tolist()
    targets = [
        max(wanted, key=row.__getitem__) if wanted else best
        for wanted, row, best in zip(batch.wanted, logits.tolist(), predicted, strict=True)
    ]
    held = probabilities.gather(1, torch.tensor(targets)[:, None])[:, 0].double().tolist()
    return {"target": targets, "predicted": predicted, "probability": held}


def _without_pixels(batch: Batch) -> Batch:
    return Batch(batch.numbers, batch.keys, torch.empty(0), batch.digests, batch.wanted, None)


def _identity(references: ReferenceSet) -> str:
    """Digits that change with anything of the references that a search depends on."""
    digest = hashlib.sha256("".join(references.digests).encode())
    digest.update(references.predicted.tobytes())
    return key_of([asdict(references.made), list(references.spaces), digest.hexdigest()])
