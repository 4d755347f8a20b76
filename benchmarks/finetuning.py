"""What the defaults of fine-tuning give on held-out images: `python -m benchmarks.finetuning [--shared FOLDER]`.

Each dataset is divided into parts by a seed (halves as a rule, which is harder than what anybody trains with), near
copies together; each part is answered by a network that learned from the others; for several seeds. Nothing chooses an
epoch. Every training is kept under the cache folder, so a run that was stopped goes on where it was; `--only` measures
those whose names begin so, and the table is made of all that is there.

Images are taken as they were found, or treated alike (scripts/build_dataset.py's crop, size and encoding); a network
that learned from one is asked about the other as well: `as found, then treated` is about that.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.prototypes.kept import Piece, inventory, read, take, timed, work_folder
from benchmarks.timing import table
from xaihub.datasets import LabelledPictures, from_pairs, open_dataset
from xaihub.fairness import encoded
from xaihub.families.from_transformers import load_backbone
from xaihub.finetuning import FineTuning, forget
from xaihub.finetuning.fitting import fine_tune, run_key
from xaihub.finetuning.folding import folds_of
from xaihub.finetuning.pixel_store import PixelStore, network_inputs, read_pixels
from xaihub.images import open_picture
from xaihub.intervals import wilson
from xaihub.loading import load_classifier
from xaihub.measuring.scoring import calibration_error
from xaihub.synthetic import PETS, Nuisance, draw_pet
from xaihub.training import logits_of

RECIPES = {
    "defaults": FineTuning(),
    "a quarter": FineTuning(trained_share=0.25),
    "defaults, uncalibrated": FineTuning(calibration_folds=0),
    "before: all layers": FineTuning(trained_share=1.0, mixup=0.0, calibration_folds=0, copies=2),
    "head alone": FineTuning(epochs=0, calibration_folds=0, copies=2),
}
EACH_PET, SMALL = 40, 0.6  # pets of each of four classes, drawn small: harder than the starter's


@dataclass(frozen=True, eq=False)
class Task:
    """Images that are told apart, as found and treated alike; `facts` change with them."""

    key: str
    facts: Any
    forms: Callable[[], dict[str, LabelledPictures]]


def tasks(shared: Path) -> list[Task]:
    folders = {"cats": shared / "data" / "cats_real_fake" / "train", "ants": shared / "data" / "hymenoptera" / "train"}
    found = [Task(key, inventory(folder), cache(partial(_forms, folder))) for key, folder in folders.items()]
    return [*found, Task("pets", [EACH_PET, SMALL, PETS[:4]], cache(_pets))]


def _forms(folder: Path) -> dict[str, LabelledPictures]:
    rows = open_dataset(folder)
    alike = [(row.key, str(row.label), open_picture(encoded(row.picture, 256))) for row in rows]
    return {"as found": rows, "treated": from_pairs(folder.parent.name, alike)}


def _pets() -> dict[str, LabelledPictures]:
    small = Nuisance(pet_scale=SMALL)
    drawn = [(f"{label} {i}", label, draw_pet(label, 50_000 + 7 * i, nuisance=small)) for label in PETS[:4]
             for i in range(EACH_PET)]  # fmt: skip
    return {"as found": from_pairs("paper pets", [(key, label, pet.image) for key, label, pet in drawn])}


def pieces(shared: Path, seeds: int, parts: int) -> dict[tuple[str, str, str], list[Piece]]:
    """(task, form, recipe) -> a piece for each seed and part."""
    model = shared / "models" / "mobilenet_v2_1.0_224"
    found = dict[tuple[str, str, str], list[Piece]]()
    for task in tasks(shared):
        for form in ("as found", "treated") if task.key != "pets" else ("as found",):
            for recipe, settings in RECIPES.items():
                found[task.key, form, recipe] = [
                    Piece(
                        f"finetuning {task.key} {form} {recipe} {seed + 1} {part + 1} of {parts}",
                        [task.facts, inventory(model), asdict(replace(settings, seed=seed)), parts],
                        partial(_measured, task, form, replace(settings, seed=seed), part, parts, model),
                    )
                    for seed in range(seeds)
                    for part in range(parts)
                ]
    return found


def _measured(task: Task, form: str, settings: FineTuning, part: int, parts: int, model: Path) -> dict[str, Any]:
    """Logits of the part, of its images in each form, by a network that learned from the other parts."""
    stores = _stores(task, model)
    fold_of = folds_of(stores[form], parts, 1000 + settings.seed)
    learned = _some(stores[form], torch.nonzero(fold_of != part)[:, 0])
    backbone = load_backbone(model, learned.labels, model.name, seed=settings.seed)
    work = work_folder() / f"tuning-{run_key(settings, model.name, learned, None)}"
    with timed() as spent:
        tuned = fine_tune(backbone, learned, None, settings, work=work)
    forget(work)
    unseen = torch.nonzero(fold_of == part)[:, 0]
    return {
        "truth": stores[form].truth[unseen].tolist(),
        "logits": {other: _answers(backbone.module, store, unseen).tolist() for other, store in stores.items()},
        "temperature": tuned.calibration.temperature,
        "training": dict(spent),
        "trained": tuned.trained,
        "choice": tuned.choice and tuned.choice.in_words,
    }


_STORES: dict[str, dict[str, PixelStore]] = {}


def _stores(task: Task, model: Path) -> dict[str, PixelStore]:
    """Each form's pixels, in the same order."""
    if task.key not in _STORES:
        transform = load_classifier(model).transform
        _STORES.clear()
        _STORES[task.key] = {
            form: read_pixels(rows, transform, sorted(rows.label_names)) for form, rows in task.forms().items()
        }
    return _STORES[task.key]


def _some(store: PixelStore, places: Tensor) -> PixelStore:
    rows = replace(store.rows, sources=[store.rows.sources[place] for place in places.tolist()], skipped={})
    return read_pixels(rows, store.transform, store.labels)


@torch.no_grad()
def _answers(module: Any, store: PixelStore, places: Tensor) -> Tensor:
    batches = places.split(8)
    return torch.cat([logits_of(module, network_inputs(store[chosen], store.transform)) for chosen in batches])


def rows(found: dict[tuple[str, str, str], list[Piece]], parts: int) -> list[list[str]]:
    """A line for each dataset, form and recipe of which anything was measured."""
    lines = []
    for (task, form, recipe), some in found.items():
        measured = [each for piece in some if (each := read(piece))]
        for asked in measured[0]["logits"] if measured else ():
            name = f"{task}, {form}" if asked == form else f"{task}, {form}, then {asked}"
            lines.append([name, recipe, *_figures(measured, asked, parts), f"{len(measured)} of {len(some)}"])
    return lines


def _figures(measured: Sequence[dict[str, Any]], asked: str, parts: int) -> list[str]:
    pairs = [(torch.tensor(each["logits"][asked]), torch.tensor(each["truth"])) for each in measured]
    right = np.concatenate([(logits.argmax(1) == truth).numpy() for logits, truth in pairs])
    images = len(right) / max(1, len(measured) / parts)  # each counts once, for however many seeds it was asked about
    low, high = wilson(right.mean() * images, images)
    answers = [(truth.numpy(), logits.double().softmax(1).numpy()) for logits, truth in pairs]
    errors = [calibration_error(*answer)[0] for answer in answers]
    truths, chances = (np.concatenate(each) for each in zip(*answers, strict=True))
    together = calibration_error(truths, chances)[0]
    losses = [float(cross_entropy(logits.double(), truth)) for logits, truth in pairs]
    spent = [each["training"] for each in measured]
    return [
        f"{right.mean():.3f} ({low:.3f}-{high:.3f})", f"{np.mean(errors):.3f} ({_by_chance(answers):.3f})",
        f"{together:.3f}", f"{np.mean(losses):.3f}",
        f"{np.mean([each['temperature'] for each in measured]):.2f}",
        f"{np.mean([each['cpu'] for each in spent]):.0f} ({np.mean([each['wall'] for each in spent]):.0f})",
    ]  # fmt: skip


def _by_chance(answers: Sequence[tuple[Any, Any]], draws: int = 50) -> float:
    """The mean calibration error of as many images if the probabilities were exactly right: few images give one too."""
    drawn = np.random.default_rng(0)
    truths = [(drawn.random((draws, len(each), 1)) > each.cumsum(1)).sum(2).clip(max=each.shape[1] - 1)
              for _, each in answers]  # fmt: skip
    return float(np.mean([
        calibration_error(truth, each)[0] for (_, each), some in zip(answers, truths, strict=True) for truth in some
    ]))  # fmt: skip


def main() -> None:
    made = argparse.ArgumentParser(prog="benchmarks.finetuning", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    made.add_argument("--shared", type=Path, default=Path("../shared"), help="holds data/ and models/ (%(default)s)")
    made.add_argument("--seeds", type=int, default=5, help="how often each dataset is divided anew (%(default)s)")
    made.add_argument("--parts", type=int, default=2, help="into so many parts (%(default)s)")
    made.add_argument("--only", nargs="*", metavar="NAME", help='measure these, such as "cats treated defaults"')
    made.add_argument("--anew", action="store_true", help="measure again what is kept: after a change of the code")
    arguments = made.parse_args()
    if not (arguments.shared / "models" / "mobilenet_v2_1.0_224").is_dir():
        sys.exit(f"{arguments.shared} holds no models/mobilenet_v2_1.0_224. Name the folder of data and models.")
    warnings.simplefilter("ignore")
    found = pieces(arguments.shared, arguments.seeds, arguments.parts)
    for piece in [piece for some in found.values() for piece in some]:
        wanted = arguments.only is None or any(f"{piece.name} ".startswith(f"finetuning {o} ") for o in arguments.only)
        if wanted and (arguments.anew or read(piece) is None):
            take(piece)
    head = [
        "dataset", "recipe", "right", "calibration error (by chance)", "all parts together", "log loss", "T",
        "seconds of CPU (clock)", "trainings",
    ]  # fmt: skip
    table(
        f"Held-out images, {arguments.parts} parts, {torch.get_num_threads()} threads",
        rows(found, arguments.parts),
        head,
    )


if __name__ == "__main__":
    main()
