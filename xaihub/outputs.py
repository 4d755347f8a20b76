"""Outputs of a network, measured: where its answer lies in what it returns, and whether that is logits already.

A network may end in a softmax or a sigmoid of its own; squashed a second time, 0.87 would become 0.68. So its answers
on a few images are looked at, and the calls that gave them. Probabilities are never squashed again.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from xaihub.calls import LastCall, last_calls

__all__ = [
    "LOGITS",
    "Activation",
    "Measured",
    "Reading",
    "StatedActivation",
    "find_answer",
    "measure_outputs",
    "unanswered",
]

Activation = Literal["softmax", "sigmoid"]
StatedActivation = Literal["softmax", "sigmoid", "none"]
Gives = Literal["logits", "probabilities", "log probabilities"]
Path = tuple[str | int, ...]
Run = Callable[[Tensor], tuple[Any, Sequence[LastCall]]]

_ENOUGH = 1e-4  # by how much a row of float32 probabilities may miss a sum of 1
_VARIED = 1e-6  # answers that differ by less between all probes say nothing
_TINY = torch.finfo(torch.float32).tiny
_NEAR_ONE = torch.finfo(torch.float32).eps / 2  # the next number below 1 is so far from it
_STEEP = 16.0  # sigmoid(16) is one or two numbers below 1


@dataclass(frozen=True)
class Reading:
    """The way from what a network returns to logits (N, C).

    Attributes:
        path: keys, attributes and places that lead to the answer; None to look for it each time.
        gives: what the network gives there.
        activation: which activation makes, or made, probabilities of the logits.
        inside: whether the logits are taken from before the network's own last activation, where it can be seen.
        width: how many numbers it gives for each image; 0 where that was not measured.
    """

    path: Path | None = None
    gives: Gives = "logits"
    activation: Activation = "softmax"
    inside: bool = False
    width: int = 0

    def listening(self) -> AbstractContextManager[Sequence[LastCall]]:
        """A context around one pass; what it gives is for `read`."""
        return last_calls() if self.inside else nullcontext(())

    def read(self, output: Any, calls: Sequence[LastCall] = ()) -> Tensor:
        """(N, C) logits in float32, in the graph. One number z is a yes or no: it becomes the two classes (-z, z).

        Of probabilities p they are what their activation was given; where that cannot be seen log p of a softmax and
        log(p / (1 - p)) of a sigmoid, with p kept between the smallest and the largest number below 1.

        Raises:
            ValueError: there is no answer for each image in what the network returned.
        """
        given = _rows(_at(output, self.path)) if self.path is not None else None
        rows = given if given is not None else find_answer(output)[1]
        logits = _before(rows, calls) if self.inside else None
        logits = self._undone(rows.float()) if logits is None else logits.float()
        return torch.cat([-logits, logits], dim=1) if logits.shape[1] == 1 else logits

    def saturated(self, logits: Tensor) -> bool:
        """Return whether the probability behind these logits of one class is 0 or 1 to float precision.

        Then no gradient is left of it. Never where the network's logits themselves can be had.
        """
        if self.gives == "logits" or self.inside:
            return False
        if self.activation == "sigmoid":
            return bool((logits.detach().abs() >= _STEEP).any())
        return bool(((logits.detach() >= -4 * _NEAR_ONE) | (logits.detach() <= math.log(_TINY) + 1)).any())

    @property
    def in_words(self) -> str:
        """One line: "logits, whose softmax is the probability"."""
        if self.gives == "logits":
            return f"logits, whose {self.activation} is the probability"
        explained = "the logits before it" if self.inside else "their logarithm"
        return f"{self.gives} of its own {self.activation}; explained: {explained}"

    def notices(self, labels: Sequence[str]) -> list[str]:
        """Sentences on how its numbers become the probabilities of these classes, where it is not by softmax."""
        if self.width == 1:
            return [f"It answers with one number, read as the probability of {labels[1]!r} against {labels[0]!r}."]
        if self.activation == "sigmoid":
            return ["Its classes do not exclude each other (multi-label): each has a probability of its own."]
        return []

    def _undone(self, rows: Tensor) -> Tensor:
        if self.gives == "logits" or (self.gives == "log probabilities" and self.activation == "softmax"):
            return rows
        shares = rows.exp() if self.gives == "log probabilities" else rows
        logarithm = shares.clamp_min(_TINY).log()
        return logarithm if self.activation == "softmax" else logarithm - torch.log1p(-shares.clamp(0, 1 - _NEAR_ONE))


LOGITS = Reading()  # where nothing was measured


@dataclass(frozen=True)
class Measured:
    """Result of measuring outputs: how to read them, the logits of the first probe, and what to tell."""

    reading: Reading
    logits: Tensor
    notices: tuple[str, ...] = ()


def measure_outputs(
    run: Run,
    probes: Iterable[Tensor],
    widths: Sequence[int],
    *,
    stated: StatedActivation | None = None,
    output: str | int | None = None,
) -> Measured:
    """Measure the reading of a network's answers. One probe is enough for plain logits; others are asked only if not.

    Args:
        run: pixels (1, C, H, W) -> what the network returns, and the `last_calls` of that pass.
        probes: pixels of images, and then of contrasts no image has: logits leave [0, 1] there, probabilities do not.
        widths: the numbers for each image that would fit the labels, the best first.
        stated: what the caller or a config says makes probabilities; "none" where the network gives them.
        output: which part of a dict or tuple is the answer.

    Raises:
        ValueError: several answers are possible and `output` names none, or `stated` contradicts what was measured.
    """
    if stated not in (None, "softmax", "sigmoid", "none"):
        raise ValueError(
            f"There is no activation {stated!r}. Give 'softmax', 'sigmoid', 'none', or None to measure it."
        )
    rest = iter(probes)
    returned, calls = run(next(rest))
    path, rows = find_answer(returned, widths, output)
    found = Reading(path, width=rows.shape[1])
    ending, kind = _ending(rows, calls), _kind_of(rows)
    if kind == "sigmoid" and stated != "none" and not _could_be_bounded(calls):
        kind = ""  # small logits
    certain = ending in ("sigmoid", "logsigmoid") or (ending is not None and ending == kind)
    kind = ending if certain and ending else kind
    count = 1
    if kind and stated != "none":
        answers = [rows, *(_answer(run, pixels, found) for pixels in rest)]
        count = len(answers)
        if not certain and not _all_of_kind(answers, kind):
            kind = ""
    if kind == "sigmoid" and not certain and stated in ("softmax", "sigmoid"):
        kind = ""  # numbers in [0, 1] may be small logits, and somebody knows
    if not kind and stated == "none":
        low, high = rows.min().item(), rows.max().item()
        raise ValueError(
            f"activation='none' says that the network gives probabilities, but on an image it gave numbers from"
            f" {low:.3g} to {high:.3g}. Leave it out, or give 'softmax' or 'sigmoid'."
        )
    reading, notices = _concluded(found, kind, certain, stated, count)
    return Measured(reading, reading.read(returned, calls), notices)


def _concluded(
    found: Reading, kind: str, inside: bool, stated: StatedActivation | None, count: int
) -> tuple[Reading, tuple[str, ...]]:
    if not kind:
        alone = found.width == 1 or stated == "sigmoid"
        return replace(found, activation="sigmoid" if alone else "softmax"), ()
    activation: Activation = "sigmoid" if kind in ("sigmoid", "logsigmoid") else "softmax"
    gives: Gives = "log probabilities" if kind.startswith("log") else "probabilities"
    what = "their exponentials" if gives == "log probabilities" else "they"
    sums = "" if activation == "sigmoid" else " and sum to 1"
    explained = (
        f"What is explained are the logits before its own {activation}."
        if inside
        else "What is explained is their logarithm, which has no gradient where a probability is 0 or 1 in float32."
    )
    notice = (
        f"Its answers are {gives} already (measured on {count} test image{'s' if count > 1 else ''}: {what} lie in"
        f" [0, 1]{sums}), so they are taken as they are, without another activation. {explained}"
    )
    reading = replace(found, gives=gives, activation=activation, inside=inside)
    contradicted = stated in ("softmax", "sigmoid") and stated != activation
    also = (f"{stated!r} was stated for it, but its own last step is a {activation}: that is taken.",)
    return reading, (notice, *(also if contradicted else ()))


def find_answer(output: Any, widths: Sequence[int] = (), wanted: str | int | None = None) -> tuple[Path, Tensor]:
    """Where the answer lies in what a network returned, and the answer as rows (N, C).

    By meaning: what is called `logits`; else what has a number for each label, where one tensor alone has; where
    another is its softmax or sigmoid, the one that was squashed.

    Raises:
        ValueError: nothing could be it, or several could: they are named, and `output` chooses.
    """
    known = [(path, rows) for path, tensor in _tensors(output) if (rows := _rows(tensor)) is not None]
    if wanted is not None:
        chosen = next((entry for entry in known if _name(entry[0]) == str(wanted)), None)
        if chosen is None:
            raise ValueError(f"The network returns no output {wanted!r}. It returns: {_listed(output)}.")
        return chosen
    if not known:
        raise ValueError(f"A classifier answers with logits (N, classes), but this network gave {_listed(output)}.")
    called = [entry for entry in known if entry[0] and str(entry[0][-1]).lower() == "logits"]
    shallow = [entry for entry in called if len(entry[0]) == min(len(path) for path, _ in called)]
    for width in (*widths, None):
        fitting = _distinct([entry for entry in shallow or known if width in (None, entry[1].shape[1])])
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = " or ".join(f"output={_name(path)!r}" for path, _ in fitting[:8])
            raise ValueError(
                f"The network returns {len(fitting)} tensors that could be its answer ({_listed(output)}), and nothing"
                f" says which. Say it: {names}."
            )
    raise AssertionError  # pragma: no cover  the last round takes any width


def _distinct(known: Sequence[tuple[Path, Tensor]]) -> list[tuple[Path, Tensor]]:
    """Without the same numbers a second time, and without another one's probabilities."""
    kept = []
    for place, (path, rows) in enumerate(known):
        again = any(_alike(rows, other) for _, other in known[:place])
        made = any(
            _alike(rows, change(other.float()))
            for _, other in known
            if not _alike(rows, other)
            for change in (_softmax, _log_softmax, torch.sigmoid)
        )
        if not again and not made:
            kept.append((path, rows))
    return kept or list(known)


def _softmax(rows: Tensor) -> Tensor:
    return rows.softmax(1)


def _log_softmax(rows: Tensor) -> Tensor:
    return rows.log_softmax(1)


def _alike(rows: Tensor, others: Tensor) -> bool:
    return rows.shape == others.shape and torch.allclose(rows.detach().float(), others.detach().float(), atol=1e-5)


def _answer(run: Run, pixels: Tensor, reading: Reading) -> Tensor:
    returned, _ = run(pixels)
    rows = _rows(_at(returned, reading.path or ()))
    return rows if rows is not None else find_answer(returned)[1]


def _kind_of(rows: Tensor) -> str:
    """Which activation could have given these rows (N, C), by their numbers alone; "" if none could."""
    values = rows.detach().double()
    slack = max(_ENOUGH, 8 * torch.finfo(rows.dtype).eps)
    if not values.isfinite().all():
        return ""
    for kind, shares in (("softmax", values), ("log_softmax", values.exp())):
        within = bool((shares >= 0).all() and (shares <= 1 + slack).all())
        if within and rows.shape[1] > 1 and bool(((shares.sum(1) - 1).abs() <= slack).all()):
            return kind
    return "sigmoid" if bool((values >= 0).all() and (values <= 1).all()) else ""


def _all_of_kind(answers: Sequence[Tensor], kind: str) -> bool:
    """Return whether all answers could come from that activation, and differ: the same one tells nothing."""
    finite = [rows for rows in answers if rows.isfinite().all()]
    kinds = {_kind_of(rows) for rows in finite}
    varied = torch.cat([rows.detach().double() for rows in finite])
    return kinds == {kind} and bool(((varied.amax(0) - varied.amin(0)) > _VARIED).any())


def _ending(rows: Tensor, calls: Sequence[LastCall]) -> str | None:
    return next((call.kind for call in reversed(calls) if _gave(call, rows)), None)


def _could_be_bounded(calls: Sequence[LastCall]) -> bool:
    """Return whether anything after the last linear map keeps numbers in [0, 1]; also where no call could be seen."""
    return not calls or calls[-1].kind != "linear"


def _before(rows: Tensor, calls: Sequence[LastCall]) -> Tensor | None:
    """Return what the activation that gave these rows was given; None where none is known to have."""
    given = next((call.given for call in reversed(calls) if call.given is not None and _gave(call, rows)), None)
    return None if given is None else given.reshape(rows.shape)


def _gave(call: LastCall, rows: Tensor) -> bool:
    if call.gave is None or call.gave.numel() != rows.numel():
        return False
    gave = call.gave.detach().reshape(rows.shape).to(rows.dtype)
    return torch.allclose(gave, rows.detach(), rtol=0, atol=0, equal_nan=True)


def _tensors(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every floating-point tensor in what a network returned, with the way to it."""
    if torch.is_tensor(output):
        if output.is_floating_point():
            yield path, output
        return
    for key, part in _parts(output):
        yield from _tensors(part, (*path, key))


def _parts(output: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(output, Mapping):
        return [(str(key), part) for key, part in output.items()]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return list(zip(output._fields, output, strict=True))
    if isinstance(output, tuple | list):
        return list(enumerate(output))
    if is_dataclass(output):
        return [(field.name, getattr(output, field.name, None)) for field in fields(output)]
    return [] if isinstance(output, str | bytes | torch.nn.Module) else list(getattr(output, "__dict__", {}).items())


def _at(output: Any, path: Path) -> Any:
    for key in path:
        output = next((part for name, part in _parts(output) if name == key), None)
    return output


def _rows(output: Any) -> Tensor | None:
    """(N, C) of a tensor that holds numbers for each image, (N,) and (N, C, 1, 1) too; None of anything else."""
    if not torch.is_tensor(output) or not output.is_floating_point() or any(size != 1 for size in output.shape[2:]):
        return None
    return output.reshape(len(output), -1) if output.ndim > 1 else output.reshape(-1, 1)


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def _listed(output: Any) -> str:
    """Return what a network returned, in words: names and shapes."""
    if torch.is_tensor(output):
        return f"{str(output.dtype).removeprefix('torch.')} {tuple(output.shape)}"
    known = [f"{_name(path)}: {tuple(tensor.shape)}" for path, tensor in _tensors(output)]
    return ", ".join(known[:8]) if known else type(output).__name__


def unanswered(logits: Tensor, activation: Activation) -> Tensor:
    """(N,) bool: whose logits (N, C) are no answer. Those of a softmax may exclude some classes wholly (-inf)."""
    excluded = logits.isneginf() & (activation == "softmax")
    return ~(logits.isfinite() | excluded).all(1) | excluded.all(1)
