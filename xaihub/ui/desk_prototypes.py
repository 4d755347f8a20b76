"""From a question about prototypes to what the Prototypes page shows. Knows nothing of gradio, as the desk it uses."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from xaihub.errors import CancelledError, ReferencesError, XaihubError
from xaihub.images import open_picture
from xaihub.progress import Progress, part, until
from xaihub.ui.asking import Question
from xaihub.ui.asking_prototypes import Account, Fired, Kept, Near, Recognised, Step
from xaihub.ui.desk import Desk
from xaihub.ui.desk_references import references_for
from xaihub.ui.shelf import Shelf, classifier_bytes
from xaihub.ui.words import named_class

if TYPE_CHECKING:
    from PIL import Image

    from xaihub.classifier import Classifier
    from xaihub.loading import Plan
    from xaihub.prototype_maps import Looked
    from xaihub.references import ReferenceSet

__all__ = ["RUNNER_UP", "PrototypesDesk"]

RUNNER_UP = "the runner-up"  # a value of the class menu

Thing = TypeVar("Thing")


class PrototypesDesk:
    """Where questions about prototypes are answered; one for the whole app, beside the desk whose models it uses."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        # a network that has left the desk's own shelf may be held by this one alone, so each counts whole
        self.kept: Shelf[Kept] = Shelf(desk.settings.memory_megabytes * 2**20, _bytes)

    def answer(self, question: Question, progress: Progress) -> Iterator[Step]:
        """What is recognised in the picture; then the same once the prototypes' health is known.

        Raises:
            XaihubError: there is nothing that prototypes can be fitted to, in words.
        """
        picture = open_picture(question.picture)
        progress(0.02, f"Checking {question.model}")
        plan = self.desk.look(question.model, question.token)
        classifier = self.desk.classifier(plan, question.token, part(progress, 0.05, 0.3))
        kept, trouble = self._kept(classifier, plan, question, part(progress, 0.3, 0.8))
        recognised = _recognised(kept, plan, picture, {"target": question.target}, trouble)
        self.target(recognised, kept)  # refuses a class that there is not
        yield Step(recognised, kept)
        if kept.looked is not None and kept.health is None:
            yield Step(recognised, self._measured(kept, kept.looked, part(progress, 0.8, 1.0)), measured=True)

    def about(self, recognised: Recognised, target: str) -> Recognised:
        """The same picture, with the sheet of another class: no pass.

        Raises:
            UnknownNameError: the prototypes know no such class.
        """
        again = replace(recognised, choices={"target": target})
        self.target(again, self.of(again))
        return again

    def without(self, recognised: Recognised, prototypes: Sequence[int]) -> Recognised:
        """The same with exactly these prototypes switched off: no pass."""
        there = len(self.of(recognised).made.gallery)
        chosen = sorted({int(place) for place in prototypes})
        if any(not 0 <= place < there for place in chosen):
            raise XaihubError(f"There are only prototypes 0 to {there - 1}, so others cannot be switched off.")
        return replace(recognised, without=tuple(chosen))

    def of(self, recognised: Recognised) -> Kept:
        """What the shelf keeps for an answer.

        Raises:
            XaihubError: it had to leave.
        """
        kept = self.kept.get(recognised.key)
        if kept is None:
            raise XaihubError("These prototypes were put away to make room for others. Press Recognise again.")
        return kept

    def target(self, recognised: Recognised, kept: Kept) -> int:
        """Which class the sheet is of."""
        wanted, labels = recognised.choices["target"], kept.made.labels
        order = recognised.said.probabilities.argsort(kind="stable")[::-1].tolist()
        if wanted == RUNNER_UP and RUNNER_UP not in labels:
            return int(order[1])
        named = named_class(wanted, labels)
        return int(order[0]) if named is None else kept.classifier.class_index(named)

    def account(self, recognised: Recognised, kept: Kept) -> Account:
        """The sheet of the chosen class and every class's probability, with all prototypes and without some."""
        from xaihub.prototype_sheet import sheet

        target, without = self.target(recognised, kept), recognised.without
        whole, left = (sheet(kept.classifier, recognised.reading, target, off) for off in ((), without))
        logits = kept.made.network.head.logits(recognised.reading.scores, without)
        return Account(whole, left, kept.classifier.prediction(logits[0]))

    def fired(self, recognised: Recognised, prototype: int, progress: Progress) -> Fired:
        """Where a prototype fires in the picture, and which of the ways to draw it is the more faithful."""
        import torch

        from xaihub.prototype_firing import COMPARED, deletion_score, fires

        kept = self.of(recognised)
        _check(kept, prototype)
        with until(self.desk.settings.compute_seconds, progress, "The map of where a prototype fires") as limited:
            pixels, generator = recognised.view.pixels, torch.Generator().manual_seed(0)
            maps = {
                how: fires(kept.classifier, pixels, [prototype], how, part(limited, 0.2 * place, 0.2 * place + 0.2))
                for place, how in enumerate(COMPARED)
            }
            by_lot, scores = torch.rand(pixels.shape[2:], generator=generator), []
            for place, heatmap in enumerate([*(found.heatmaps[0] for found in maps.values()), by_lot]):
                limited(0.4 + 0.2 * place, "Greying out the picture part by part")
                scores.append(deletion_score(kept.classifier, pixels, heatmap, prototype))
            return Fired(prototype, maps, dict(zip(maps, scores, strict=False)), scores[-1])

    def near(self, recognised: Recognised, prototype: int) -> tuple[Near, Kept]:
        """The places of the references that are most like a prototype: no pass.

        Raises:
            XaihubError: no references were chosen beside the model's own prototypes.
        """
        from xaihub.prototype_health import nearest_patches

        kept = self.of(recognised)
        _check(kept, prototype)
        if kept.looked is None:
            raise XaihubError(
                "There are no references here whose nearest patches could be shown. Choose some in the box References,"
                " and press Recognise again."
            )
        patches = nearest_patches(kept.classifier, kept.looked, prototype)
        return Near(prototype, patches, tuple(_crop(kept.looked, patch.row) for patch in patches)), kept

    def _kept(self, classifier: "Classifier", plan: "Plan", question: Question, progress: Progress) -> tuple[Kept, str]:
        """From the shelf, if the same was made before; and why there are no references beside it, in words."""
        if classifier.prototypes is None and not question.references.strip():
            raise ReferencesError(
                f"{plan.repo_id} has no prototypes of its own, so some must be fitted to what it predicts, and that"
                " takes pictures. Choose a labelled dataset in the box References."
            )
        trouble = ""
        if question.references.strip():
            try:
                return self._beside(classifier, plan, question, progress), ""
            except CancelledError:
                raise
            except XaihubError as error:
                if classifier.prototypes is None:
                    raise
                trouble = str(error)  # its own prototypes can be shown without any
        key = (plan.repo_id, plan.revision)
        return self.kept.get(key) or self.kept.put(key, Kept(key, classifier, own=True)), trouble

    def _beside(self, classifier: "Classifier", plan: "Plan", question: Question, progress: Progress) -> Kept:
        """With references, which are asked for each time: whoever may not read them is not shown what came of them."""
        from xaihub.prototype_fitting import fit_prototypes
        from xaihub.prototype_maps import look

        limit, own = int(question.limit), classifier.prototypes is not None
        references = references_for(self.desk, classifier, question, part(progress, 0.0, 0.4))
        key = (plan.repo_id, plan.revision, id(references), limit)
        known = self.kept.get(key)
        if known is not None and known.references is references:
            return known
        with until(self.desk.settings.embed_seconds, part(progress, 0.4, 1.0), "Fitting prototypes") as limited:
            looked = look(classifier, _some(references, limit), progress=part(limited, 0.0, 0.6))
            answering = classifier if own else fit_prototypes(classifier, looked, progress=part(limited, 0.6, 1.0))
            return self.kept.put(key, Kept(key, answering, own, looked, references))

    def _measured(self, kept: Kept, looked: "Looked", progress: Progress) -> Kept:
        from xaihub.prototype_health import health

        with until(self.desk.settings.embed_seconds, progress, "Measuring the prototypes' health") as limited:
            return self.kept.put(kept.key, replace(kept, health=health(kept.classifier, looked, progress=limited)))


def _recognised(kept: Kept, plan: "Plan", picture: "Image.Image", choices: dict[str, str], trouble: str) -> Recognised:
    """One pass, for the prototypes and for what the network says without them."""
    from xaihub.prototype_maps import black_box_of, read

    view, below = kept.classifier.transform.view(picture), black_box_of(kept.classifier)
    reading = read(kept.classifier, view.pixels)
    said = kept.classifier.prediction(reading.logits[0])
    black_box = None if below is kept.classifier else below.prediction(below.reading.read(reading.black_box)[0])
    return Recognised(plan, kept.key, view, reading, said, black_box, choices, trouble)


def _some(references: "ReferenceSet", limit: int) -> "ReferenceSet":
    """At most so many of the references, evenly from the predicted classes; without what a search would need."""
    from xaihub.layer_embeddings import rows_of

    if len(references) <= limit:
        return references
    rows = rows_of(references, limit)

    def of(column: Sequence[Thing]) -> tuple[Thing, ...]:
        return tuple(column[row] for row in rows)

    return replace(
        references, spaces={}, indexes={}, logits=references.logits[rows], predicted=references.predicted[rows],
        probability=references.probability[rows], hashes=references.hashes[rows], labels=of(references.labels),
        keys=of(references.keys), digests=of(references.digests), pictures=of(references.pictures),
        sources=of(references.sources) if references.sources else (),
    )  # fmt: skip


def _crop(looked: "Looked", row: int) -> "Image.Image | None":
    try:
        return looked.crop(row)
    except XaihubError:  # it has gone, or is broken, since it was looked at
        return None


def _check(kept: Kept, prototype: int) -> None:
    """Numbers come from the browser."""
    if not 0 <= prototype < len(kept.made.gallery):
        raise XaihubError(f"There are only prototypes 0 to {len(kept.made.gallery) - 1}.")


def _bytes(kept: Kept) -> int:
    maps = 0 if kept.looked is None else kept.looked.maps.numel() * kept.looked.maps.element_size()
    return maps + classifier_bytes(kept.classifier) + sum(len(each.data or b"") for each in kept.made.gallery)
