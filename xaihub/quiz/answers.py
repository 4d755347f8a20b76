"""One answer of the quiz: what was shown, what the model said, what the person guessed. Nothing of the person."""

from dataclasses import dataclass

__all__ = ["Answer"]


@dataclass(frozen=True)
class Answer:
    """One guess.

    Attributes:
        round: a random name of the round that it belongs to; it leads to nobody.
        day: as 2026-11-22; the time of day is in no row.
        place: which question of its round, from 1.
        model, revision, references: what was asked about.
        picture: the picture's key among the references.
        method: the explanation that was shown, or "".
        said: what the model answered. `label`: what the dataset says, or "" where that is no class of the model.
        guess: what the person thought that the model answers.
        confidence: of the person, in (0, 1].
        choices: how many classes there were to choose from.
    """

    round: str
    day: str
    place: int
    model: str
    revision: str
    references: str
    picture: str
    method: str
    said: str
    label: str
    guess: str
    confidence: float
    choices: int

    @property
    def hit(self) -> bool:
        """Whether the person knew what the model answers."""
        return self.guess == self.said

    @property
    def wrong(self) -> bool:
        """Whether the model was wrong, as far as that is known."""
        return bool(self.label) and self.said != self.label

    @property
    def trusted(self) -> bool:
        """Whether the person took the model to be right: the guess is what the dataset says."""
        return bool(self.label) and self.guess == self.label
