"""A question, and an answered question: what a page keeps of them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from xaihub.loading import Plan
    from xaihub.methods import Query
    from xaihub.records import Evidence, Explanation
    from xaihub.references import ReferenceSet
    from xaihub.trusting import Trust

__all__ = ["Asked", "Question", "Shown"]


@dataclass(frozen=True)
class Question:
    """What the boxes said when Explain was pressed.

    Attributes:
        picture: the file that was sent, or its bytes.
        references: a dataset's id, or "".
        limit: how many of its pictures to embed.
        looks: by whose eye they look alike, where they are embedded here: an embedder's name or id.
        target, against: a class as `named_class` reads it, or "".
        token: the visitor's, or "".
    """

    picture: str | bytes
    model: str
    references: str = ""
    limit: int = 200
    target: str = ""
    against: str = ""
    method: str = "gradcam"
    layer: str = ""
    looks: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Shown:
    """What one method showed: its evidence, its remarks, and the seconds it took beyond the shared pass."""

    evidence: "tuple[Evidence, ...]"
    notes: tuple[str, ...]
    seconds: float = 0.0


@dataclass(eq=False)
class Asked:
    """One answered question, of which more can be asked without another pass of the picture.

    Attributes:
        query: None once its classifier had to leave.
        explanation: what is shown now.
        plan: where its classifier came from.
        trouble: why there are no examples beside it, in words.
        told: what was done to its references for this visitor, in words.
        whole: its references with the spaces that no row shows, too.
        reader: the space of `whole` that can be searched with words, or "".
        contrasts: class -> what on the picture speaks for the predicted class rather than that one.
        foreign: references of another classifier, whose pictures can be embedded for this one.
        choices: what was asked: `target`, `against`, `method` and `layer`.
        seen: what was computed already, for choices that come back.
        trusts: how far each map that was shown can be relied on; see `about_map`.
    """

    query: "Query | None"
    explanation: "Explanation"
    plan: "Plan"
    choices: dict[str, str]
    references: "ReferenceSet | None" = None
    trouble: str = ""
    told: str = ""
    whole: "ReferenceSet | None" = None
    reader: str = ""
    contrasts: "dict[str, Evidence]" = field(default_factory=dict)
    foreign: "ReferenceSet | None" = None
    seen: dict[tuple[Any, ...], Shown] = field(default_factory=dict)
    trusts: "dict[tuple[Any, ...], Trust]" = field(default_factory=dict)

    def is_of(self, plan: "Plan", picture: Image.Image) -> bool:
        """Whether it is this picture in this revision of this classifier, and can be asked more."""
        if self.query is None or (self.plan.repo_id, self.plan.revision) != (plan.repo_id, plan.revision):
            return False
        mine = self.query.picture
        return mine.size == picture.size and mine.tobytes() == picture.tobytes()

    @property
    def method(self) -> str:
        """The one whose map is large."""
        return self.choices["method"]
