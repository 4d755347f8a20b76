"""The labelled pictures that are searched: built once for a classifier, saved as a folder, loaded by id.

Rows are kept sorted by the class that the classifier predicts, so a search within a class reads one contiguous slice.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from xaihub.embedders import EMBEDDERS, PIXELS
from xaihub.errors import PictureError, ReferencesError, ReferencesMismatchError, UnknownNameError, XaihubError
from xaihub.folders import folder_named, replacing
from xaihub.images import open_picture
from xaihub.index import ExactIndex, VectorIndex, Where
from xaihub.loading import STARTER_FOLDER, Limits
from xaihub.reference_card import reference_card
from xaihub.reference_files import FILES, Made, Stored, files_of, made_of, read, rows_with, write
from xaihub.same_content import same_content, small
from xaihub.spaces import Space

__all__ = ["Made", "Neighbour", "ReferenceSet", "load_references"]

_LOOKED_AT = 64  # crops that are decoded to see whether they are a query's copies
_SAME_COSINE, _SAME_BITS = 0.999, 4  # a near duplicate is both: alike to the network, and alike as a picture


@dataclass(frozen=True)
class Neighbour:
    """A row that was found, and its cosine similarity to the query."""

    row: int
    similarity: float


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """R labelled pictures with what one classifier makes of them, sorted by predicted class.

    Attributes:
        spaces: what each embedder makes of them; the first is the one that is searched unless another is named.
        logits: (R, C) float32.
        predicted: (R,) class indices, ascending.
        probability: (R,) of the predicted class.
        labels: (R,) the dataset's own label, or None.
        keys: (R,) which row of the dataset it is; `sources` (R,) the address of that row, or None.
        digests: (R,) sha256 of the pixels the classifier saw; `hashes` (R,) their perceptual hash.
        pictures: (R,) the crops the classifier saw, encoded, or None where they may not be passed on; decoded by
            `picture`.
        fidelity: how far neighbours agree with the classifier, as `fidelity.measure` found; empty where nobody did.
    """

    made: Made
    class_names: tuple[str, ...]
    spaces: Mapping[str, Space]
    logits: Tensor
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    labels: Sequence[str | None]
    keys: Sequence[str]
    digests: Sequence[str]
    hashes: NDArray[np.uint64]
    pictures: Sequence[bytes | None] = field(repr=False)
    sources: Sequence[str | None] = field(default=(), repr=False)
    fidelity: Mapping[str, Any] = field(default_factory=dict, repr=False)
    indexes: Mapping[str, VectorIndex] = field(default_factory=dict, repr=False)  # in place of the exact one

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
        except (PictureError, ReferencesError):  # what others saved may hold anything, or no pictures
            return ""

    def picture(self, row: int) -> Image.Image:
        """The crop that the classifier saw of a row.

        Raises:
            ReferencesError: the pictures are not published with these references.
        """
        data = self.pictures[row]
        if data is None:
            raise ReferencesError(
                f"The picture of {self.keys[row]} is not kept with these references, since {self.made.dataset} is not"
                " public. Who may read that dataset can fill it in with `reference_pictures`."
            )
        return open_picture(data)

    @property
    def embeddings(self) -> Tensor:
        """(R, K) float32, each of length one, of the space that is searched unless another is named."""
        return self.space().vectors.float()

    def space(self, name: str | None = None) -> Space:
        """A space by the name of its embedder; the first if none is given.

        Raises:
            UnknownNameError: these references have no such space.
        """
        if name is None:
            return next(iter(self.spaces.values()))
        if name not in self.spaces:
            raise UnknownNameError(
                f"These references have no embeddings by {name!r}. They have: {', '.join(self.spaces)}."
            )
        return self.spaces[name]

    def index(self, space: str | None = None) -> VectorIndex:
        """What searches a space: the exact index, unless another one was given."""
        name = self.space(space).name
        return self.indexes.get(name) or self._exact(name)

    def _exact(self, name: str) -> ExactIndex:
        if name not in self._made_indexes:
            self._made_indexes[name] = ExactIndex(self.spaces[name].vectors, self.predicted)
        return self._made_indexes[name]

    @cached_property
    def _made_indexes(self) -> dict[str, ExactIndex]:
        return {}

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
        space: str | None = None,
        weights: Tensor | None = None,
        predicted: int | None = None,
        predicted_not: int | None = None,
        leave_out: Sequence[int] | NDArray[np.int64] = (),
    ) -> list[Neighbour]:
        """The k rows with the largest cosine to an embedding (K,), best first.

        Args:
            space: in which space the embedding lies; the first if not given.
            weights: (K,), what each dimension counts on both sides, as `Embedder.weigh` gives them.
            predicted: only rows of this predicted class. `predicted_not`: only rows of any other class.
            leave_out: rows that are never given.
        """
        where = Where(predicted, predicted_not, leave_out)
        query = embedding.detach().float().cpu().reshape(1, -1)
        rows, similarities = self.index(space).search(query, k, where, weights=weights)
        found = zip(rows[0].tolist(), similarities[0].tolist(), strict=True)
        return [Neighbour(row, similarity) for row, similarity in found if row >= 0]

    def duplicates(
        self, embedding: Tensor, digest: str, hashed: int, image: Callable[[], Image.Image] | None = None
    ) -> NDArray[np.int64]:
        """The rows that are the query itself, or so near a copy that they would explain nothing.

        Args:
            image: gives the query's crop; rows must then show its content too, if their own crop is there.
        """
        same = rows_with(self.digests, digest)
        close = np.flatnonzero(np.bitwise_count(self.hashes ^ np.uint64(hashed)) <= _SAME_BITS)
        near = close[(self.index().vectors(close) @ _unit(embedding)).numpy() > _SAME_COSINE]
        near = np.setdiff1d(near, same)
        if image is not None and len(near):
            near = self._same_content(near, image())
        return np.union1d(same, near).astype(np.int64)

    def _same_content(self, rows: NDArray[np.int64], image: Image.Image) -> NDArray[np.int64]:
        """Those of the rows that show the image's content, or whose picture is not there to tell; the first few."""
        missing, shown, there = list[int](), list[int](), [small(image)]
        for row in rows[:_LOOKED_AT].tolist():
            try:
                there.append(small(self.picture(row)))
                shown.append(row)
            except XaihubError:  # it is not kept, or damaged: the hash and the vector are all there is
                missing.append(row)
        copies = [shown[place - 1] for _, place in same_content(np.stack(there), 1)]
        return np.array([*missing, *copies], dtype=np.int64)

    def save(self, folder: str | Path) -> Path:
        """The folder that now holds the references; written beside its place and moved there at once."""
        with replacing(Path(folder), FILES[0]) as draft:
            self.write(draft)
        return Path(folder)

    def write(self, folder: Path, *, named: str = "", classifier: str | None = None) -> None:
        """Writes the files into a folder that exists, and a card if it is told what they will be called.

        Args:
            named: what they will be published as; pictures of a dataset that is not public then stay out, and so does
                the space of their colours, from which small ones could be drawn again.
            classifier: what the card calls the classifier, if that has been published since under another name.

        Raises:
            ReferencesError: there is nothing but such a space, or a space has a name that could not be read again.
        """
        shown = self.made.public or not named
        spaces = self.spaces if shown else self._without_pixels()
        made = replace(self.made, embedder=next(iter(spaces))) if len(spaces) < len(self.spaces) else self.made
        columns: dict[str, Any] = {
            "key": self.keys,
            "label": self.labels,
            "predicted_index": self.predicted,
            "probability": self.probability,
            "pixels_sha256": self.digests,
            "perceptual_hash": self.hashes,
            "source": self.sources or (None,) * len(self),
            "image": self.pictures if shown else (None,) * len(self),
        }
        fidelity = {name: figures for name, figures in self.fidelity.items() if name in spaces}
        stored = Stored(asdict(made), self.class_names, spaces, self.logits, columns, fidelity)
        record = write(stored, folder)
        if named:
            counts = {self.class_names[c]: rows.stop - rows.start for c, rows in self.slices.items()}
            card = reference_card(
                {**stored.made, "classifier": classifier or made.classifier}, counts, self._agreement(), named, record,
                left_out=[name for name in self.spaces if name not in spaces],
            )  # fmt: skip
            (folder / "README.md").write_text(card, "utf-8")

    def _without_pixels(self) -> Mapping[str, Space]:
        kept = {name: space for name, space in self.spaces.items() if name != PIXELS}
        if not kept:
            raise ReferencesError(
                f"These references have no embeddings but {PIXELS!r}, from which small pictures could be drawn, and"
                f" {self.made.dataset} is not public. Build them with another embedder, such as 'contribution'."
            )
        return kept

    def _agreement(self) -> dict[str, int]:
        """Of how many rows the label is a class of the classifier, and how many of them it names so."""
        names = frozenset(self.class_names)
        known = [(row, label) for row, label in enumerate(self.labels) if label in names]
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
            made = made_of(stored.made)
        except TypeError as error:
            raise ReferencesError(f"{name} does not say who made its references ({error}).") from error
        odd = [each.name for each in stored.spaces.values() if each.name in EMBEDDERS and each.revision is not None]
        if odd:
            raise ReferencesError(f"{name} gives a revision to {odd[0]!r}, which is not from the Hub. Build it again.")
        return cls(
            made,
            tuple(stored.classes),
            stored.spaces,
            stored.logits,
            np.asarray(columns["predicted_index"], dtype=np.int64),
            np.asarray(columns["probability"], dtype=np.float32),
            columns["label"],
            columns["key"],
            columns["pixels_sha256"],
            np.asarray(columns["perceptual_hash"], dtype=np.uint64),
            columns["image"],
            columns["source"],
            stored.fidelity or {},
        )

    def push_to_hub(self, repo_id: str, *, token: hub.Token = None, private: bool = True) -> str:
        """The address of the dataset repository that now holds these references, in one commit."""
        with tempfile.TemporaryDirectory() as temporary:
            self.write(Path(temporary), named=repo_id)
            return hub.publish(
                Path(temporary), repo_id, repo_type="dataset", token=token, public=not private,
                message="Publish references", owned=("embeddings-*.safetensors",),
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
    repo = hub.look(hub.clean_repo_id(name), revision=revision, token=token, repo_type="dataset", local=local)
    if not set(FILES) <= set(repo.files):
        raise ReferencesError(
            f"{name} is a dataset but holds no references (no references.json). It can be embedded here instead."
        )
    _small_enough(repo, FILES)
    files = files_of(hub.fetch(repo, FILES[:1], token=token), name, repo.files)
    _small_enough(repo, files)
    return ReferenceSet.load(hub.fetch(repo, files, token=token), name)


def _small_enough(repo: hub.Repo, files: Sequence[str]) -> None:
    size, most = sum(repo.files[file] for file in files), Limits.from_environment().size
    if size > most:
        raise ReferencesError(
            f"The references {repo.repo_id} have {size / 2**20:,.0f} MB; this host takes at most"
            f" {most / 2**20:,.0f} MB."
        )


def _unit(embedding: Tensor) -> Tensor:
    """(K,), of length one."""
    return torch.nn.functional.normalize(embedding.detach().float().cpu().reshape(-1), dim=0)
