"""Where the pictures of a class come from: a folder, a dataset of the Hub, or a pipeline that makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from xaihub import hub
from xaihub.datasets import LabelledPictures, is_dataset_folder, open_dataset, open_flat_folder
from xaihub.datasets.pictures import same
from xaihub.folders import folder_named
from xaihub.generation import GenerationSettings, generate, is_pipeline
from xaihub.progress import Progress, silent

__all__ = ["Origin", "generated_source", "real_source"]

FEW = 200  # pictures of a class, where nobody said how many: of the Hub, and made by a pipeline


@dataclass(frozen=True)
class Origin:
    """The pictures of one class, and who they are from.

    Attributes:
        kind: "folder", "hub" or "generated".
        name: the folder's name, or the id on the Hub.
        generator: of generated pictures: the pipeline's id, as far as it is known.
        settings: what else their making depended on.
    """

    label: str
    kind: str
    name: str
    pictures: LabelledPictures
    licence: str | None = None
    generator: str = ""
    generator_revision: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def record(self, kept: int) -> dict[str, Any]:
        """What the dataset's report says of it."""
        return {
            "label": self.label,
            "kind": self.kind,
            "id": self.name,
            "revision": self.generator_revision if self.kind == "generated" else self.pictures.revision,
            "config": self.pictures.config,
            "split": self.pictures.split,
            "licence": self.licence,
            "pictures": kept,
            "generator": self.generator or None,
            "note": self.pictures.about,
            "settings": dict(self.settings),
        }


def real_source(
    source: str,
    label: str,
    *,
    labels: Sequence[str] | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    layout: str | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    count: int | None = None,
    seed: int = 0,
    licence: str | None = None,
    token: hub.Token = None,
    progress: Progress = silent,
) -> Origin:
    """The pictures of a folder, with or without folders within it, of a dataset folder, or of a Hub dataset.

    Args:
        labels: only pictures that the source itself labels so.
        count: at most so many, drawn by seed; all of a folder, or 200 of the Hub, if not given.

    Raises:
        DatasetError, HubError: there are none, or they cannot be read.
    """
    folder = folder_named(source)
    if folder and labels is None and not is_dataset_folder(folder):
        pictures = open_flat_folder(folder, limit=count, seed=seed)
        return Origin(label, "folder", folder.resolve().name, pictures, licence)
    pictures = open_dataset(
        source, config=config, split=split, revision=revision, labels=labels, label_column=label_column,
        image_column=image_column, layout=layout, limit=count or (None if folder else FEW), seed=seed, token=token,
        progress=progress,
    )  # fmt: skip
    kind = "folder" if folder else "hub"
    settings = {"labels": list(labels)} if labels else {}
    return Origin(label, kind, pictures.name, pictures, licence or pictures.licence, settings=settings)


def generated_source(
    source: str,
    label: str,
    settings: GenerationSettings,
    *,
    count: int | None = None,
    seed: int = 0,
    generator: str = "",
    licence: str | None = None,
    token: hub.Token = None,
    progress: Progress = silent,
) -> Origin:
    """Pictures of a folder, or made now by a pipeline of the Hub or of a folder that holds one.

    Args:
        settings: how a pipeline makes them; its `pipeline` and `count` are set from `source` and `count`.
        generator: of a folder's pictures, if it is known.

    Raises:
        DatasetError, HubError, UnsupportedModelError: there are none, or they cannot be made.
    """
    folder = folder_named(source)
    if folder and not is_pipeline(folder):
        found = real_source(source, label, count=count, seed=seed, licence=licence, token=token)
        return replace(found, generator=generator)
    made = generate(replace(settings, pipeline=source, count=count or FEW), token=token, progress=progress)
    pictures = LabelledPictures(
        made.name, [(f"seed {seed}", None, partial(same, file)) for seed, file in made.files.items()], (),
        revision=made.revision,
        skipped={f"seed {seed}": "The pipeline's own filter held this picture back." for seed in made.withheld},
    )  # fmt: skip
    return Origin(
        label, "generated", made.name, pictures, licence or made.licence, made.name, made.revision, made.settings
    )
