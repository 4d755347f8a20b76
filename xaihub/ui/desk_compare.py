"""One picture under several methods, several classes or two models: which maps, in which order, and how alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xaihub.agreement import agreement, common_box, on_box
from xaihub.errors import CancelledError, UnknownNameError, XaihubError
from xaihub.progress import Progress, part, until
from xaihub.ui.asking import Asked, Question, Shown
from xaihub.ui.desk import Desk
from xaihub.ui.pace import is_slow
from xaihub.ui.words import named_class, percent

if TYPE_CHECKING:
    from xaihub.records import Evidence, Explanation

__all__ = ["CLASSES", "DEFAULTS", "Cell", "Compared", "Comparison", "compare"]

Vary = Literal["methods", "classes", "models"]

DEFAULTS = ("gradcam", "gradcam++", "hirescam", "layercam", "eigencam")  # one pass serves them all
CLASSES = 3  # the most probable ones, where none are named
MOST = 30  # maps of one comparison: more than there are methods
COMMON = 112  # the edge of the grid on which maps of two models are compared, in points


@dataclass(frozen=True)
class Comparison:
    """What the boxes said when Compare was pressed.

    Attributes:
        picture: the file that was sent, or its bytes.
        other: the second model's id; it counts where the models vary.
        methods: all of them where the methods vary, else the first.
        classes: as `named_class` reads them: all where the classes vary, else the first; empty for the predicted ones.
        token: the visitor's, or "".
    """

    picture: str | bytes
    model: str
    vary: str = "methods"
    other: str = ""
    methods: tuple[str, ...] = DEFAULTS
    classes: tuple[str, ...] = ()
    token: str = field(default="", repr=False)


@dataclass(frozen=True, eq=False)
class Cell:
    """One map of a comparison.

    Attributes:
        title: what sets it apart from the others.
        explanation: of its model and its class; it holds this map only.
        passes: what the method costs beyond the shared pass.
    """

    title: str
    method: str
    explanation: "Explanation"
    shown: Shown
    passes: int

    @property
    def evidence(self) -> "Evidence | None":
        return self.shown.evidence[0] if self.shown.evidence else None


@dataclass(eq=False)
class Compared:
    """A comparison, or what there is of it so far.

    Attributes:
        asked: the picture's pass through each model; kept, so that another comparison makes no other.
        alike: (M, M), Spearman's correlation of the cells that have a map; `maps` says which these are.
    """

    vary: str
    cells: list[Cell]
    asked: list[Asked]
    alike: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def maps(self) -> list[int]:
        """The cells that have a map."""
        return [
            i for i, cell in enumerate(self.cells) if cell.evidence is not None and cell.evidence.heatmap is not None
        ]


def compare(desk: Desk, question: Comparison, progress: Progress, earlier: Sequence[Asked] = ()) -> Iterator[Compared]:
    """What there is before each slow map, then all of it. One forward pass of a model serves all its maps.

    Args:
        earlier: of this visitor; a model that has seen this picture already does not look again.
    """
    question = _checked(question)
    names = [question.model, question.other] if question.vary == "models" else [question.model]
    asked: list[Asked] = []
    for i, name in enumerate(names):
        ask = Question(question.picture, name, method=question.methods[0], token=question.token)
        asked.append(
            desk.begin(ask, part(progress, 0.4 * i / len(names), 0.4 * (i + 1) / len(names)), (*earlier, *asked))
        )
    with until(desk.settings.compare_seconds, part(progress, 0.4, 1.0), "The comparison") as whole:
        wanted = _wanted(question, asked)
        compared = Compared(question.vary, [], asked)
        for i, (one, method, target, title) in enumerate(wanted):
            if compared.cells and one.query is not None and is_slow(method, one.query.classifier):
                yield _measured(compared)
            whole(i / len(wanted), title)
            compared.cells.append(
                _cell(desk, one, method, target, title, part(whole, i / len(wanted), (i + 1) / len(wanted)))
            )
        yield _measured(compared)


def _checked(question: Comparison) -> Comparison:
    """The same with what varies, known methods, and not more than one of what does not vary."""
    from xaihub import METHODS

    if question.vary not in ("methods", "classes", "models"):
        raise UnknownNameError(f"What varies is 'methods', 'classes' or 'models', not {question.vary!r}.")
    methods = tuple(dict.fromkeys(METHODS[name].name for name in question.methods))
    if not methods:
        raise XaihubError("There is no method to compare. Choose two or more.")
    searching = [METHODS[name].title for name in methods if METHODS[name].shows_pictures]
    if searching:
        raise UnknownNameError(f"{searching[0]} shows pictures of a data set, no map. Choose another method.")
    if question.vary == "models" and not question.other.strip():
        raise XaihubError("There is no second model yet. Paste its id, or compare methods or classes.")
    several = question.vary == "methods"
    return replace(
        question,
        methods=methods[: MOST if several else 1],
        classes=question.classes[: MOST if question.vary == "classes" else 1],
    )


def _wanted(question: Comparison, asked: list[Asked]) -> list[tuple[Asked, str, int | None, str]]:
    """(the pass, the method, the class or None for the predicted one, the title) of each map."""
    from xaihub import METHODS

    if question.vary == "models":
        target = question.classes[0] if question.classes else ""
        return [(one, question.methods[0], _class(one, target), one.plan.repo_id) for one in asked]
    one = asked[0]
    if question.vary == "classes":
        prediction = one.explanation.prediction
        best = np.argsort(-prediction.probabilities, kind="stable")[:CLASSES].tolist()
        classes = [_class(one, name) for name in question.classes] or best
        titles = [
            f"{prediction.labels[i]}, {percent(float(prediction.probabilities[i]))}" for i in dict.fromkeys(classes)
        ]
        return [(one, question.methods[0], i, title) for i, title in zip(dict.fromkeys(classes), titles, strict=True)]
    target = _class(one, question.classes[0] if question.classes else "")
    return [(one, name, target, METHODS[name].title) for name in question.methods]


def _class(asked: Asked, name: str) -> Any:
    """The class's index; None for the predicted one."""
    assert asked.query is not None  # noqa: S101  it was asked just now
    wanted = named_class(name, asked.explanation.prediction.labels)
    return None if wanted is None else asked.query.classifier.class_index(wanted)


def _cell(desk: Desk, asked: Asked, method: str, target: int | None, title: str, progress: Progress) -> Cell:
    """One map; a method that cannot run here says why in its place, and the others go on."""
    from xaihub import METHODS

    if asked.query is None:
        raise XaihubError("These two models do not fit into this host's memory together. Compare smaller ones.")
    with until(desk.settings.compute_seconds, progress, METHODS[method].title) as limited:
        draft = replace(asked, query=asked.query.about(target=target, map=method, progress=limited))
        try:
            shown = desk.show(draft, method)
        except CancelledError:
            raise
        except XaihubError as error:
            shown = Shown((), (str(error),))
    explained = draft.query.target if draft.query else 0
    explanation = replace(asked.explanation, target=explained, evidence={method: shown.evidence})
    return Cell(title, method, explanation, shown, METHODS[method].cost(asked.query.classifier))


def _measured(compared: Compared) -> Compared:
    """A copy with how alike its maps are, on the pixels that all of them show."""
    cells = [compared.cells[i] for i in compared.maps]
    return replace(compared, cells=list(compared.cells), alike=agreement(_on_common_pixels(cells)))


def _on_common_pixels(cells: list[Cell]) -> list[NDArray[np.floating]]:
    """The heatmaps as they are where all lie on one crop; else read on a grid over what their crops share."""
    heatmaps = [cell.evidence.heatmap for cell in cells if cell.evidence is not None]
    maps = [heatmap for heatmap in heatmaps if heatmap is not None]
    crops = [cell.explanation.crop for cell in cells]
    if len({(crop, one.shape) for crop, one in zip(crops, maps, strict=True)}) < 2:
        return list(maps)
    box = common_box(crops, cells[0].explanation.original.size)
    if box is None:
        return []
    return [on_box(one, crop, box, (COMMON, COMMON)) for one, crop in zip(maps, crops, strict=True)]
