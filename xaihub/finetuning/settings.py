"""How a backbone is fine-tuned, which weights are kept in the end, and what cannot be learned from at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from xaihub.errors import DatasetError

__all__ = ["Calibration", "FineTuning", "Kept", "refuse_too_few"]

FEWEST = 3  # pictures of a class; fewer teach the pictures, not the class
_USUAL_SHARE = 0.25  # fewer layers learn less by heart, and what the lower ones make of an image is computed once
State = dict[str, Tensor]


@dataclass(frozen=True)
class FineTuning:
    """How a backbone is fine-tuned.

    How the defaults were chosen, and what they give beside other settings: docs/PIPELINE.md, `benchmarks/finetuning`.
    """

    seed: int = 0  # of the folds, the pictures' order and how they are varied
    epochs: int = 10  # after the head; 0 trains the head alone. With a validation split it may end earlier
    batch_size: int = 16  # small: a few hundred pictures are still some hundred steps
    learning_rate: float = 1e-4  # a tenth of what is usual from scratch: the network is to be adjusted, not replaced
    trained_share: float | None = None  # of the arithmetic, the upper layers'; None: a quarter, or all if better
    copies: int = 4  # of each picture, varied, that the unchanged layers look at once; eight gave the same
    disk: int = 8 * 2**30  # bytes for what they make of them; beyond, fewer copies, then none are kept
    weight_decay: float = 0.05  # AdamW's usual one
    warm_up: float = 0.1  # the share of the steps over which the learning rate climbs
    label_smoothing: float = 0.0  # none: mixup does what it would do, and better
    mixup: float = 0.5  # up to this share of another picture's maps and label is mixed in: fewer confident mistakes
    head_strength: float = 0.01  # of the first head, the C of logistic regression: weak, fine-tuning does the rest
    head_epochs: int = 5  # of a head that is not one linear layer, and so is trained by gradient
    batch_norm: Literal["frozen", "reestimated"] = "frozen"  # small batches have poor statistics
    averaged: int = 5  # of the last epochs' weights the mean is kept (Izmailov et al., 2018), if no split chooses
    patience: int = 3  # epochs without a lower validation loss before it ends
    shift: float = 0.04  # pictures move by up to this share of their size
    light: float = 0.1  # and get brighter or darker, more or less contrasty by up to this share
    calibration_folds: int = 4  # whose unseen answers the temperature is fitted to, without a validation split
    folds: int = 0  # of a cross-validation beside the training on everything; 0 for none

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch_size", 1), ("head_epochs", 0), ("averaged", 1), ("patience", 1),
                            ("copies", 2), ("disk", 0), ("calibration_folds", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise DatasetError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if self.folds == 1 or self.folds < 0:
            raise DatasetError(
                f"{self.folds} folds leave nothing to train on. Give 2 or more (5 is usual), or 0 for none."
            )
        if not 0 < self.first_share <= 1:
            raise DatasetError(f"A trained share of {self.trained_share} is none. Give one above 0, up to 1 for all.")
        if not 0 <= self.mixup <= 0.5:
            raise DatasetError(f"Mixup of {self.mixup} mixes in more than the half. Give 0 (none) to 0.5.")
        if not 0 < self.learning_rate < 1:
            raise DatasetError(f"A learning rate of {self.learning_rate} trains nothing. Give one such as 1e-4.")
        if self.batch_norm not in ("frozen", "reestimated"):
            raise DatasetError(f"There is no way {self.batch_norm!r} to treat batch norm. Give frozen or reestimated.")

    @property
    def first_share(self) -> float:
        """Of the arithmetic, what is trained before anything else is tried."""
        return _USUAL_SHARE if self.trained_share is None else self.trained_share


def refuse_too_few(name: str, labels: Sequence[str], named: Sequence[str], folds: int = 0) -> None:
    """Nothing, if there are classes to tell apart and pictures enough of each.

    Args:
        name: of the dataset.
        labels: its classes.
        named: the label of each picture.

    Raises:
        DatasetError: there are not.
    """
    if not named:
        raise DatasetError(
            f"{name} has no labels, so there is nothing to learn. Use a split or a column with labels, or put the"
            " pictures into class folders."
        )
    if len(labels) < 2:
        raise DatasetError(
            f"{name} has only one class, {labels[0]!r}, and a classifier needs two to tell apart. Add pictures of"
            " another."
        )
    least = max(FEWEST, folds)
    for label in labels:
        count = sum(each == label for each in named)
        if count < least:
            why = f"{folds} folds need {least}" if folds > FEWEST else f"at least {FEWEST} are needed"
            raise DatasetError(
                f"The class {label!r} of {name} has {count} picture{'s' * (count != 1)}; {why}. Add pictures, or leave"
                f" the class out{', or ask for fewer folds' * (folds > FEWEST)}."
            )


@dataclass(frozen=True)
class Calibration:
    """The temperature that the logits were divided by, for good, in the weights of the head.

    Attributes:
        temperature: 1 where nothing was done.
        source: what it was fitted to, in words; "" where there was nothing.
        why_not: "" if it is in the head, else why it is not.
        before, after: the cross-entropy of those predictions without and with it.
    """

    temperature: float
    source: str
    why_not: str = ""
    before: float | None = None
    after: float | None = None

    @property
    def in_words(self) -> str:
        if self.why_not:
            return f"Not calibrated: {self.why_not}."
        return (
            f"Calibrated by a temperature of {self.temperature:.2f}, from {self.source}; it is in the head's weights."
        )


class Kept:
    """The weights to end with: those of the best epoch, or the mean of the last ones; and what each epoch gave."""

    def __init__(self, settings: FineTuning, judged: bool) -> None:
        self.settings, self.judged = settings, judged
        self.history: list[dict[str, Any]] = []
        self.count = 0  # of the epochs in the mean
        self.weights: State = {}

    @property
    def ended(self) -> bool:
        """Whether the validation loss has not fallen for too long."""
        losses = [row["validation_loss"] for row in self.history] if self.judged else []
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= self.settings.patience

    def add(self, row: dict[str, Any], state: Mapping[str, Tensor]) -> None:
        self.history.append(row)
        if self.judged:
            if row["validation_loss"] == min(earlier["validation_loss"] for earlier in self.history):
                self.weights = {name: tensor.detach().clone() for name, tensor in state.items()}
            return
        if len(self.history) > self.settings.epochs - self.settings.averaged:
            self.count += 1
            self.weights = {name: self._mixed(name, tensor.detach()) for name, tensor in state.items()}

    def _mixed(self, name: str, tensor: Tensor) -> Tensor:
        if self.count == 1 or not tensor.is_floating_point():
            return tensor.clone()
        mean = self.weights[name].to(tensor.device)  # it comes from a file after a restart
        return mean + (tensor - mean) / self.count

    def put(self, module: nn.Module) -> None:
        if self.weights:
            module.load_state_dict(self.weights)

    def state(self) -> State:
        return {f"kept.{name}": tensor for name, tensor in self.weights.items()}

    def restore(self, tensors: State, facts: Mapping[str, Any]) -> None:
        self.history, self.count = list(facts["history"]), int(facts["count"])
        self.weights = {key.removeprefix("kept."): tensors[key] for key in tensors if key.startswith("kept.")}

    @property
    def in_words(self) -> str:
        """Whose weights they are."""
        if not self.history:
            return "the head alone was trained"
        if self.judged:
            best = min(self.history, key=lambda row: row["validation_loss"])["epoch"]
            return f"epoch {best} of {len(self.history)}, which had the lowest loss on the validation split"
        return f"the mean of the last {self.count} of {len(self.history)} epochs"
