"""References for a classifier, made from labelled pictures.

embedding.py   a run of pictures through the classifier and all embedders
assembling.py  what the references say of themselves; the key of the work; addresses of rows
refilling.py   pictures that were not published, read again from their dataset

A few thousand pictures are embedded in memory and touch no disk. More go in shards, each written whole, into a folder
that is named by all that the result depends on: the same call goes on from there, and ends with the same bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.building.assembling import assembled, key_of_work
from xaihub.building.embedding import open_lens
from xaihub.building.refilling import filled, reference_pictures
from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures, open_dataset
from xaihub.datasets.splits import Source
from xaihub.downloads import cache_folder
from xaihub.embedders import DEFAULT, Embedder
from xaihub.errors import CancelledError, DatasetError, ReferencesError
from xaihub.fidelity import COUNT, measure
from xaihub.hooks import recording
from xaihub.hub_embedders import load_embedder
from xaihub.loading import load_classifier
from xaihub.progress import Progress, part, silent
from xaihub.references import ReferenceSet
from xaihub.shards import SHARD_ROWS, Embedded, Work

__all__ = ["Building", "Order", "build_references", "filled", "reference_pictures"]

Embedders = str | Embedder | Sequence[str | Embedder]


def build_references(
    classifier: Classifier,
    dataset: LabelledPictures | str | Path,
    *,
    embedder: Embedders = DEFAULT,
    batch_size: int | None = None,
    limit: int | None = None,
    shard_rows: int = SHARD_ROWS,
    resume: bool = True,
    fidelity: bool = True,
    held_out: LabelledPictures | None = None,
    progress: Progress = silent,
    **source: Any,
) -> ReferenceSet:
    """References for a classifier from labelled pictures: a folder of class folders, a Hub dataset, or ones in memory.

    Each picture is opened once and passed once, however many embedders there are.

    Args:
        embedder: what makes two pictures alike, see `load_embedder`; of several the first is the primary one.
        batch_size: pictures at once; `Classifier.batch` if not given.
        limit: how many pictures to take at most, drawn evenly from the classes.
        shard_rows: more pictures than that are embedded in shards of that many, on the disk.
        resume: whether shards that an earlier call left are used.
        fidelity: whether to measure how far neighbours agree with the classifier.
        held_out: pictures that are asked about for that; without any, each reference is, among the others.
        source: further arguments of `open_dataset` (`config`, `split`, `revision`, `token`, `seed`, `layout`,
            `label_column`, `image_column`).

    Raises:
        DatasetError: it has no pictures that can be read.
        TargetLayerError: the classifier has no layer to embed with.
        CancelledError: from `progress`; finished shards are kept, and it says so.
    """
    rows = dataset
    if not isinstance(rows, LabelledPictures):
        rows = open_dataset(rows, limit=limit, progress=progress, **source)
    loaded = embedders_named(embedder, classifier, token=source.get("token"), local=source.get("local", True))
    building = Building(classifier, rows, loaded, batch_size, shard_rows, held_out)
    if not resume:
        building.forget()
    references = building.finished(progress=progress, fidelity=fidelity)
    building.forget()
    return references


def embedders_named(
    wanted: Embedders,
    classifier: Classifier,
    *,
    token: hub.Token = None,
    local: bool = True,
    progress: Progress = silent,
) -> tuple[Embedder, ...]:
    """The embedders, loaded beside the classifier where they are given by name.

    Raises:
        UnknownNameError, HubError, UnsupportedModelError: see `load_embedder`.
    """
    given = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Sequence) else wanted
    loaded = [
        load_embedder(each, token=token, local=local, device=classifier.device, progress=progress)
        if isinstance(each, str)
        else each
        for each in given
    ]
    return tuple({each.name: each for each in loaded}.values())


@dataclass(frozen=True, eq=False)
class Building:
    """One piece of work: these pictures, seen by this classifier and these embedders.

    Attributes:
        batch_size: pictures at once; `Classifier.batch` if None.
        shard_rows: rows of a shard.
        held_out: pictures that are asked about to measure fidelity, if not the references themselves.
    """

    classifier: Classifier
    rows: LabelledPictures
    embedders: tuple[Embedder, ...]
    batch_size: int | None = None
    shard_rows: int = SHARD_ROWS
    held_out: LabelledPictures | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise DatasetError(f"A batch of {self.batch} pictures embeds none. Give 1 or more.")
        if self.shard_rows < 1:
            raise DatasetError(f"A shard of {self.shard_rows} rows holds none. Give 1 or more.")
        if not self.embedders:
            raise DatasetError("Without an embedder nothing is alike. Name one, such as 'contribution'.")

    @property
    def batch(self) -> int:
        return self.classifier.batch if self.batch_size is None else self.batch_size

    @property
    def large(self) -> bool:
        """Whether it is done in shards on the disk."""
        return len(self.rows) > self.shard_rows

    @cached_property
    def work(self) -> Work:
        """Where the shards lie: a folder of the cache that all who do the same work share."""
        key = key_of_work(self.classifier, self.rows, self.embedders, self.batch, self.shard_rows)
        return Work(cache_folder() / "references" / key, key, len(self.rows), self.shard_rows)

    @recording
    def embed(self, numbers: Iterable[int] | None = None, *, progress: Progress = silent) -> list[int]:
        """The shards (of all, or of those with these numbers) that were missing, and are there now.

        Raises:
            CancelledError: from `progress`; finished shards are kept.
        """
        asked = list(range(len(self.work)) if numbers is None else numbers)
        missing = self.work.missing(asked)
        kept = len(asked) - len(missing)
        if not missing:
            return []
        try:
            with open_lens(self.classifier, self.embedders, self.batch) as lens:
                for number in missing:
                    self.work.write(number, lens.see(self.rows, self.work.span(number), progress))
                    kept += 1
        except CancelledError as error:
            if not kept:
                raise
            raise CancelledError(
                f"{error} {kept:,} of {len(asked):,} shards are kept: the same call goes on from there."
            ) from error
        return missing

    @recording
    def finished(
        self, *, progress: Progress = silent, fidelity: bool = True, sharded: bool = False, merge_only: bool = False
    ) -> ReferenceSet:
        """The references; what is missing is embedded first.

        Args:
            fidelity: whether to measure how far neighbours agree with the classifier.
            sharded: whether shards are used even for few pictures, since others have written them.
            merge_only: whether a missing shard is an error, since others should have written it.

        Raises:
            DatasetError: none of the pictures could be read.
            ReferencesError: shards are missing, and none was to be embedded here.
            CancelledError: from `progress`.
        """
        watched = part(progress, 0.0, 0.9 if fidelity else 1.0)
        if merge_only:
            self._check_whole()
        if self.large or sharded or merge_only:
            if not merge_only:
                self.embed(progress=watched)
            found = self._assembled(self.work, self.work.folder.parent, watched)
        else:
            with open_lens(self.classifier, self.embedders, self.batch) as lens:
                found = self._assembled([lens.see(self.rows, slice(0, len(self.rows)), watched)])
        if fidelity:
            found = replace(found, fidelity=self._measured(found, part(progress, 0.9, 1.0)))
        progress(1.0, f"Embedded {len(found):,} pictures")
        return found

    def _measured(self, found: ReferenceSet, progress: Progress) -> dict[str, dict[str, Any]]:
        queries = None
        if self.held_out is not None:
            asking = replace(self, rows=self.held_out, held_out=None)
            queries = asking.finished(progress=part(progress, 0.0, 0.5), fidelity=False)
            asking.forget()
        return measure(found, self.classifier, queries=queries, progress=part(progress, 0.5, 1.0))

    def _check_whole(self) -> None:
        missing = self.work.missing()
        if missing:
            names = ", ".join(str(number + 1) for number in missing[:10]) + (", ..." if len(missing) > 10 else "")
            raise ReferencesError(
                f"{len(missing)} of {len(self.work)} shards are missing from {self.work.folder} (number {names}). Build"
                " them first: the same command with --shard, or without --merge."
            )

    def _assembled(
        self, parts: Sequence[Embedded], folder: Path | None = None, progress: Progress = silent
    ) -> ReferenceSet:
        for each in parts:
            self.rows.skipped.update(each.skipped)
        if not any(map(len, parts)):
            raise DatasetError(
                f"None of the {len(self.rows)} pictures of {self.rows.name} could be read."
                f" {next(iter(self.rows.skipped.values()), '')}"
            )
        return assembled(self.classifier, self.rows, self.embedders, parts, folder, progress)

    def forget(self) -> None:
        """Removes the shards, if there are any."""
        if self.large or "work" in self.__dict__:  # of few pictures nobody has worked out the key
            self.work.forget()


@dataclass(frozen=True)
class Order:
    """A piece of work by name, so that any machine can do its part: see scripts/build_references.py.

    Attributes:
        model, revision, layer, device: see `load_classifier`.
        data, config, split, limit, seed, layout, label_column, image_column: see `open_dataset`.
        embedders: by name; the first is the primary one.
    """

    model: str
    data: str
    revision: str | None = None
    layer: str | None = None
    device: str | None = None
    config: str | None = None
    split: str | None = None
    limit: int | None = None
    seed: int = 0
    embedders: tuple[str, ...] = (DEFAULT,)
    batch_size: int | None = None
    shard_rows: int = SHARD_ROWS
    held_out: str | None = None  # a split of the same data
    layout: str | None = None
    label_column: str | None = None
    image_column: str | None = None

    def open(self, progress: Progress = silent) -> Building:
        """The work, ready to be done.

        Raises:
            XaihubError: the classifier, the pictures or an embedder cannot be had.
        """
        data = Source(
            self.data, config=self.config, split=self.split, limit=self.limit, layout=self.layout,
            label_column=self.label_column, image_column=self.image_column,
        )  # fmt: skip
        rows = data.open(self.split, part(progress, 0.0, 0.5), seed=self.seed)
        classifier = load_classifier(
            self.model, revision=self.revision, device=self.device, target_layer=self.layer,
            progress=part(progress, 0.5, 0.8),
        )  # fmt: skip
        embedders = embedders_named(self.embedders, classifier, progress=part(progress, 0.8, 1.0))
        asking = None
        if self.held_out is not None:
            asking = replace(data, limit=COUNT).open(self.held_out, seed=self.seed)
        return Building(classifier, rows, embedders, self.batch_size, self.shard_rows, asking)
