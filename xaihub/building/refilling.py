"""Pictures that were not published with their references, read again from the dataset by whoever may read it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from xaihub import hub
from xaihub.building.embedding import encode
from xaihub.classifier import Classifier
from xaihub.datasets import Get, open_dataset
from xaihub.datasets.reading import BUFFER, LARGE
from xaihub.errors import ReferencesError
from xaihub.images import open_picture, perceptual_hash, pixel_digest
from xaihub.progress import Progress, silent
from xaihub.references import ReferenceSet

__all__ = ["filled", "reference_pictures"]

_KEPT = 256  # crops in memory: a page shows a dozen
_SAME_BITS = 4  # see references: of a perceptual hash, the differences of one picture resized twice


def filled(
    references: ReferenceSet, classifier: Classifier, *, token: hub.Token = None, progress: Progress = silent
) -> ReferenceSet:
    """The references with their pictures; the same ones if they have them, or if nobody can have them again.

    Raises:
        HubError: this visitor may not read the dataset, or the Hub does not answer.
        DatasetError: it cannot be read any more.
    """
    if not len(references) or references.pictures[0] is not None or references.made.dataset_revision is None:
        return references
    return replace(references, pictures=reference_pictures(references, classifier, token=token, progress=progress))


def reference_pictures(
    references: ReferenceSet, classifier: Classifier, *, token: hub.Token = None, progress: Progress = silent
) -> Sequence[bytes]:
    """(R,) the crops that the classifier saw, encoded; each is read from the source dataset when it is asked for.

    To ask for one raises ReferencesError where it is no longer the picture that was embedded.

    Raises:
        ReferencesError: the pictures did not come from the Hub.
        HubError: this visitor may not read the dataset, or the Hub does not answer.
        DatasetError: it cannot be read any more.
    """
    made = references.made
    if made.dataset_revision is None:
        raise ReferencesError(
            f"The pictures of {made.dataset} are not from the Hub, so they cannot be read again. Build the references"
            " anew from the pictures."
        )
    limit = None
    if references.keys[0].startswith("row "):  # then keys count what was taken from the beginning
        limit = len(references) + made.skipped
    elif LARGE in made.chosen:  # all rows up to the last that was taken
        limit = max(BUFFER, 1 + max(int(key.rsplit("/", 1)[-1]) for key in references.keys))
    rows = open_dataset(
        made.dataset, config=made.dataset_config, split=made.dataset_split, revision=made.dataset_revision,
        label_column="", limit=limit, token=token, local=False, progress=progress,
    )  # fmt: skip
    return _Refilled(references, classifier, {key: get for key, _, get in rows.sources})


class _Refilled(Sequence[bytes]):
    """Crops made again from the dataset's rows."""

    def __init__(self, references: ReferenceSet, classifier: Classifier, sources: Mapping[str, Get]) -> None:
        self._references, self._classifier, self._sources = references, classifier, sources
        self._made = lru_cache(_KEPT)(self._make)

    def __len__(self) -> int:
        return len(self._references)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self._made(range(len(self))[row])

    def __iter__(self) -> Iterator[bytes]:
        return map(self._make, range(len(self)))

    def _make(self, row: int) -> bytes:
        key, made = self._references.keys[row], self._references.made
        if key not in self._sources:
            raise ReferencesError(f"{made.dataset} has no row {key} at {made.dataset_revision}. Build references anew.")
        transform = self._classifier.transform
        image = transform.picture_of(transform(open_picture(self._sources[key]())))
        if pixel_digest(image) != self._references.digests[row]:
            # another version of a resizing library gives other last digits, which is the same picture
            bits = perceptual_hash(image) ^ int(self._references.hashes[row])
            if bits.bit_count() > _SAME_BITS:
                raise ReferencesError(
                    f"Row {key} of {made.dataset} is not the picture that was embedded. Build the references anew."
                )
        return encode(image)
