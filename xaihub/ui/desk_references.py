"""Which labelled pictures are searched beside an answer, and how they are had."""

from typing import TYPE_CHECKING

from xaihub.curated import STARTER
from xaihub.progress import Progress, part, until
from xaihub.ui.asking import Question
from xaihub.ui.tokens import token_for

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.references import ReferenceSet
    from xaihub.ui.desk import Desk

__all__ = ["layer_of", "references_for"]


def references_for(desk: "Desk", classifier: "Classifier", question: Question, progress: Progress) -> "ReferenceSet":
    """From the shelf, the Hub or the package; the Hub is asked with this visitor's token before any is given."""
    from xaihub import build_references, hub, load_references, open_dataset

    name = question.references.strip()
    if name == STARTER:
        return desk.references.get(STARTER) or desk.references.put(STARTER, load_references(STARTER))
    token = token_for(name, question.token, desk.settings)
    progress(0.0, f"Checking {name}")
    name = hub.clean_repo_id(name)
    repo = hub.look(name, token=token, repo_type="dataset")
    saved = "references.json" in repo.files
    layer, limit = layer_of(classifier), int(question.limit)
    key = (name, repo.revision) if saved else (name, repo.revision, classifier.name, layer, limit)
    known = desk.references.get(key)
    if known is not None:
        return known
    if saved:
        progress(0.1, f"Downloading the references {name}")
        return desk.references.put(key, load_references(name, revision=repo.revision, token=token, local=False))
    limited = until(desk.settings.embed_seconds, progress, f"Embedding {name}")
    pictures = open_dataset(
        name, revision=repo.revision, token=token, local=False, limit=limit, progress=part(limited, 0.0, 0.2)
    )
    return desk.references.put(key, build_references(classifier, pictures, progress=part(limited, 0.2, 1.0)))


def layer_of(classifier: "Classifier") -> str:
    """The target layer's name, or ""."""
    return classifier.target_layer.name if classifier.target_layer else ""
