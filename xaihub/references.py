"""The labelled pictures that are searched: built once for a classifier, saved as a folder, loaded by id.

Rows are kept sorted by the class that the classifier predicts, so a search within a class reads one contiguous slice.
On disk, and so on the Hub as a dataset repository: `references.json` (who made it, from what), `embeddings.safetensors`
(embeddings and logits), `rows.parquet` (key, label, prediction, probability, hashes, picture). Nothing is pickled.
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub import hub
from xaihub.classifier import Classifier, tap
from xaihub.curated import STARTER
from xaihub.datasets import LabelledPictures, open_dataset
from xaihub.embedders import EMBEDDERS
from xaihub.errors import DatasetError, ReferencesError, ReferencesMismatchError
from xaihub.images import open_picture, perceptual_hash
from xaihub.loading import STARTER_FOLDER
from xaihub.progress import Progress, silent

__all__ = ["Made", "Neighbour", "ReferenceSet", "build_references", "load_references"]

FORMAT = 1
_FILES = ("references.json", "embeddings.safetensors", "rows.parquet")
_QUALITY = 92  # of the stored crops: their predictions are the originals', only their heatmaps are drawn again
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

    def __len__(self) -> int:
        return len(self.keys)

    def picture(self, row: int) -> Image.Image:
        """The crop that the classifier saw of a row."""
        return open_picture(self.pictures[row])

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

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
        mine = (self.made.classifier, self.made.classifier_revision, self.made.target_layer, self.class_names)
        if mine != (classifier.repo_id, classifier.revision, layer, classifier.labels):
            raise ReferencesMismatchError(
                f"These references were embedded by {self.made.in_words}, but the classifier is {classifier.name} (layer {layer})."
                " Distances between the two mean nothing; build references for this classifier instead."
            )

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
        query = torch.nn.functional.normalize(embedding.detach().float().cpu().reshape(-1), dim=0)
        if predicted is not None:
            spans = [self.slices[predicted]] if predicted in self.slices else []
        else:
            spans = [span for label, span in self.slices.items() if label != predicted_not]
        out = set(map(int, leave_out))
        found: list[Neighbour] = []
        for span in _merged(spans):
            similarity = torch.mv(self.embeddings[span], query)
            best = torch.topk(similarity, min(k + len(out), len(similarity)))
            rows = (best.indices + span.start).tolist()
            found += [Neighbour(row, value) for row, value in zip(rows, best.values.tolist(), strict=True) if row not in out]
        return sorted(found, key=lambda neighbour: (-neighbour.similarity, neighbour.row))[:k]

    def duplicates(self, embedding: Tensor, digest: str, hashed: int) -> NDArray[np.int64]:
        """The rows that are the query itself, or so near a copy that they would explain nothing."""
        same = np.flatnonzero(np.array(self.digests) == digest)
        close = np.flatnonzero(np.bitwise_count(self.hashes ^ np.uint64(hashed)) <= _SAME_BITS)
        query = torch.nn.functional.normalize(embedding.detach().float().cpu().reshape(-1), dim=0)
        near = close[(torch.mv(self.embeddings[torch.from_numpy(close)], query) > _SAME_COSINE).numpy()] if len(close) else close
        return np.union1d(same, near).astype(np.int64)

    def save(self, folder: str | Path) -> Path:
        """The folder that now holds the three files; written beside its place and moved there at once."""
        from safetensors.torch import save_file

        folder = Path(folder)
        if folder.exists() and not (folder / "references.json").exists() and any(folder.iterdir()):
            raise FileExistsError(f"{str(folder)!r} exists and holds something else than references. Name another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            draft.chmod(0o755)
            save_file({"embeddings": self.embeddings.contiguous(), "logits": self.logits.contiguous()}, draft / _FILES[1])
            _write_rows(self, draft / _FILES[2])
            record = {"format": FORMAT, "made": asdict(self.made), "classes": list(self.class_names), "rows": len(self)}
            record["checksums"] = {name: _digest(draft / name) for name in _FILES[1:]}
            (draft / _FILES[0]).write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(draft, folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return folder

    def push_to_hub(self, repo_id: str, *, token: hub.Token = None, private: bool = True) -> str:
        """The address of the dataset repository that now holds these references, in one commit."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save(Path(temporary) / "references")
            (folder / "README.md").write_text(_card(self), "utf-8")
            return hub.push_folder(
                folder, repo_id, repo_type="dataset", token=token, private=private, message="Publish references"
            )


def build_references(
    classifier: Classifier,
    dataset: LabelledPictures | str | Path,
    *,
    embedder: str = "target-layer",
    batch_size: int = 32,
    limit: int | None = None,
    progress: Progress = silent,
    **source: Any,
) -> ReferenceSet:
    """References for a classifier from labelled pictures: a folder of class folders, a Hub dataset, or ones in memory.

    Args:
        limit: how many pictures to take at most, drawn evenly from the classes.
        source: further arguments of `open_dataset` (`config`, `split`, `revision`, `token`, `seed`).

    Raises:
        DatasetError: it has no pictures that can be read.
        TargetLayerError: the classifier has no layer to embed with.
        CancelledError: from `progress`; nothing is kept.
    """
    rows = dataset if isinstance(dataset, LabelledPictures) else open_dataset(dataset, limit=limit, progress=progress, **source)
    embed = EMBEDDERS[embedder].embed
    columns = _Columns()
    with tap(classifier) as run:
        for batch in _batches(classifier, rows, batch_size, progress):
            passed = run(torch.stack([pixels for pixels, *_ in batch]))
            vectors = torch.nn.functional.normalize(embed(passed).cpu().float(), dim=1)
            columns.add(batch, vectors, passed.logits.detach().cpu().float(), classifier)
    if not columns.keys:
        raise DatasetError(f"None of the {len(rows)} pictures of {rows.name} could be read. {next(iter(rows.skipped.values()), '')}")
    progress(1.0, f"Embedded {len(columns.keys):,} pictures")
    return columns.sorted(classifier, _made(classifier, rows, embedder))


def load_references(
    repo_id_or_folder: str | Path, *, revision: str | None = None, token: hub.Token = None, local: bool = True
) -> ReferenceSet:
    """References that were saved or published, from a folder, a dataset repository of the Hub, or the built-in starter's.

    Raises:
        ReferencesError: it holds no references, or ones that were changed.
        HubError: the repository cannot be read.
    """
    name = str(repo_id_or_folder)
    if name == STARTER:
        return _read(STARTER_FOLDER / "references", name)
    if local and Path(name).expanduser().is_dir():
        return _read(Path(name).expanduser(), name)
    repo = hub.look(hub.clean_repo_id(name), revision=revision, token=token, repo_type="dataset")
    if not set(_FILES) <= set(repo.files):
        raise ReferencesError(f"{name} is a dataset but holds no references (no references.json). It can be embedded here instead.")
    return _read(hub.fetch(repo, _FILES, token=token), name)


def holds_references(repo_id: str, *, token: hub.Token = None) -> bool:
    """Whether a dataset repository of the Hub holds references that were published."""
    return "references.json" in hub.look(hub.clean_repo_id(repo_id), token=token, repo_type="dataset").files


@dataclass
class _Columns:
    """The rows of a reference set while they are collected."""

    keys: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def add(self, batch: list[tuple[Tensor, str, str | None]], vectors: Tensor, logits: Tensor, classifier: Classifier) -> None:
        for pixels, key, label in batch:
            seen = classifier.transform.picture_of(pixels)
            self.keys.append(key)
            self.labels.append(label)
            self.digests.append(digest_of(seen))
            self.hashes.append(perceptual_hash(seen))
            self.pictures.append(_encode(seen))
        self.embeddings.append(vectors)
        self.logits.append(logits)

    def sorted(self, classifier: Classifier, made: Made) -> ReferenceSet:
        logits = torch.cat(self.logits)
        probabilities = classifier.probabilities(logits)
        best = probabilities.max(1)
        order = torch.argsort(best.indices, stable=True)
        places = order.tolist()
        return ReferenceSet(
            made,
            classifier.labels,
            torch.cat(self.embeddings)[order].contiguous(),
            logits[order].contiguous(),
            best.indices[order].numpy().astype(np.int64),
            best.values[order].numpy().astype(np.float32),
            tuple(self.labels[i] for i in places),
            tuple(self.keys[i] for i in places),
            tuple(self.digests[i] for i in places),
            np.array([self.hashes[i] for i in places], dtype=np.uint64),
            tuple(self.pictures[i] for i in places),
        )


def _batches(classifier: Classifier, rows: LabelledPictures, size: int, progress: Progress) -> Any:
    batch: list[tuple[Tensor, str, str | None]] = []
    for done, row in enumerate(rows):
        batch.append((classifier.transform(row.picture), row.key, row.label))
        if len(batch) == size:
            progress(done / max(1, len(rows)), f"Embedding picture {done + 1:,} of {len(rows):,}")
            yield batch
            batch = []
    if batch:
        yield batch


def digest_of(image: Image.Image) -> str:
    """sha256 of a picture's pixels."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def _encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()


def _made(classifier: Classifier, rows: LabelledPictures, embedder: str) -> Made:
    return Made(
        classifier.repo_id,
        classifier.revision,
        classifier.target_layer.name if classifier.target_layer else "",
        embedder,
        classifier.transform.description,
        rows.name,
        rows.revision,
        rows.config,
        rows.split,
        rows.note,
        len(rows.skipped),
        {name: version(name) for name in ("torch", "numpy", "pillow")},
    )


def _merged(spans: list[slice]) -> list[slice]:
    """Neighbouring slices as one: "any other class" is then two reads, not one for each class."""
    merged: list[slice] = []
    for span in spans:
        if merged and merged[-1].stop == span.start:
            merged[-1] = slice(merged[-1].start, span.stop)
        else:
            merged.append(span)
    return merged


def _write_rows(references: ReferenceSet, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "key": list(references.keys),
            "label": list(references.labels),
            "predicted": [references.class_names[i] for i in references.predicted],
            "predicted_index": references.predicted,
            "probability": references.probability,
            "pixels_sha256": list(references.digests),
            "perceptual_hash": references.hashes,
            # the layout that the Hub's dataset viewer shows as pictures
            "image": pa.array(
                [{"bytes": data, "path": None} for data in references.pictures],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
        }
    )
    features = {"info": {"features": {"image": {"_type": "Image"}, **{
        name: {"dtype": dtype, "_type": "Value"}
        for name, dtype in (
            ("key", "string"), ("label", "string"), ("predicted", "string"), ("predicted_index", "int64"),
            ("probability", "float32"), ("pixels_sha256", "string"), ("perceptual_hash", "uint64"),
        )
    }}}}  # fmt: skip
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), file)


def _read(folder: Path, name: str) -> ReferenceSet:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        record = json.loads((folder / _FILES[0]).read_text("utf-8"))
        if record["format"] != FORMAT:
            raise ReferencesError(f"{name} holds references of format {record['format']}; this version reads {FORMAT}. Update xaihub.")
        changed = [file for file, digest in record["checksums"].items() if file in _FILES and _digest(folder / file) != digest]
        if changed:
            raise ReferencesError(f"{changed[0]} of {name} is not the file that its references.json describes. Build them again.")
        tensors = load_file(folder / _FILES[1])
        rows = pq.read_table(folder / _FILES[2])
        return _assembled(record, tensors, rows)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException, SafetensorError) as error:
        raise ReferencesError(f"{name} holds no references that can be read ({type(error).__name__}: {error}).") from error


def _assembled(record: Mapping[str, Any], tensors: Mapping[str, Tensor], rows: Any) -> ReferenceSet:
    embeddings, logits = tensors["embeddings"], tensors["logits"]
    predicted = rows["predicted_index"].to_numpy().astype(np.int64)
    if not len(rows) == len(embeddings) == len(logits) == record["rows"] or np.any(np.diff(predicted) < 0):
        raise ValueError("its files have different numbers of rows, or rows out of order")
    return ReferenceSet(
        Made(**record["made"]),
        tuple(record["classes"]),
        embeddings.float(),
        logits.float(),
        predicted,
        rows["probability"].to_numpy().astype(np.float32),
        tuple(rows["label"].to_pylist()),
        tuple(rows["key"].to_pylist()),
        tuple(rows["pixels_sha256"].to_pylist()),
        rows["perceptual_hash"].to_numpy().astype(np.uint64),
        tuple(rows["image"].combine_chunks().field("bytes").to_pylist()),
    )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _card(references: ReferenceSet) -> str:
    made = references.made
    counts = {references.class_names[c]: s.stop - s.start for c, s in references.slices.items()}
    listed = "\n".join(f"| {name} | {count:,} |" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:50])
    return f"""---
tags: [xaihub, xaihub-references]
configs: [{{config_name: default, data_files: rows.parquet}}]
---
# References of {made.classifier}

{len(references):,} pictures of `{made.dataset}` as `{made.classifier}` sees them, to be searched for twins and
counterfactuals. Embedder: {made.embedder} at layer `{made.target_layer}`. Pictures that could not be read: {made.skipped}.

```python
from xaihub import explain, load_classifier, load_references
explain(load_classifier("{made.classifier}"), "picture.jpg", references=load_references("THIS_REPOSITORY"))
```

| predicted class | pictures |
|---|---|
{listed}
"""
