"""A round of questions, by lot and balanced; and what is shown of one before the guess."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image

from xaihub.classifier import Classifier
from xaihub.errors import ReferencesError
from xaihub.methods import METHODS, Query
from xaihub.preprocessing import View
from xaihub.quiz.pool import Pool
from xaihub.records import Evidence, Prediction
from xaihub.references import ReferenceSet

__all__ = ["SHOWN", "Asked", "Shown", "asked_about", "questions", "shown_for"]

SHOWN = ("gradcam", "twins", "counterfactuals")  # the explanations that a quiz can show
CHOICES = 4  # classes to choose from, at most: more make a test of reading
EXAMPLES = 3  # twins or counterfactuals


@dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
        row: of the pool.
        method: the explanation that is shown, or "".
        choices: class indices, in the order of their names, which tells nothing.
    """

    row: int
    method: str
    choices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Shown:
    """What a question needs: all but `prediction` is seen before the guess.

    Attributes:
        image: the crop that the classifier sees.
        evidence: what the method found, the picture itself under its map or other pictures.
    """

    image: Image.Image
    evidence: tuple[Evidence, ...]
    prediction: Prediction


def questions(pool: Pool, count: int, methods: Sequence[str], *, seed: int) -> tuple[Asked, ...]:
    """So many questions, or one for each picture where there are fewer, in an order by lot.

    Half of them, to one, show no explanation, and the methods share the others. Up to half are about pictures that the
    classifier is wrong about, as far as there are any, and these are shared out in the same way. The classes that it
    names take turns, and no picture comes twice.

    Args:
        methods: names in `SHOWN`; none for a round without explanations.
        seed: another one gives another round.

    Raises:
        ReferencesError: there are too few different pictures, or one class only.
    """
    generator = default_rng(seed)
    wrong, right = _in_turns(pool, generator)
    if len(wrong) + len(right) < 2 or len(pool.class_names) < 2:
        raise ReferencesError(
            f"A quiz needs at least two different pictures and two classes; here are {len(wrong) + len(right)} and"
            f" {len(pool.class_names)}. Choose other references."
        )
    first = wrong[: max(count // 2, count - len(right))]
    rows = (first + right)[:count]
    shown = _conditions(methods, generator)
    asked = [Asked(row, next(shown), _choices(pool, row)) for row in rows]
    return tuple(asked[i] for i in generator.permutation(len(asked)))


def _in_turns(pool: Pool, generator: Generator) -> tuple[list[int], list[int]]:
    """The rows that the classifier is wrong about, and the others: by lot, predicted classes in turns, no copies."""
    order = generator.permutation(len(pool))
    seen: set[object] = set()
    wrong, turns = pool.wrong(), np.zeros(len(pool.class_names), dtype=np.int64)
    ranked: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for row in order.tolist():
        if pool.same[row] in seen:
            continue
        seen.add(pool.same[row])
        ranked[bool(wrong[row])].append((int(turns[pool.predicted[row]]), row))
        turns[pool.predicted[row]] += 1
    each = {kind: [row for _, row in sorted(rows, key=lambda pair: pair[0])] for kind, rows in ranked.items()}
    return each[True], each[False]


def _conditions(methods: Sequence[str], generator: Generator) -> Iterator[str]:
    """Without, with, without, with, for ever; the methods take turns, from one that the lot chose."""
    mixed = [str(name) for name in generator.permutation(sorted(methods))]
    first = bool(generator.integers(2))
    place = 0
    while True:
        pair = ("", mixed[place % len(mixed)]) if mixed else ("", "")
        yield from pair if first else pair[::-1]
        place += 1


def _choices(pool: Pool, row: int) -> tuple[int, ...]:
    """The most probable classes and the dataset's own, in the order of their names."""
    best = np.argsort(-pool.logits[row], kind="stable")[:CHOICES].tolist()
    label = pool.labels[row]
    if label in pool.class_names and (true := pool.class_names.index(str(label))) not in best:
        best[-1] = true
    return tuple(sorted(best, key=lambda index: (pool.class_names[index].casefold(), index)))


def asked_about(pool: Pool, asked: Sequence[Asked]) -> tuple[int, int, int]:
    """How many of the questions show no explanation, how many one, and about how many the classifier is wrong."""
    wrong = pool.wrong()
    without = sum(not each.method for each in asked)
    return without, len(asked) - without, int(sum(wrong[each.row] for each in asked))


def shown_for(classifier: Classifier, references: ReferenceSet, pool: Pool, asked: Asked) -> Shown:
    """The picture of a question, what its method shows of it, and what the classifier says of it."""
    image = pool.picture(asked.row)
    query = Query(classifier, image, references=references, k=EXAMPLES)
    # it is the network's crop already: preprocessing would crop it once more, and it would not be found as a reference
    box = (0.0, 0.0, float(image.width), float(image.height))
    query.__dict__["view"] = View(classifier.transform.pixels_of(image)[None], image, box)
    found = METHODS[asked.method].run(query) if asked.method else ()
    return Shown(image, tuple(found), query.prediction)
