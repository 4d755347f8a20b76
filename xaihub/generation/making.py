"""Pictures by seed in a folder: one file each, whole or not there, so that a stopped run goes on where it was."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from xaihub import hub
from xaihub.downloads import cache_folder
from xaihub.errors import DatasetError, UnsupportedModelError
from xaihub.folders import replacing_file
from xaihub.generation.finding import Found, GenerationSettings, device_of, find
from xaihub.generation.pipelines import SCHEDULERS, Painter, load
from xaihub.generation.watching import Watch
from xaihub.progress import Progress, part, silent

__all__ = ["Generated", "generate"]

_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Generated:
    """Pictures that a pipeline made.

    Attributes:
        name, revision: of the pipeline.
        files: seed -> its picture, a PNG file.
        settings: all that a picture depends on beside its seed, and the versions that made it.
        withheld: seeds whose pictures the pipeline's own filter held back.
    """

    name: str
    revision: str
    licence: str | None
    folder: Path
    files: Mapping[int, Path]
    settings: Mapping[str, Any]
    withheld: tuple[int, ...] = ()


def generate(
    settings: GenerationSettings, *, folder: Path | None = None, token: hub.Token = None, progress: Progress = silent
) -> Generated:
    """The pictures of the seeds asked for, made now as far as an earlier run has not made them.

    Pictures are made in batches whose limits are multiples of the batch's size, and each batch is made whole: a seed
    has the same neighbours, and so the same bytes, whichever seeds are asked for and wherever a run was stopped. On
    another machine, or with another number of threads, sums may be rounded otherwise.

    Args:
        folder: where they are kept; if not given, one of the cache, named after all that they depend on.

    Raises:
        UnsupportedModelError: the pipeline is refused.
        CancelledError: from `progress`, or because it would take longer than `max_hours`.
        DatasetError: the disk is full; what was made so far is kept.
    """
    _refuse(settings)
    found = find(settings, token=token)
    key = _key(found, settings)
    kept = folder or cache_folder() / "generated" / found.name.replace("/", "--") / _digest(key)
    seeds = range(settings.first_seed, settings.first_seed + settings.count)
    batches = _batches(seeds, key["batch"], kept)
    if batches:
        painter = load(found, settings, token=token, progress=part(progress, 0, 0.1))
        record = key | {"scheduler": painter.scheduler, "versions": _versions()}
        _write(kept / _SETTINGS, json.dumps(record, indent=1).encode())
        _make(painter, batches, kept, settings, part(progress, 0.1, 1))
    files = {seed: _file(kept, seed) for seed in seeds if _file(kept, seed).is_file()}
    withheld = tuple(seed for seed in seeds if seed not in files)
    told = json.loads((kept / _SETTINGS).read_text("utf-8")) | {"seeds": [seeds[0], seeds[-1]]}
    del told["pipeline"], told["revision"]
    return Generated(found.name, found.revision, found.licence, kept, files, told, withheld)


def _refuse(settings: GenerationSettings) -> None:
    if settings.count < 1 or settings.first_seed < 0 or settings.steps < 1 or (settings.batch or 1) < 1:
        raise DatasetError(
            f"{settings.count} pictures from seed {settings.first_seed} in {settings.steps} steps and batches of"
            f" {settings.batch} cannot be made. Count, steps and batch are 1 or more, the first seed 0 or more."
        )
    if settings.scheduler is not None and settings.scheduler not in SCHEDULERS:
        raise UnsupportedModelError(
            f"There is no scheduler {settings.scheduler!r} here. There are: {', '.join(SCHEDULERS)}."
        )


def _key(found: Found, settings: GenerationSettings) -> dict[str, Any]:
    """All that a picture depends on beside its seed."""
    device = device_of(settings).split(":")[0]
    return {
        "pipeline": found.name,
        "revision": found.revision,
        "scheduler": settings.scheduler or "default",
        "steps": settings.steps,
        "batch": settings.batch or (1 if device == "cpu" else 16),
        "dtype": settings.dtype,
        "device": device,
        "prompt": settings.prompt,
        "size": settings.size,
    }


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("diffusers", "torch", "pillow")}


def _file(folder: Path, seed: int) -> Path:
    return folder / f"{seed:08d}.png"


def _withheld(folder: Path, seed: int) -> Path:
    return folder / f"{seed:08d}.withheld"


def _there(folder: Path, seed: int) -> bool:
    return _file(folder, seed).is_file() or _withheld(folder, seed).is_file()


def _batches(seeds: Sequence[int], size: int, folder: Path) -> list[range]:
    """The batches that have to be made, whole."""
    first, last = seeds[0] // size, seeds[-1] // size
    blocks = [range(place * size, (place + 1) * size) for place in range(first, last + 1)]
    return [
        block for block in blocks if not all(_there(folder, seed) for seed in block if seeds[0] <= seed <= seeds[-1])
    ]


def _make(
    painter: Painter, batches: Sequence[range], folder: Path, settings: GenerationSettings, progress: Progress
) -> None:
    device = device_of(settings)
    watch = Watch(len(batches), settings.steps, max_hours=settings.max_hours, progress=progress, advice=_advice(device))
    for batch in batches:
        watch.begin(f"Seed {batch[0]}" if len(batch) == 1 else f"Seeds {batch[0]} to {batch[-1]}")
        for seed, picture in zip(batch, painter.paint(batch, watch), strict=True):
            if not _there(folder, seed):
                _keep(folder, seed, picture)
        watch.end()


def _advice(device: str) -> str:
    faster = "A GPU takes minutes where a processor takes hours (--device cuda). " if device == "cpu" else ""
    return f"{faster}Fewer pictures (--count) or steps (--steps) take less, and so may --dtype bfloat16."


def _keep(folder: Path, seed: int, picture: Image.Image | None) -> None:
    """The picture as a file, whole or not at all.

    Raises:
        DatasetError: the disk is full, or the folder cannot be written.
    """
    stream = io.BytesIO()
    if picture is not None:
        picture.convert("RGB").save(stream, "PNG")
    try:
        _write(_withheld(folder, seed) if picture is None else _file(folder, seed), stream.getvalue())
    except OSError as error:
        many = sum(1 for _ in folder.glob("*.png"))
        raise DatasetError(
            f"The picture of seed {seed} cannot be written ({error.strerror or error}). The {many:,} pictures made so"
            f" far are kept in {folder}; make room, and the same command goes on from there."
        ) from error


def _write(file: Path, data: bytes) -> None:
    """The file, with these bytes; no other run sees a part of it."""
    with replacing_file(file) as draft:
        draft.write_bytes(data)
