"""The trained share of a network: more than the upper quarter only where unseen images are predicted better by it."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from xaihub.finetuning.calibration import fit_temperature

__all__ = ["Choice", "Tried", "leaves_room", "tried"]

_SIGNS = 6  # answers that all change for the better: by chance 1 in 32 (two-sided sign test)
_RARE = 0.05  # of answers that are wrong: to have fewer is not worth several times the training


@dataclass(frozen=True)
class Tried:
    """The figures of networks with this share of their arithmetic trained, on images that they did not see.

    Attributes:
        share: 1 for all layers.
        images: how many they were asked about.
        right: how many of the answers are.
        log_loss: after the temperature that is best for these answers.
    """

    share: float
    images: int
    right: int
    log_loss: float


def tried(share: float, logits: Tensor, truth: Tensor) -> Tried:
    """Return the figures of these logits (N, C), of images of these classes (N,)."""
    loss = float(cross_entropy(logits.double() / fit_temperature(logits, truth), truth))
    return Tried(share, len(truth), int((logits.argmax(1) == truth).sum()), loss)


def leaves_room(first: Tried) -> bool:
    """Return whether a network that makes half the mistakes could be told from chance, and is worth the time.

    It would put `wrong / 2` answers right and no other wrong: a sign test on as many that changed.
    """
    wrong = first.images - first.right
    return wrong >= 2 * _SIGNS and wrong > _RARE * first.images


@dataclass(frozen=True)
class Choice:
    """The share of the arithmetic that was trained in the end, and why.

    Attributes:
        source: of the answers by which it was chosen, in words.
        first: the usual share.
        compared: the usual share and a larger one, on the images up to the part after which the larger was given up;
            empty where it was not tried.
    """

    source: str
    first: Tried
    compared: tuple[Tried, ...] = ()

    @property
    def share(self) -> float:
        return min(self.compared, key=lambda each: each.log_loss, default=self.first).share

    @property
    def in_words(self) -> str:
        if not self.compared:
            return (
                f"Of {self.first.images} images {self.first.right} were answered rightly ({self.source}) with"
                f" {_layers(self.first)} trained, so few mistakes that training more was not tried."
            )
        first, more = (f"{each.log_loss:.3f} ({each.right} right) with {_layers(each)}" for each in self.compared)
        asked = f"{self.compared[0].images} of {self.first.images} images"
        return f"What is trained was chosen by {self.source}, on {asked} a log loss of {first}, of {more}."


def _layers(each: Tried) -> str:
    return "all layers" if each.share >= 1 else f"the upper {each.share:.0%} of the arithmetic"
