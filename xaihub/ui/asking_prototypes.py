"""What the Prototypes page keeps of a question, of its answer, and of what was fitted for it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from xaihub.classifier import Classifier
    from xaihub.loading import Plan
    from xaihub.preprocessing import View
    from xaihub.prototype_firing import Firing, How
    from xaihub.prototype_health import Health, Patch
    from xaihub.prototype_maps import Looked
    from xaihub.prototype_sheet import Sheet
    from xaihub.prototypes import Prototypes, Reading
    from xaihub.records import Prediction
    from xaihub.references import ReferenceSet

__all__ = ["Account", "Fired", "Kept", "Key", "Near", "Recognised", "Step"]

Key = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Kept:
    """A classifier that answers by prototypes, as the shelf keeps it for all visitors.

    Attributes:
        looked: the references as its layer sees them; None where none were chosen.
        references: whose pictures these are: the same object, or it is asked anew.
        own: whether the prototypes came with the model, rather than being fitted here.
    """

    key: Key
    classifier: "Classifier"
    own: bool
    looked: "Looked | None" = None
    references: "ReferenceSet | None" = None
    health: "Health | None" = None

    @property
    def made(self) -> "Prototypes":
        made = self.classifier.prototypes
        assert made is not None  # noqa: S101  nothing else is kept
        return made


@dataclass(frozen=True, eq=False)
class Recognised:
    """One answered question. It holds no network, so one that has to leave is freed.

    Attributes:
        key: of what the shelf keeps for it.
        view: what the classifier saw of the picture. `reading`: the one pass over it.
        said: by the prototypes. `black_box`: by the network itself; None where it has no other answer.
        without: the prototypes that are switched off.
        choices: what was asked: `target`, as the menu has it.
        trouble: why there are no references beside prototypes of its own, in words.
    """

    plan: "Plan"
    key: Key
    view: "View"
    reading: "Reading"
    said: "Prediction"
    black_box: "Prediction | None"
    choices: dict[str, str]
    trouble: str = ""
    without: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """An answer as far as it is there; `measured`: drawn already, of which only the health came later."""

    recognised: Recognised
    kept: Kept
    measured: bool = False


@dataclass(frozen=True, eq=False)
class Account:
    """The sheet of one class: whole, and of what is left without those prototypes that are switched off.

    Attributes:
        after: what the prototypes that are left say.
    """

    whole: "Sheet"
    left: "Sheet"
    after: "Prediction"


@dataclass(frozen=True, eq=False)
class Fired:
    """Where a prototype fires in the picture, by each way to draw it.

    Attributes:
        deletion: how faithful each is; lower is better. `by_lot`: of parts that are taken away by lot.
    """

    prototype: int
    maps: "dict[How, Firing]"
    deletion: "dict[How, float]"
    by_lot: float


@dataclass(frozen=True, eq=False)
class Near:
    """The places of the references that are most like a prototype, and their pictures."""

    prototype: int
    patches: "tuple[Patch, ...]"
    pictures: "tuple[Image.Image | None, ...]" = field(repr=False)
