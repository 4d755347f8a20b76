"""The front door: a classifier and a picture in, an Explanation out."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from xaihub import cams  # noqa: F401  what is imported registers its methods; menus keep this order

# isort: split
from xaihub import perturbations  # noqa: F401

# isort: split
from xaihub import attention, attributions, discriminant, neighbours  # noqa: F401

# isort: split
from xaihub import lookalikes  # noqa: F401

# isort: split
from xaihub import counterfactuals  # noqa: F401

# isort: split
from xaihub import prototype_sheet  # noqa: F401
from xaihub.classifier import Classifier
from xaihub.embedders import Embedder
from xaihub.errors import ReferencesError, TargetLayerError
from xaihub.hooks import recording
from xaihub.images import READ_AS, PictureLike, open_picture
from xaihub.methods import FEW_PASSES, METHODS, Query
from xaihub.records import Evidence, Explanation
from xaihub.references import ReferenceSet

__all__ = ["explain", "explain_query", "provenance"]


@recording
def explain(
    classifier: Classifier,
    image: PictureLike,
    methods: Sequence[str] | str | None = None,
    *,
    target: str | int | None = None,
    references: ReferenceSet | None = None,
    k: int = 3,
    embedders: Sequence[Embedder] = (),
) -> Explanation:
    """Why the classifier answered as it did on one picture; one forward pass serves the prediction and every map.

    Args:
        image: a path, bytes, a PIL image, an array (H, W, 3) or a tensor (3, H, W).
        methods: names in `METHODS`; None for every one whose needs are met and that costs a few passes at most. Those
            that need many (Score-CAM, RISE, ...) run when they are named.
        target: the class to explain, by label or index; None for the predicted one.
        references: where twins and counterfactuals are searched.
        k: how many of each.
        embedders: those that the references were built with and that no name leads to, such as
            `load_embedder(folder)`; taken where name and revision are those of the references.

    Raises:
        PictureError: the picture cannot be read.
        UnknownNameError: there is no such method, or no such class.
        ReferencesMismatchError: the references belong to another classifier.
        TargetLayerError: a method that was asked for needs a layer that shows where, or attention, and there is none.
    """
    query = Query(classifier, open_picture(image), target=target, references=references, k=k, embedders=embedders)
    return explain_query(query, [methods] if isinstance(methods, str) else methods)


@recording
def explain_query(query: Query, methods: Sequence[str] | None = None) -> Explanation:
    """The Explanation of a query that may have been asked before: what it has computed is not computed again."""
    names = list(methods) if methods is not None else _affordable(query.classifier)
    evidence: dict[str, tuple[Evidence, ...]] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    for name in names:
        missing = METHODS[name].missing(query.classifier, query.references)
        if missing:
            if methods is not None:
                lacks = "references" in METHODS[name].needs and missing != query.classifier.no_layer
                error = ReferencesError if lacks else TargetLayerError
                raise error(f"{name} cannot run here. {missing}")
            reasons[name] = (missing,)
            continue
        try:
            evidence[name] = METHODS[name].run(query)
        except TargetLayerError as error:  # found out only when it ran; who did not name it still gets the others
            if methods is not None:
                raise
            reasons[name] = (str(error),)
    notes = reasons | {name: tuple(sentences) for name, sentences in query.notes.items()}
    view = query.view
    return Explanation(
        view.image,
        query.picture,
        view.crop,
        query.prediction,
        query.target,
        evidence,
        notes,
        provenance(query.classifier) | _read_as(query),
    )


def _read_as(query: Query) -> dict[str, object]:
    """Return how the values of the picture were read, where that had to be assumed."""
    sentence = query.picture.info.get(READ_AS)
    return {READ_AS: sentence, "notices": [*query.classifier.notices, sentence]} if sentence else {}


def _affordable(classifier: Classifier) -> list[str]:
    return [name for name, method in METHODS.items() if method.cost(classifier) <= FEW_PASSES]


def provenance(classifier: Classifier) -> dict[str, object]:
    """What it takes to make an explanation again."""
    layer = classifier.target_layer
    return {
        "model": classifier.repo_id,
        "revision": classifier.revision,
        "layer": layer.name if layer else None,
        "layer chosen because": layer.reason if layer else classifier.no_layer,
        "layer proof": layer.proof if layer else None,
        "grid": list(layer.grid) if layer else None,
        "preprocessing": classifier.transform.description,
        "notices": list(classifier.notices),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            name: _version(name) for name in ("xaihub", "torch", "torchvision", "transformers", "timm", "pillow")
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
