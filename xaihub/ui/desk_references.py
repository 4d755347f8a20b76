"""Which labelled pictures are searched beside an answer, and how they are had."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xaihub.curated import STARTER
from xaihub.errors import XaihubError
from xaihub.progress import Progress, part, until
from xaihub.ui.asking import Asked, Question
from xaihub.ui.settings import Settings
from xaihub.ui.tokens import token_for
from xaihub.ui.turns import lane

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.datasets import LabelledPictures
    from xaihub.embedders import Embedder
    from xaihub.references import ReferenceSet
    from xaihub.ui.desk import Desk

__all__ = ["embed_again", "layer_of", "references_for", "refilled"]


def references_for(desk: "Desk", classifier: "Classifier", question: Question, progress: Progress) -> "ReferenceSet":
    """From the shelf, the Hub or the package; the Hub is asked with this visitor's token before any is given."""
    from xaihub import hub, load_references, open_dataset
    from xaihub.embedders import PIXELS

    name = question.references.strip()
    if name == STARTER:
        return desk.references.get(STARTER) or desk.references.put(STARTER, load_references(STARTER))
    token = token_for("dataset", name, question.token, desk.settings)
    progress(0.0, f"Checking {name}")
    name = hub.clean_repo_id(name)
    repo = hub.look(name, token=token, repo_type="dataset")
    saved = "references.json" in repo.files
    layer, limit = layer_of(classifier), int(question.limit)
    looks = question.looks.strip()
    key: tuple[object, ...] = (name, repo.revision)
    if not saved:  # with an embedder that this visitor may use as well: its vectors say much of it
        embedder = desk.embedder(looks or PIXELS, question.token, part(progress, 0.0, 0.3))
        key = (*key, classifier.name, layer, limit, embedder.name, getattr(embedder, "revision", None))
    known = desk.references.get(key)
    if known is not None:
        return known
    if saved:
        progress(0.1, f"Downloading the references {name}")
        with desk.disk.looking("dataset", name), desk.disk.room_for(repo), lane("fetch"):
            loaded = load_references(name, revision=repo.revision, token=token, local=False)
        return desk.references.put(key, loaded)
    what = f"Embedding {name}"
    with until(desk.settings.embed_seconds, progress, what) as limited, desk.disk.looking("dataset", name):
        pictures = open_dataset(
            name, revision=repo.revision, token=token, local=False, limit=limit, progress=part(limited, 0.3, 0.4)
        )
        return desk.references.put(key, _built(classifier, pictures, embedder, part(limited, 0.4, 1.0)))


def embed_again(desk: "Desk", asked: Asked, limit: int, looks: str, token: str, progress: Progress) -> "ReferenceSet":
    """The pictures of another classifier's references, embedded for the one that was asked."""
    from xaihub.datasets import from_pairs
    from xaihub.embedders import PIXELS

    foreign, query = asked.foreign, asked.query
    assert foreign is not None  # noqa: S101  who calls this has looked
    assert query is not None  # noqa: S101
    step = max(1, len(foreign) // max(1, limit))
    rows = range(0, len(foreign), step)[:limit]  # they lie sorted by class, so a stride takes from each
    embedder = desk.embedder(looks or PIXELS, token, part(progress, 0.0, 0.3))
    seen = embedder.name, getattr(embedder, "revision", None)
    key = (query.classifier.name, layer_of(query.classifier), "again", _content(foreign, rows), *seen)
    known = desk.references.get(key)
    if known is not None:
        return known
    pairs = [(foreign.keys[i], str(foreign.labels[i] or ""), foreign.picture(i)) for i in rows]
    with until(desk.settings.embed_seconds, progress, "Embedding the references") as limited:
        pictures = replace(from_pairs(f"{foreign.made.dataset} (crops)", pairs), public=foreign.made.public)
        return desk.references.put(key, _built(query.classifier, pictures, embedder, part(limited, 0.3, 1.0)))


def refilled(
    settings: Settings, classifier: "Classifier", references: "ReferenceSet", question: Question, progress: Progress
) -> "tuple[ReferenceSet, str]":
    """The references with the pictures that were not published with them, and a sentence on that; "" if none lacks.

    They are filled in with the visitor's own token, so they are for this visitor alone and are never put on the shelf.
    """
    from xaihub.building import filled

    source = references.made.dataset
    try:
        token = token_for("dataset", source, question.token, settings)
        full = filled(references, classifier, token=token, progress=progress)
    except XaihubError as error:
        return references, f"The pictures of {source} are not published with these references. {error}"
    if full is references:
        return references, ""
    return full, f"The pictures are not published with these references: they were read from {source} for you."


def layer_of(classifier: "Classifier") -> str:
    """The target layer's name, or ""."""
    return classifier.target_layer.name if classifier.target_layer else ""


def _content(references: "ReferenceSet", rows: Sequence[int]) -> str:
    """sha256 of the pictures of rows and of what they are called.

    Of the pictures themselves: whoever publishes references can write anybody's names and digests into them.
    """
    made, digest = references.made, hashlib.sha256()
    digest.update(repr((made.dataset, made.public, len(rows))).encode())
    for row in rows:
        digest.update(repr((references.keys[row], references.labels[row])).encode())
        digest.update(hashlib.sha256(references.pictures[row] or b"").digest())
    return digest.hexdigest()


def _built(
    classifier: "Classifier", pictures: "LabelledPictures", embedder: "Embedder", progress: Progress
) -> "ReferenceSet":
    """Embedded twice: as the classifier decides, and by the embedder that was chosen."""
    from xaihub import build_references
    from xaihub.embedders import DEFAULT

    return build_references(classifier, pictures, embedder=[DEFAULT, embedder], progress=progress)
