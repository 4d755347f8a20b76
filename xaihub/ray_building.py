"""References built by many workers at once, on one machine or on a cluster: Ray Data over numbers of shards.

Each worker opens the classifier and the dataset by itself and writes its shards into the folder that all share
(XAIHUB_CACHE), so nothing but numbers travels; a shard that is there is not made again, whoever made it. The same
merge follows as without Ray, over the same shards: the same bytes where workers compute with as many threads as one
process would, and equal up to the last digit of half precision otherwise.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from xaihub.building import Building, Order
from xaihub.errors import ReferencesError, first_line
from xaihub.folders import folder_named
from xaihub.progress import Progress, silent
from xaihub.shards import Work

__all__ = ["embed_with_ray"]

_STORE = 128 * 2**20  # bytes for what travels, which is numbers; Ray would take a third of the memory


def embed_with_ray(order: Order, building: Building, workers: int = 2, *, progress: Progress = silent) -> None:
    """Writes all shards that are missing; `building.finished` then finds them.

    Ray is joined where RAY_ADDRESS says, or begun on this machine and ended afterwards. A worker takes one processor,
    and one GPU where the order names cuda.

    Args:
        order: what `building` was opened from; workers open it again.

    Raises:
        ReferencesError: Ray is not installed, or a worker failed.
        CancelledError: from `progress`; finished shards are kept.
    """
    if workers < 1:
        raise ReferencesError(f"{workers} workers embed nothing. Give 1 or more.")
    missing = building.work.missing()
    if not missing:
        return
    sent = replace(order, model=_absolute(order.model), data=_absolute(order.data))
    with _running(workers) as ray:
        found = _results(ray, sent, building.work, missing, min(workers, len(missing)))
        try:
            for done, number in enumerate(found, 1):
                progress(
                    done / len(missing), f"Shard {number + 1:,} is done, {done:,} of {len(missing):,} that were missing"
                )
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error.__cause__ or error
            raise ReferencesError(
                f"A Ray worker failed ({type(cause).__name__}: {first_line(cause, 400)}). Finished shards are kept:"
                " the same call goes on from there."
            ) from error


def _absolute(name: str) -> str:
    """A folder's whole path: workers run in folders of their own."""
    folder = folder_named(name)
    return str(folder.resolve()) if folder else name


def _results(ray: Any, order: Order, work: Work, numbers: list[int], workers: int) -> Iterator[int]:
    """The numbers of the shards, in the order in which they are done."""

    class Worker:
        """Holds the classifier from one shard to the next."""

        def __init__(self) -> None:
            self.building = order.open()
            if self.building.work != work:
                raise ReferencesError(
                    f"This worker would do {self.building.work.folder}, not {work.folder}. All must share one"
                    " XAIHUB_CACHE, and have the same versions of the libraries, the same files and the same device."
                )

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            self.building.embed(batch["number"].tolist())
            return batch

    gpus = 1 if (order.device or "").startswith("cuda") else None
    shards = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
    pool = ray.data.ActorPoolStrategy(size=workers)
    done = shards.map_batches(Worker, batch_size=1, compute=pool, num_cpus=1, num_gpus=gpus)
    return (int(row["number"]) for row in done.iter_rows())


@contextmanager
def _running(workers: int) -> Iterator[Any]:
    """Ray, quiet and without telemetry; ended if it was begun here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it deprecates settings of its own
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise ReferencesError(
                f"Ray is not installed ({first_line(error)}). Install it with: pip install 'xaihub[ray]'"
            ) from error
        ours = not ray.is_initialized()
        if ours:
            _begin(ray, workers)
        ray.data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield ray
        finally:
            if ours:
                ray.shutdown()


def _begin(ray: Any, workers: int) -> None:
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        cores = max(workers, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cores, include_dashboard=False, object_store_memory=_STORE, **quiet)
