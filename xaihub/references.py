"""The labelled pictures that are searched: built once for a classifier, saved as a folder, loaded by id.

Rows are kept sorted by the class that the classifier predicts, so a search within a class reads one contiguous slice.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub import hub, notebook
from xaihub.classifier import Classifier
from xaihub.curated import STARTER
from xaihub.errors import PictureError, ReferencesError, ReferencesMismatchError
from xaihub.folders import folder_named, replacing
from xaihub.images import open_picture
from xaihub.loading import STARTER_FOLDER, Limits
from xaihub.reference_card import reference_card
from xaihub.reference_files import FILES, Stored, read, write

__all__ = ["Made", "Neighbour", "ReferenceSet", "load_references"]

_SAME_COSINE, _SAME_BITS = 0.999, 4  # a near duplicate is both: alike to the network, and alike as a picture


@dataclass(frozen=True)
class Made:
    """Who made references, and from what: enough to make them again, and to refuse them beside another classifier."""

    classifier: str
    classifier_revision: str | None
    target_layer: str
    embedder: str
    preprocessing: str
    dataset: str
    dataset_revision: str | None = None
    dataset_config: str | None = None
    dataset_split: str | None = None
    chosen: str = ""
    skipped: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    weights: str = ""  # the classifier's fingerprint: it knows a copy of the same weights elsewhere

    @property
    def in_words(self) -> str:
        at = f"@{self.classifier_revision[:12]}" if self.classifier_revision else ""
        return f"{self.classifier}{at} (layer {self.target_layer}, embedder {self.embedder})"


@dataclass(frozen=True)
class Neighbour:
    """A row that was found, and its cosine similarity to the query."""

    row: int
    similarity: float


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """R labelled pictures with what one classifier makes of them, sorted by predicted class.

    Attributes:
        embeddings: (R, K) float32, each of length one.
        logits: (R, C) float32.
        predicted: (R,) class indices, ascending.
        probability: (R,) of the predicted class.
        labels: (R,) the dataset's own label, or None.
        keys: (R,) which row of the dataset it is.
        digests: (R,) sha256 of the pixels the classifier saw; `hashes` (R,) their perceptual hash.
        pictures: (R,) the crops the classifier saw, encoded; decoded by `picture`.
    """

    made: Made
    class_names: tuple[str, ...]
    embeddings: Tensor
    logits: Tensor
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    labels: tuple[str | None, ...]
    keys: tuple[str, ...]
    digests: tuple[str, ...]
    hashes: NDArray[np.uint64]
    pictures: Sequence[bytes] = field(repr=False)

    def __post_init__(self) -> None:
        # columns first: one query against many rows then runs at the speed of reading them (benchmarks/neighbours.py)
        object.__setattr__(self, "embeddings", self.embeddings.t().contiguous().t())

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"ReferenceSet({len(self):,} pictures of {self.made.dataset}, embedded by {self.made.in_words})"

    def _repr_html_(self) -> str:
        """What a notebook shows: how many pictures of each predicted class, some of them, and who made them."""
        made, most = self.made, sorted(self.slices.items(), key=lambda item: item[1].start - item[1].stop)
        counts = [(self.class_names[c], rows.stop - rows.start) for c, rows in most[:8]]
        rest = f"and {len(most) - 8:,} more classes" if len(most) > 8 else "by predicted class"
        some = [self._figure(rows.start + int(self.probability[rows].argmax())) for _, rows in most[:8]]
        return notebook.card(
            f"<b>{len(self):,} references</b> from {notebook.text(made.dataset)}",
            notebook.bars([(name, f"{n:,}", n / len(self), False) for name, n in counts], rest),
            notebook.row(some),
            notebook.facts(asdict(made), f"embedded by {made.in_words}"),
        )

    def _figure(self, row: int) -> str:
        try:
            return notebook.figure(self.picture(row), f"predicted {self.class_names[self.predicted[row]]}", edge=96)
        except PictureError:  # what others saved may hold anything; the rest is shown all the same
            return ""

    def picture(self, row: int) -> Image.Image:
        """The crop that the classifier saw of a row."""
        return open_picture(self.pictures[row])

    @cached_property
    def slices(self) -> dict[int, slice]:
        """Predicted class -> its rows."""
        classes, starts = np.unique(self.predicted, return_index=True)
        ends = [*starts[1:], len(self)]
        return {int(c): slice(int(a), int(b)) for c, a, b in zip(classes, starts, ends, strict=True)}

    def check(self, classifier: Classifier) -> None:
        """Nothing, if these references belong to the classifier.

        Raises:
            ReferencesMismatchError: they were made by another one, another revision, or at another layer.
        """
        layer = classifier.target_layer.name if classifier.target_layer else ""
        if (self.made.target_layer, self.class_names) != (layer, classifier.labels) or not self._made_by(classifier):
            raise ReferencesMismatchError(
                f"These references were embedded by {self.made.in_words}, but the classifier is"
                f" {classifier.name} (layer {layer})."
                " Distances between the two mean nothing; build references for this classifier instead."
            )

    def _made_by(self, classifier: Classifier) -> bool:
        """By this commit, or by the same weights and preprocessing: a new model card changes the commit, too."""
        made = self.made
        if (made.classifier, made.classifier_revision) == (classifier.repo_id, classifier.revision):
            return True
        alike = made.weights and made.preprocessing == classifier.transform.description
        return bool(alike) and made.weights == classifier.fingerprint

    def nearest(
        self,
        embedding: Tensor,
        k: int,
        *,
        predicted: int | None = None,
        predicted_not: int | None = None,
        leave_out: Sequence[int] | NDArray[np.int64] = (),
    ) -> list[Neighbour]:
        """The k rows with the largest cosine to an embedding (K,), best first; exact.

        Args:
            predicted: only rows of this predicted class. `predicted_not`: only rows of any other class.
            leave_out: rows that are never given.
        """
        query = _unit(embedding)
        columns = self.embeddings.t().numpy()  # (K, R); numpy's product reads it once, torch's twice
        if predicted is not None:
            spans = [self.slices[predicted]] if predicted in self.slices else []
        else:
            spans = [span for label, span in self.slices.items() if label != predicted_not]
        out = set(map(int, leave_out))
        found: list[Neighbour] = []
        for span in _merged(spans):
            similarity = torch.from_numpy(query @ columns[:, span])
            best = torch.topk(similarity, min(k + len(out), len(similarity)))
            rows = (best.indices + span.start).tolist()
            found += [
                Neighbour(row, value) for row, value in zip(rows, best.values.tolist(), strict=True) if row not in out
            ]
        return sorted(found, key=lambda neighbour: (-neighbour.similarity, neighbour.row))[:k]

    def duplicates(self, embedding: Tensor, digest: str, hashed: int) -> NDArray[np.int64]:
        """The rows that are the query itself, or so near a copy that they would explain nothing."""
        same = np.flatnonzero(np.array(self.digests) == digest)
        close = np.flatnonzero(np.bitwise_count(self.hashes ^ np.uint64(hashed)) <= _SAME_BITS)
        near = close[self.embeddings[torch.from_numpy(close)].numpy() @ _unit(embedding) > _SAME_COSINE]
        return np.union1d(same, near).astype(np.int64)

    def save(self, folder: str | Path) -> Path:
        """The folder that now holds the references; written beside its place and moved there at once."""
        with replacing(Path(folder), FILES[0]) as draft:
            self.write(draft)
        return Path(folder)

    def write(self, folder: Path, *, named: str = "", classifier: str | None = None) -> None:
        """Writes the three files into a folder that exists, and a card if it is told what they will be called.

        Args:
            classifier: what the card calls the classifier, if that has been published since under another name.
        """
        columns: dict[str, Sequence[Any]] = {
            "key": self.keys,
            "label": self.labels,
            "predicted": [self.class_names[i] for i in self.predicted],
            "predicted_index": self.predicted.tolist(),
            "probability": self.probability.tolist(),
            "pixels_sha256": self.digests,
            "perceptual_hash": self.hashes.tolist(),
            "image": self.pictures,
        }
        stored = Stored(asdict(self.made), self.class_names, self.embeddings, self.logits, columns)
        write(stored, folder)
        if named:
            counts = {self.class_names[c]: rows.stop - rows.start for c, rows in self.slices.items()}
            made = {**stored.made, "classifier": classifier or stored.made["classifier"]}
            card = reference_card(made, counts, self._agreement(), named)
            (folder / "README.md").write_text(card, "utf-8")

    def _agreement(self) -> dict[str, int]:
        """Of how many rows the label is a class of the classifier, and how many of them it names so."""
        known = [(row, label) for row, label in enumerate(self.labels) if label in self.class_names]
        named = sum(self.class_names[self.predicted[row]] == label for row, label in known)
        return {"labelled": len(known), "named": named}

    @classmethod
    def load(cls, folder: Path, name: str) -> "ReferenceSet":
        """The references that `save` wrote; `name` is what errors call them.

        Raises:
            ReferencesError: there are none, or ones that were changed.
        """
        stored = read(folder, name)
        columns = stored.columns
        try:
            made = Made(**stored.made)
        except TypeError as error:
            raise ReferencesError(f"{name} does not say who made its references ({error}).") from error
        return cls(
            made,
            tuple(stored.classes),
            stored.embeddings,
            stored.logits,
            np.array(columns["predicted_index"], dtype=np.int64),
            np.array(columns["probability"], dtype=np.float32),
            tuple(columns["label"]),
            tuple(columns["key"]),
            tuple(columns["pixels_sha256"]),
            np.array(columns["perceptual_hash"], dtype=np.uint64),
            tuple(columns["image"]),
        )

    def push_to_hub(self, repo_id: str, *, token: hub.Token = None, private: bool = True) -> str:
        """The address of the dataset repository that now holds these references, in one commit."""
        with tempfile.TemporaryDirectory() as temporary:
            self.write(Path(temporary), named=repo_id)
            return hub.publish(
                Path(temporary), repo_id, repo_type="dataset", token=token, public=not private,
                message="Publish references",
            )  # fmt: skip


def load_references(
    repo_id_or_folder: str | Path, *, revision: str | None = None, token: hub.Token = None, local: bool = True
) -> ReferenceSet:
    """References that were saved or published: a folder's, a dataset repository's of the Hub, or the starter's.

    Raises:
        ReferencesError: it holds no references, or ones that were changed.
        HubError: the repository cannot be read.
    """
    name = str(repo_id_or_folder)
    if name == STARTER:
        return ReferenceSet.load(STARTER_FOLDER / "references", name)
    if local and (folder := folder_named(name)):
        return ReferenceSet.load(folder, name)
    repo = hub.look(hub.clean_repo_id(name), revision=revision, token=token, repo_type="dataset")
    if not set(FILES) <= set(repo.files):
        raise ReferencesError(
            f"{name} is a dataset but holds no references (no references.json). It can be embedded here instead."
        )
    size, most = sum(repo.files[file] for file in FILES), Limits.from_environment().size
    if size > most:
        raise ReferencesError(
            f"The references {name} have {size / 2**20:,.0f} MB; this host takes at most {most / 2**20:,.0f} MB."
        )
    return ReferenceSet.load(hub.fetch(repo, FILES, token=token), name)


def _unit(embedding: Tensor) -> NDArray[np.float32]:
    """(K,), of length one."""
    return torch.nn.functional.normalize(embedding.detach().float().cpu().reshape(-1), dim=0).numpy()


def _merged(spans: list[slice]) -> list[slice]:
    """Neighbouring slices as one: "any other class" is then two reads, not one for each class."""
    merged: list[slice] = []
    for span in spans:
        if merged and merged[-1].stop == span.start:
            merged[-1] = slice(merged[-1].start, span.stop)
        else:
            merged.append(span)
    return merged
