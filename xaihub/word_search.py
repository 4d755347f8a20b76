"""Searching the references with words, by an embedder that reads as well as it sees."""

from xaihub.errors import ReferencesError, ReferencesMismatchError
from xaihub.hub_embedders import HubEmbedder
from xaihub.references import Neighbour, ReferenceSet

__all__ = ["search_words"]


def search_words(
    references: ReferenceSet, embedder: HubEmbedder, text: str, *, k: int = 6, predicted: int | None = None
) -> list[Neighbour]:
    """The k references that fit the words best, best first.

    The similarity is the cosine of words and picture, small even where they fit (see `HubEmbedder.embed_words`).

    Args:
        embedder: of the network whose space the references have; loaded with words=True.
        predicted: only references of this predicted class.

    Raises:
        ReferencesError: the embedder reads no words, or the references have no space of it.
        ReferencesMismatchError: they have one, but by another revision.
        XaihubError: the text is empty or too long.
    """
    _refuse(references, embedder)
    return references.nearest(embedder.embed_words([text])[0], k, space=embedder.name, predicted=predicted)


def _refuse(references: ReferenceSet, embedder: HubEmbedder) -> None:
    if not embedder.reads_words:
        raise ReferencesError(
            f"{embedder.name} was loaded for pictures only, so no words can be searched with. If it is a CLIP or"
            " SigLIP, load it with words=True; otherwise build references with one that is."
        )
    space = references.spaces.get(embedder.name)
    if space is None:
        raise ReferencesError(
            f"These references were not embedded by {embedder.name}, so words that it reads find nothing in them. They"
            f" have: {', '.join(references.spaces)}. Build them with this embedder as well."
        )
    if space.revision != embedder.revision:
        raise ReferencesMismatchError(
            f"These references were embedded by {embedder.name} at revision {str(space.revision)[:12]}, but the words"
            f" would be read at {str(embedder.revision)[:12]}. Load {embedder.name}@{space.revision} instead."
        )
