"""From a round of the quiz to what the Quiz page shows of it. Knows nothing of gradio, as the desk that it uses."""

import logging
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from xaihub.curated import STARTER
from xaihub.errors import XaihubError, log_failure
from xaihub.progress import Progress, part, until
from xaihub.ui.asking import Question
from xaihub.ui.desk import Desk
from xaihub.ui.desk_references import references_for
from xaihub.ui.settings import Settings
from xaihub.ui.shelf import Shelf, references_bytes
from xaihub.ui.words import label_choices

if TYPE_CHECKING:
    from xaihub.hub import Keeper
    from xaihub.loading import Plan
    from xaihub.quiz import Answer, Asked, Pool, Shown
    from xaihub.references import ReferenceSet

__all__ = ["Kept", "QuizDesk", "Round"]

logger = logging.getLogger(__name__)

STEPS = 6  # of confidence, from pure chance to certainty


@dataclass(frozen=True, eq=False)
class Kept:
    """What the shelf keeps of a round for its visitor: the references, and the pictures that can be asked about."""

    references: "ReferenceSet"
    pool: "Pool"


@dataclass(frozen=True, eq=False)
class Round:
    """A round under way, as a session keeps it: neither a network nor references.

    Attributes:
        key: of what the shelf keeps for it.
        name: a random one, under which answers are stored.
        names: of the classes; where two share one, each carries its index.
        asked: all its questions.
        shown: of the question that is on the page now.
        answers: so far. `agreed`: those that may be stored.
        closed: why nothing of it may be stored, in words, or "".
    """

    plan: "Plan"
    key: tuple[object, ...]
    name: str
    references: str
    names: tuple[str, ...]
    asked: "tuple[Asked, ...]"
    shown: "Shown"
    answers: "tuple[Answer, ...]" = ()
    agreed: "tuple[Answer, ...]" = ()
    closed: str = ""
    place: int = 0

    @property
    def now(self) -> "Asked":
        return self.asked[self.place]

    @property
    def guessed(self) -> bool:
        """Whether the question on the page has its guess."""
        return len(self.answers) > self.place

    @property
    def over(self) -> bool:
        return len(self.answers) == len(self.asked)

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be guessed."""
        return tuple(self.names[index] for index in self.now.choices)

    @property
    def sureness(self) -> tuple[float, ...]:
        """How sure one can be: from a mere guess to certainty."""
        chance = 1 / len(self.now.choices)
        return tuple(round(chance + (1 - chance) * step / (STEPS - 1), 2) for step in range(STEPS))


class QuizDesk:
    """Where rounds are played; one for the whole app, beside the desk whose models it uses."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.kept: Shelf[Kept] = Shelf(desk.settings.references_megabytes * 2**20, _bytes)
        self._writing = threading.Lock()
        self._keeper: Keeper | None = None

    @property
    def folder(self) -> Path:
        """Where answers are stored."""
        from xaihub.downloads import cache_folder

        given = self.desk.settings.quiz_folder
        return Path(given).expanduser() if given else cache_folder() / "quiz"

    def begin(self, question: Question, methods: Sequence[str], count: int, seed: str, progress: Progress) -> Round:
        """A round with its first question.

        Args:
            question: names a model and references.
            seed: a whole number gives the same round to whoever gives it; "" draws one by lot.

        Raises:
            XaihubError: there are no references, too few pictures, or they belong to another classifier.
        """
        from xaihub.quiz import questions

        if not question.references.strip():
            raise XaihubError("A quiz needs references: labelled pictures to ask about. Choose some.")
        progress(0.02, f"Checking {question.model}")
        plan = self.desk.look(question.model, question.token)
        classifier = self.desk.classifier(plan, question.token, part(progress, 0.05, 0.4))
        references = references_for(self.desk, classifier, question, part(progress, 0.4, 0.8))
        references.check(classifier)
        key = (plan.repo_id, plan.revision, id(references))
        kept = self.kept.get(key) or self.kept.put(key, self._kept(plan, references, part(progress, 0.8, 0.9)))
        asked = questions(kept.pool, count, methods, seed=_number(seed))
        shown = self._shown(plan, kept, asked[0], part(progress, 0.9, 1.0))
        names = tuple(label_choices(classifier.labels))
        closed = self._closed(question)
        return Round(plan, key, secrets.token_hex(8), question.references.strip(), names, asked, shown, closed=closed)

    def guessed(self, going: Round, guess: str | None, sure: float | None, *, agreed: bool) -> Round:
        """The round with the guess to its question; stored if its visitor agrees.

        Raises:
            XaihubError: nothing that can be chosen was chosen.
        """
        from xaihub.quiz import Answer

        if going.guessed:
            return going
        if guess not in going.choices or sure not in going.sureness:
            raise XaihubError("Choose what you think that the model answers, and say how sure you are.")
        pool = self._of(going).pool
        label = pool.labels[going.now.row]
        answer = Answer(
            round=going.name,
            day=datetime.now(UTC).date().isoformat(),
            place=going.place + 1,
            model=going.plan.repo_id,
            revision=going.plan.revision or "",
            references=going.references,
            picture=pool.keys[going.now.row],
            method=going.now.method,
            said=going.names[going.shown.prediction.index],
            label=label if label is not None and label in going.names else "",
            guess=guess,
            confidence=sure,
            choices=len(going.choices),
        )
        keeps = agreed and not going.closed
        going = replace(
            going, answers=(*going.answers, answer), agreed=(*going.agreed, answer) if keeps else going.agreed
        )
        if keeps:
            self._store(going.agreed)
        return going

    def next(self, going: Round, progress: Progress) -> Round:
        """The round at its next question; the same where the present one has no guess yet, or was the last.

        Raises:
            XaihubError: the model or the references had to leave.
        """
        if not going.guessed or going.over:
            return going
        shown = self._shown(going.plan, self._of(going), going.asked[going.place + 1], progress)
        return replace(going, shown=shown, place=going.place + 1)

    def everybody(self, going: Round) -> "list[Answer]":
        """What was stored of all who were asked about this model and these references."""
        from xaihub.quiz import read_answers

        about = going.plan.repo_id, going.plan.revision or "", going.references
        return [each for each in read_answers(self.folder) if (each.model, each.revision, each.references) == about]

    def _of(self, going: Round) -> Kept:
        kept = self.kept.get(going.key)
        if kept is None:
            raise XaihubError("The pictures of this round were put away to make room for others. Press Start again.")
        return kept

    def _kept(self, plan: "Plan", references: "ReferenceSet", progress: Progress) -> Kept:
        from xaihub.quiz import pool_of, with_small_pets

        pool, classifier = pool_of(references), self.desk.loaded(plan)
        if references.made.dataset == STARTER and plan.repo_id == STARTER and classifier is not None:
            progress(0.0, "Drawing pets that the starter finds hard")
            pool = with_small_pets(pool, classifier)
        return Kept(references, pool)

    def _shown(self, plan: "Plan", kept: Kept, asked: "Asked", progress: Progress) -> "Shown":
        import xaihub.explaining  # noqa: F401  every method has been registered
        from xaihub.quiz import shown_for

        classifier = self.desk.loaded(plan)
        if classifier is None:
            raise XaihubError("This model was put away to make room for others. Press Start again.")
        with until(self.desk.settings.compute_seconds, progress, "A question") as limited:
            limited(0.0, "Making the next question")
            return shown_for(classifier, kept.references, kept.pool, asked)

    def _closed(self, question: Question) -> str:
        """Why a round is never stored: what is asked about is not open to everybody. Asked without their token."""
        from xaihub import hub

        if not question.token:
            return ""
        name = question.references.strip()
        try:
            self.desk.look(question.model, "")
            if name != STARTER:
                hub.look(hub.clean_repo_id(name), token=False, repo_type="dataset")
        except XaihubError:
            return "The model or the references are not open to everybody, so nothing of this round is stored."
        return ""

    def _store(self, answers: "Sequence[Answer]") -> None:
        """A disk that is full, or a Hub that does not answer, ends no round."""
        from xaihub.hub import Keeper
        from xaihub.quiz import card, write_answers

        settings: Settings = self.desk.settings
        with self._writing:
            try:
                write_answers(self.folder, answers)
                if not (self.folder / "README.md").exists():
                    (self.folder / "README.md").write_text(card(), "utf-8")
            except OSError:
                log_failure(logger, "An answer of the quiz could not be stored in %s", self.folder)
                return
            if settings.quiz_dataset and self._keeper is None:
                self._keeper = Keeper(self.folder, settings.quiz_dataset)
        if self._keeper is not None:
            self._keeper.begin()


def _number(seed: str) -> int:
    """The seed that somebody gave, else one by lot."""
    text = seed.strip()
    if text and not (text.isdecimal() and len(text) <= 9):
        raise XaihubError(f"The number of a round is {text[:40]!r}; it must be a whole number of at most nine digits.")
    return int(text) if text else secrets.randbits(32)


def _bytes(kept: Kept) -> int:
    return references_bytes(kept.references)
