"""The lower part of a network, which stays as it was trained, told from the upper part, which is trained further.

The place is found by measurement, in any network: a module whose output everything that the answer rests on passes
through (a cut of one node, `xaihub.cuts`), above which about the wanted share of the arithmetic lies. Whether the upper
part, given what that module gave, answers as the whole network does is tried before it is used.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from xaihub.cuts import latest_cut
from xaihub.hooks import first_tensor, float_tensors, replace_tensor, watching
from xaihub.tracing import Seen, Trace, trace
from xaihub.training import logits_of, precision

__all__ = ["Tail", "Trunk", "find_trunk"]

_TRIES = 4  # places that are tried, best first
_NEAR = 1.5  # shares that are that many times the wanted one, or a part of it, are as good
_EXACT = 1e-4  # of the largest logit; bfloat16 has three digits


@dataclass(frozen=True, eq=False)
class Trunk:
    """The part of a network that stays as it is.

    Attributes:
        name: of the module after which training begins.
        share: of a pass's floating point operations that lie above it.
        given: what each outermost module up to there gave for one image.
        one: (1, 3, H, W), that image.
    """

    name: str
    share: float
    given: Mapping[str, Any]
    one: Tensor

    @torch.no_grad()
    def maps(self, module: nn.Module, pixels: Tensor) -> Tensor:
        """(n, ...) in float32, what the trunk makes of pixels (n, 3, H, W); what lies above it is not computed."""

        def see(_name: str, output: Any) -> None:
            raise _Reached(output)

        try:
            with watching({self.name: module.get_submodule(self.name)}, see), precision(pixels.device):
                module(pixels)
        except _Reached as reached:
            maps = first_tensor(reached.output)
            if maps is not None:
                return maps.float()
        raise ValueError(f"{self.name} gave no maps: was the network changed since it was looked at?")

    @property
    def in_words(self) -> str:
        return f"the layers above {self.name}, {self.share:.0%} of the arithmetic; the layers up to it are unchanged"


class Tail(nn.Module):
    """The part of a network above its trunk: logits of the trunk's maps. Its parameters are the network's own."""

    def __init__(self, module: nn.Module, trunk: Trunk) -> None:
        super().__init__()
        self.module, self.trunk = module, trunk

    def forward(self, maps: Tensor) -> Any:
        given = dict(self.trunk.given)
        cut = given[self.trunk.name]
        held = first_tensor(cut)
        given = {name: _copied(output) for name, output in given.items() if name != self.trunk.name}
        given[self.trunk.name] = maps if held is None else replace_tensor(cut, held, maps)
        with _answering(self.module, given):
            return self.module(self.trunk.one)


def find_trunk(module: nn.Module, pixels: Tensor, share: float) -> Trunk | None:
    """Where to cut so that about this share of the arithmetic lies above; None where the network has no such place.

    Args:
        module: in evaluation mode.
        pixels: (n, 3, H, W), two or more different images: the tail must answer for each as the whole network does.
        share: above 0; from 1 on there is no trunk.
    """
    if share >= 1:
        return None
    one = pixels[:1]
    found = trace(module, partial(logits_of, module), one)
    ends, above, given = _course_of(module, one)
    for seen in islice(_ranked(found, above, share), _TRIES):
        name = seen.names[-1]  # the outermost: a block, not its last activation
        below = _outermost({each for each, end in ends.items() if end <= ends[name]})
        trunk = Trunk(name, above[name], {each: given[each] for each in (*below - {name}, name)}, one)
        if _exact(module, trunk, pixels):
            return trunk
    return None


def _course_of(module: nn.Module, one: Tensor) -> tuple[dict[str, int], dict[str, float], dict[str, Any]]:
    """Of each module that runs once: when it ended, the share of the arithmetic still to come then, what it gave."""
    ends, spent, given, again = dict[str, int](), dict[str, float](), dict[str, Any](), set[str]()
    counter, order = FlopCounterMode(display=False), count()

    def see(name: str, output: Any) -> None:
        again.update({name} & ends.keys())
        ends[name], spent[name], given[name] = next(order), counter.get_total_flops(), _copied(output)

    with counter, watching({name: part for name, part in module.named_modules() if name}, see), torch.no_grad():
        logits_of(module, one)
    total = max(1, counter.get_total_flops())
    return (
        {name: end for name, end in ends.items() if name not in again},
        {name: 1 - flops / total for name, flops in spent.items() if name not in again},
        given,
    )


def _ranked(found: Trace, above: Mapping[str, float], share: float) -> Iterator[Seen]:
    """Places that everything passes through, best first: near the wanted share the smallest map, else the nearest."""

    def badness(seen: Seen) -> tuple[bool, float, float, int]:
        far = abs(math.log(above[seen.names[-1]] / share))
        size = math.prod(seen.shape) if far <= math.log(_NEAR) else 0
        return far > math.log(_NEAR), size, far, -seen.place  # of equals the end of a block

    places = [
        seen for seen in found.seen if "[" not in seen.names[-1] and seen.reached and above.get(seen.names[-1], 0) > 0
    ]
    ranked = sorted(places, key=badness)  # the search for a cut takes longest, so it comes last, and for few
    return (seen for seen in ranked if latest_cut(found.wires, found.end, [seen.node], 1) is not None)


def _outermost(names: set[str]) -> set[str]:
    """Those that lie in none of the others."""
    return {name for name in names if not any(name.startswith(f"{other}.") for other in names)}


def _exact(module: nn.Module, trunk: Trunk, pixels: Tensor) -> bool:
    with torch.no_grad():
        expected = logits_of(module, pixels)
        try:
            found = logits_of(Tail(module, trunk), trunk.maps(module, pixels))
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):  # it needs more of what lies below
            return False
    digits = _EXACT if pixels.device.type == "cpu" else 2e-2
    return found.shape == expected.shape and bool((found - expected).abs().max() <= digits * expected.abs().max())


def _copied(output: Any) -> Any:
    """The same with copies of its tensors, which may be changed in place."""
    for tensor in float_tensors(output):
        output = replace_tensor(output, tensor, tensor.clone())
    return output


class _Reached(Exception):  # noqa: N818  no error: the pass has come as far as it was wanted
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


@contextmanager
def _answering(module: nn.Module, given: Mapping[str, Any]) -> Iterator[None]:
    """While open, these modules give what is given instead of computing anything."""
    layers = {name: module.get_submodule(name) for name in given}
    before = {name: layer.__dict__.get("forward") for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.__dict__["forward"] = partial(_answer, given[name])
    try:
        yield
    finally:
        for name, layer in layers.items():
            del layer.__dict__["forward"]
            if before[name] is not None:
                layer.__dict__["forward"] = before[name]


def _answer(output: Any, *_inputs: Any, **_named: Any) -> Any:
    return output
