"""What is explained."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from xaihub.calls import attending
from xaihub.costs import SMALL, PassCost, PassLimits, pass_cost, refuse_beyond, watched_pass, without_numbers
from xaihub.errors import TargetLayerError, UnknownNameError
from xaihub.heads import candidates, the_head
from xaihub.hooks import evaluating, first_tensor, recording, watching
from xaihub.preprocessing import Preprocess, Transform
from xaihub.prototypes import Prototypes
from xaihub.records import Prediction
from xaihub.registry import nearest_name
from xaihub.target_layer import TargetLayer, choose_target_layer, layer_named

__all__ = ["Classifier", "read_logits"]

Activation = Literal["softmax", "sigmoid"]
_ATTENTION = 3  # times the weights of all layers are in memory: as they came, stacked, and their gradients
_FEW_CLASSES = 12  # so many are all named where one of them was meant


@dataclass(frozen=True, eq=False)
class Classifier:
    """An image classifier as the rest of the package knows it, wherever it came from.

    Attributes:
        module: the network, called with pixels (N, C, H, W); what it returns is read by `logits`.
        transform: picture -> pixels.
        labels: the classes' names, from `config.id2label`.
        target_layer: where explanations look; None when no layer shows where, and `no_layer` says why.
        activation: softmax, or sigmoid where classes do not exclude each other.
        repo_id, revision: where it came from; the revision is a commit sha for Hub models.
        facts: family, licence, parameters and the like, for people.
        notices: what had to be assumed, in words, for people.
        prototypes: what its answer is made of, where it is one that answers by prototypes; its network is `module`.
        limits: what a pass of it may cost; None on one's own machine, where it is only told.
    """

    module: nn.Module = field(repr=False)
    transform: Transform = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    target_layer: TargetLayer | None = None
    no_layer: str = ""
    activation: Activation = "softmax"
    repo_id: str = "your own network"
    revision: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    prototypes: Prototypes | None = field(default=None, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    limits: PassLimits | None = field(default=None, repr=False)

    @classmethod
    @recording
    def from_module(
        cls,
        module: nn.Module,
        *,
        labels: Sequence[str] | Mapping[int, str],
        transform: Preprocess,
        target_layer: str | None = None,
        **details: Any,
    ) -> "Classifier":
        """A classifier of anyone's own network; the target layer is chosen and proved here.

        Args:
            module: (N, C, H, W) -> logits (N, classes), or an object with `.logits`. It is not changed.
            labels: the classes' names, in the order of the logits.
            transform: picture (RGB, PIL) -> tensor (C, H, W).
            target_layer: a module's name, to choose the layer yourself.
            details: further fields of `Classifier`.

        Raises:
            ValueError: the number of labels is not the number of classes.
            TargetLayerError: there is no layer of that name, or it gives no map.
            TooLargeError: a pass is beyond the `limits` given.
        """
        names = [labels[i] for i in sorted(labels)] if isinstance(labels, Mapping) else list(labels)
        measured = transform if isinstance(transform, Transform) else Transform(transform)
        draft = cls(module, measured, tuple(map(str, names)), **details)
        pixels = measured(_textured_picture())[None]
        draft = replace(draft, notices=(*draft.notices, *draft._check_cost(pixels)))
        classes = draft.logits(pixels).shape[1]
        if len(names) == 1 and classes == 2:  # one logit: yes or no
            draft = replace(draft, labels=(f"not {names[0]}", str(names[0])), activation="sigmoid")
        if len(draft.labels) != classes:
            raise ValueError(f"The network answers with {classes} classes, but {len(names)} labels were given.")
        if target_layer is not None:
            return draft.with_layer(target_layer)
        try:
            return replace(draft, target_layer=choose_target_layer(*draft._tracing()))
        except TargetLayerError as error:
            return replace(draft, no_layer=str(error))

    @cached_property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the pixels that a square picture becomes."""
        return self.transform.input_size

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters(), torch.empty(0)).device

    @property
    def batch(self) -> int:
        """How many pictures at once suit its device: a processor's cache holds the early maps of no more than these."""
        return self.at_once(8 if self.device.type == "cpu" else 32)

    def at_once(self, most: int, size: tuple[int, int] | None = None, *, graph: bool = False) -> int:
        """How many images go through it together: `most`, or as many as the memory of a pass allows.

        Args:
            size: (H, W) of their pixels; None for its own.
            graph: whether a gradient to their pixels is taken.
        """
        cost = self.cost(size or self.input_size)
        each = 1 if cost is None else cost.memory if graph else cost.ungraded
        return max(1, min(most, (self.limits or PassLimits.from_environment()).memory // max(1, each)))

    def cost(self, size: tuple[int, int]) -> PassCost | None:
        """What a pass of one image of (H, W) pixels costs; None where only a real pass tells.

        On one's own machine that of a small image is not counted.
        """
        if self.limits is None and size[0] * size[1] <= SMALL:
            return None
        known, key = _COSTS.setdefault(self.module, {}), (self.transform.channels, *size, self.limits)
        if key not in known:
            pixels = torch.empty((1, self.transform.channels, *size), device="meta")
            known[key] = pass_cost(self.module, _answer, pixels, self.limits)
        return known[key]

    def _check_cost(self, pixels: Tensor) -> tuple[str, ...]:
        """Refuse a first pass that is beyond the limits, before it runs; on one's own machine, say what it costs.

        Raises:
            TooLargeError: it is beyond them.
        """
        size = pixels.shape[2], pixels.shape[3]
        cost, limits = self.cost(size), self.limits
        if limits is None:
            over = cost.beyond(PassLimits.from_environment()) if cost is not None else None
            return (f"It {over[0]}.",) if over else ()
        if cost is None:
            with (
                watched_pass(self.module, limits, self.repo_id),
                torch.enable_grad(),
                evaluating(self.module, self.lock),
            ):
                _answer(self.module, pixels.clone().requires_grad_())
        refuse_beyond(cost, limits, self.repo_id)
        return ()

    @property
    def name(self) -> str:
        """What it is called in records: the repository at its revision."""
        return f"{self.repo_id}@{self.revision[:12]}" if self.revision else self.repo_id

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the weights and of what they are put into, in hex: the same for a folder and its copy on the Hub.

        Empty for a network without weights.
        """
        weights = self.module.state_dict().values()
        digest = hashlib.sha256(repr(self.module).encode())
        for tensor in weights:
            digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest() if weights else ""

    @cached_property
    def head(self) -> str:
        """The name of the linear map that gives the logits; "" where the network ends in another way.

        Asked of the network only where several could be it. Where one alone could, each tapped pass asks whether it is:
        `Pass.entered` is None where the network goes on after it.
        """
        one = 1 if len(self.labels) == 2 and self.activation == "sigmoid" else 0  # a yes or no, see `read_logits`
        known = candidates(self.module, one or len(self.labels))
        if len(known) < 2:
            return next(iter(known), "")
        _, forward, pixels = self._tracing()
        given: list[tuple[str, Tensor]] = []

        def see(name: str, output: Any) -> None:
            if torch.is_tensor(output):
                given.append((name, output.detach()))

        with torch.no_grad(), watching(known, see):
            logits = forward(pixels)
        return the_head(given, logits)

    @cached_property
    def no_attention(self) -> str:
        """Why its attention cannot be followed from the patches to the answer, in words; "" where it can."""
        layer = self.target_layer
        if layer is None or layer.layout != "NLC":
            return "It needs a network whose target layer holds tokens, each of which attends to all others."
        seen = self._attention_shapes()
        tokens = layer.grid[0] * layer.grid[1] + layer.prefix_tokens
        to_all = all(len(shape) == 4 and shape[0] == 1 and shape[-1] == tokens for shape in seen)
        if to_all and any(shape[-2] == tokens for shape in seen):  # besides, one may pool the patches
            needed, limits = _ATTENTION * 4 * sum(map(prod, seen)), self.limits
            if limits is None or needed <= limits.memory:
                return ""
            return (
                f"The attention among its {tokens:,} tokens takes {needed / 1e6:,.0f} MB in all layers; at most"
                f" {limits.memory / 1e6:,.0f} MB are given here (XAIHUB_MAX_PASS_MEGABYTES)."
            )
        return "It needs attention among all the patches in every layer; this network has " + (
            "none that can be seen." if not seen else "windows, or other numbers of tokens, in some of its layers."
        )

    def _attention_shapes(self) -> list[tuple[int, ...]]:
        """Of the weights of each attention, in order; told without numbers where that is possible."""
        seen: list[tuple[int, ...]] = []
        _, forward, pixels = self._tracing()
        with torch.no_grad(), attending(lambda weights: seen.append(tuple(weights.shape))):
            try:
                _answer(without_numbers(self.module), pixels.to("meta"))
            except Exception:  # noqa: BLE001  it looks at numbers
                seen.clear()
                forward(pixels)
        return seen

    def logits(self, pixels: Tensor) -> Tensor:
        """(N, C) in float32, without a graph."""
        with torch.no_grad(), evaluating(self.module, self.lock):
            return self._forward(pixels)

    def score(self, pixels: Tensor, targets: Sequence[int] | Tensor) -> Tensor:
        """(N,), each picture's target logit, with the graph to its pixels."""
        index = torch.as_tensor(targets, dtype=torch.long)
        with torch.enable_grad(), evaluating(self.module, self.lock):
            logits = self._forward(pixels)
        return logits.gather(1, index.to(logits.device)[:, None])[:, 0]

    def predict(self, image: Image.Image) -> Prediction:
        """What it says of an RGB picture."""
        return self.prediction(self.logits(self.transform(image)[None])[0])

    def probabilities(self, logits: Tensor) -> Tensor:
        """The same shape, by the classifier's own activation."""
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1)

    def prediction(self, logits: Tensor) -> Prediction:
        """The record of one picture's logits (C,)."""
        values = self.probabilities(logits.detach().float()).cpu().numpy().astype(np.float32)
        return Prediction(self.labels, values, self.activation)

    def class_index(self, target: str | int) -> int:
        """The index of a label, or of an index that is in range.

        Raises:
            UnknownNameError: there is no such class; the nearest name is offered.
        """
        if isinstance(target, str):
            if target in self.labels:
                return self.labels.index(target)
            if not target.lstrip("-").isdigit():
                near, count = nearest_name(target, list(self.labels)), len(self.labels)
                they = f": {', '.join(self.labels)}" if count <= _FEW_CLASSES else ""
                raise UnknownNameError(f"{self.repo_id} has no class {target!r}.{near} It has {count} classes{they}.")
        if not 0 <= int(target) < len(self.labels):
            raise UnknownNameError(f"{self.repo_id} has classes 0 to {len(self.labels) - 1}, so not {target}.")
        return int(target)

    @recording
    def with_layer(self, name: str) -> "Classifier":
        """The same classifier, explained at another layer.

        Raises:
            TargetLayerError: there is no such layer, or it gives no map.
        """
        known = self.target_layer.alternatives if self.target_layer else ()
        layer = next((known_layer for known_layer in known if known_layer.name == name), None)
        if layer is None:
            layer = layer_named(*self._tracing(), name)
        return replace(self, target_layer=replace(layer, alternatives=known))

    def _tracing(self) -> tuple[nn.Module, Callable[[Tensor], Tensor], Tensor]:
        def forward(pixels: Tensor) -> Tensor:
            with evaluating(self.module, self.lock):
                return self._forward(pixels)

        return self.module, forward, self.transform(_textured_picture())[None]

    def _forward(self, pixels: Tensor) -> Tensor:
        if self.limits is not None:
            refuse_beyond(self.cost((pixels.shape[2], pixels.shape[3])), self.limits, self.repo_id)
        return _answer(self.module, pixels)


_COSTS: WeakKeyDictionary[nn.Module, dict[Any, PassCost | None]] = WeakKeyDictionary()


def _answer(module: nn.Module, pixels: Tensor) -> Tensor:
    weight = next((p for p in module.parameters() if p.is_floating_point()), pixels)
    return read_logits(module(pixels.to(weight.device, weight.dtype, copy=True)))  # it may change it in place


def read_logits(output: Any) -> Tensor:
    """(N, C) from whatever a library's classifier returns.

    One logit is a yes or no: it becomes the two classes (-z, z), whose sigmoids are the two probabilities.
    """
    logits = getattr(output, "logits", None)
    if logits is None:
        logits = getattr(output, "last_hidden_state", None)  # PP-LCNet keeps its logits there
    if logits is None:
        logits = first_tensor(output)
    if logits is None or logits.ndim != 2:
        got = tuple(logits.shape) if logits is not None else type(output).__name__
        raise ValueError(f"A classifier answers with logits (N, classes), but this network gave {got}.")
    logits = logits.float()
    return torch.cat([-logits, logits], dim=1) if logits.shape[1] == 1 else logits


def _textured_picture() -> Image.Image:
    """A fixed picture with structure at every scale: a flat one would leave half of a network silent."""
    generator = np.random.default_rng(0)
    layers = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((256, 256)), dtype=np.float32
        )
        for n in (3, 8, 24, 64, 128)
    ]
    return Image.fromarray(np.clip((np.mean(layers, axis=0) - 128) * 2 + 128, 0, 255).astype(np.uint8))
