"""From a question about the layers to what the Layers page shows. Knows nothing of gradio, as the desk that it uses."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from xaihub.errors import CancelledError, XaihubError
from xaihub.images import open_picture
from xaihub.progress import Progress, part, silent, until
from xaihub.ui.asking import Question
from xaihub.ui.desk import Desk
from xaihub.ui.desk_references import references_for
from xaihub.ui.shelf import Shelf
from xaihub.ui.words import named_class

if TYPE_CHECKING:
    from PIL import Image

    from xaihub.classifier import Classifier
    from xaihub.layer_embeddings import LayerEmbeddings
    from xaihub.loading import Plan
    from xaihub.projections import Plane
    from xaihub.separability import Separability
    from xaihub.stages import Strip
    from xaihub.target_layer import TargetLayer

__all__ = ["Explored", "LayersDesk", "Shown"]

KEPT = 100 * 2**20  # bytes of embeddings: 200 pictures at eight layers are about 3 MB


@dataclass(frozen=True, eq=False)
class Shown:
    """References at every layer, laid out: what the plot and the curve draw.

    Attributes:
        labels, predicted: the dataset's label and the classifier's of each picture.
        probability: of the predicted class.
        similarity: of each layer, (R,) the cosine to the query.
        apart: by "label" and by "prediction", how separable the groups are at each layer; None where nothing can be
            said.
    """

    embedded: "LayerEmbeddings"
    labels: tuple[str | None, ...]
    predicted: tuple[str, ...]
    probability: tuple[float, ...]
    similarity: tuple[tuple[float, ...], ...]
    apart: "dict[str, tuple[Separability | None, ...]]"


@dataclass(frozen=True, eq=False)
class Explored:
    """One answered question. It holds no classifier, so one that has to leave is freed.

    Attributes:
        choices: what was asked: `target` and `method`, and the `projection` that is shown.
        trouble: why there are no references beside it, in words.
        planes: what was laid out already, by projection.
    """

    plan: "Plan"
    picture: "Image.Image"
    layer: "TargetLayer"
    strip: "Strip"
    choices: dict[str, str]
    shown: Shown | None = None
    trouble: str = ""
    planes: "dict[str, list[Plane]]" = field(default_factory=dict)


class LayersDesk:
    """Where questions about layers are answered; one for the whole app, beside the desk whose models it uses."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.embedded: Shelf[LayerEmbeddings] = Shelf(KEPT, _bytes)
        self._stages: WeakKeyDictionary[Any, tuple[TargetLayer, ...]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def answer(self, question: Question, progress: Progress) -> Iterator[Explored]:
        """The strip as soon as it is there, then the same with the references."""
        picture = open_picture(question.picture)
        progress(0.02, f"Checking {question.model}")
        plan = self.desk.look(question.model, question.token)
        classifier = self.desk.classifier(plan, question.token, part(progress, 0.05, 0.4))
        progress(0.4, "Looking through the layers")
        choices = {"target": question.target, "method": question.method, "projection": "pca"}
        explored = self._strip(classifier, plan, picture, choices)
        yield explored
        if question.references.strip():
            yield self._beside(classifier, explored, question, part(progress, 0.5, 1.0))

    def again(self, explored: Explored, progress: Progress = silent, **changes: str) -> Explored:
        """The same picture with another `target` or `method`: one more pass; what is known of the references stays.

        Raises:
            XaihubError: the classifier had to leave, or there is no such class or method.
        """
        classifier = self.desk.loaded(explored.plan)
        if classifier is None:
            raise XaihubError("This model was put away to make room for others. Press Explore again.")
        choices = explored.choices | changes
        with until(self.desk.settings.compute_seconds, progress, "The strip") as limited:
            limited(0.2, "Looking through the layers")
            again = self._strip(classifier, explored.plan, explored.picture, choices)
        return replace(again, shown=explored.shown, trouble=explored.trouble, planes=explored.planes)

    def laid_out(self, explored: Explored, projection: str, progress: Progress = silent) -> Explored:
        """The same with its references in another plane, at every layer.

        Raises:
            XaihubError: it is not known, not installed, or there are too few pictures for it.
        """
        from xaihub.projections import PROJECTIONS, in_step, project

        entry = PROJECTIONS[projection]
        if explored.shown is None:
            return explored
        if projection not in explored.planes:
            with until(self.desk.settings.embed_seconds, progress, entry.title) as limited:
                if entry.module and entry.module not in sys.modules:
                    limited(0.0, f"Loading {entry.package}: the first time takes a while")
                vectors, queries = explored.shown.embedded.vectors, explored.strip.vectors
                planes = []
                for i, (rows, query) in enumerate(zip(vectors, queries, strict=True)):
                    planes.append(project(projection, rows.numpy(), query.numpy()))
                    limited((i + 1) / len(vectors), f"{entry.title} of layer {i + 1} of {len(vectors)}")
            explored = replace(explored, planes=explored.planes | {projection: in_step(planes)})
        return replace(explored, choices=explored.choices | {"projection": projection})

    def stages(self, classifier: "Classifier") -> "tuple[TargetLayer, ...]":
        """The layers that are shown, traced once for each classifier."""
        from xaihub.stages import stages

        with self._lock:
            known = self._stages.get(classifier)
        if known is None:
            known = stages(classifier)
            with self._lock:
                self._stages[classifier] = known
        return known

    def _strip(
        self, classifier: "Classifier", plan: "Plan", picture: "Image.Image", choices: dict[str, str]
    ) -> Explored:
        import xaihub.explaining  # noqa: F401  every method has been registered
        from xaihub.methods import Query
        from xaihub.stages import strip

        layers = self.stages(classifier)  # refuses a classifier without a target layer
        query = Query(classifier, picture, target=named_class(choices["target"], classifier.labels))
        found = strip(query, layers, choices["method"])
        assert classifier.target_layer is not None  # noqa: S101  refused above
        return Explored(plan, picture, classifier.target_layer, found, choices)

    def _beside(self, classifier: "Classifier", explored: Explored, question: Question, progress: Progress) -> Explored:
        """The same with the references, or with the sentence that says why there are none: the strip stays."""
        try:
            embedded = self._embedded(classifier, explored.strip.layers, question, progress)
            progress(0.95, "Measuring how far the classes are apart")
            return self.laid_out(replace(explored, shown=_shown(classifier, embedded, explored.strip)), "pca")
        except CancelledError:
            raise
        except XaihubError as error:
            return replace(explored, trouble=str(error))

    def _embedded(
        self, classifier: "Classifier", layers: "tuple[TargetLayer, ...]", question: Question, progress: Progress
    ) -> "LayerEmbeddings":
        """The references at every layer, from the shelf if they were embedded before; they are asked for each time."""
        from xaihub.layer_embeddings import embed_layers

        references = references_for(self.desk, classifier, question, part(progress, 0.0, 0.4))
        limit = int(question.limit)
        key = (classifier.name, tuple(layer.name for layer in layers), id(references), limit)
        known = self.embedded.get(key)
        if known is not None and known.references is references:
            return known
        with until(self.desk.settings.embed_seconds, part(progress, 0.4, 0.95), "Embedding the references") as limited:
            made = embed_layers(classifier, references, layers, limit=limit, progress=limited)
        return self.embedded.put(key, made)


def _shown(classifier: "Classifier", embedded: "LayerEmbeddings", strip: "Strip") -> Shown:
    from xaihub.separability import separability

    probability, index = classifier.probabilities(embedded.logits).max(1)
    predicted = tuple(classifier.labels[i] for i in index.tolist())
    labels = tuple(embedded.references.labels[row] for row in embedded.rows)
    similarity = tuple(
        tuple((rows @ query).tolist()) for rows, query in zip(embedded.vectors, strip.vectors, strict=True)
    )
    apart = {
        name: tuple(separability(rows.numpy(), groups) for rows in embedded.vectors)
        for name, groups in (("label", labels), ("prediction", predicted))
    }
    return Shown(embedded, labels, predicted, tuple(probability.tolist()), similarity, apart)


def _bytes(embedded: "LayerEmbeddings") -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*embedded.vectors, embedded.logits))
