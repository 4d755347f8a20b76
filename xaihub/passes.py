"""The one place where a network is touched: a pass through it that keeps what explanations need."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaihub.classifier import Classifier
from xaihub.errors import TargetLayerError
from xaihub.heads import answers, as_vectors
from xaihub.hooks import entering, evaluating, first_tensor, part_of, replace_tensor, watching
from xaihub.target_layer import TargetLayer
from xaihub.tracing import finest_grid, from_maps, side_by_side, to_maps

__all__ = ["Pass", "listening", "replay", "slices", "tap", "target_layer_of"]


class Pass:
    """One forward pass that was tapped at one or more layers: N pictures.

    Attributes:
        logits: (N, C), with the graph above the first of the layers.
        layers: as they were asked for.
        calls: how often each of them ran; what it gave last is what counts.
        entered: what entered the classifier's head, in the graph; None where no head is known, or what it gave is not
            the logits: the network goes on after it, or it is none.
    """

    def __init__(
        self,
        logits: Tensor,
        kept: Sequence[Tensor],
        layers: Sequence[TargetLayer],
        input_size: tuple[int, int],
        calls: Mapping[str, int],
        entered: Tensor | None = None,
    ) -> None:
        self.logits = logits
        self.layers = tuple(layers)
        self.calls = calls
        self.entered = entered
        self._kept = tuple(kept)
        self._input_size = input_size

    @property
    def activations(self) -> Tensor:
        """(N, K, h, w) out of the graph, float32; of several layers side by side on the finest of their grids."""
        return side_by_side(self._maps(self._kept))

    def gradients(self, targets: Tensor | Sequence[int]) -> Tensor:
        """(N, K, h, w) of each picture's target logit to the activations.

        Raises:
            TargetLayerError: the logit does not depend on the layer.
        """
        return self.gradients_of(self.score(targets))

    def gradients_of(self, score: Tensor) -> Tensor:
        """(N, K, h, w) of any sum (N,) of logits to the activations; pictures do not mix, so one backward serves all.

        A coarse layer's gradient is shared out among the finer places that stand for one of its own, so that
        activations times gradients add up to the same.
        """
        maps = self._maps(self._gradients(score))
        finest = finest_grid(maps)
        return side_by_side([each / _standing_for(each, finest) for each in maps])

    def by_layer(self, targets: Tensor | Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Activations and gradients (N, K, h, w) of each layer on its own grid, from one backward pass."""
        gradients = self._maps(self._gradients(self.score(targets)))
        return list(zip(self._maps(self._kept), gradients, strict=True))

    def beside(self, targets: Tensor | Sequence[int]) -> Tensor:
        """(N,), gradient times activation of all tokens at no place: what the target logits owe to them."""
        shares = [torch.zeros(len(self.logits), device=self.logits.device)]
        for kept, gradient, layer in zip(self._kept, self._gradients(self.score(targets)), self.layers, strict=True):
            if others := layer.view.tokens_at_none():
                terms = (kept.detach() * gradient).float()
                shares.append(terms[:, others].sum((1, 2)))
        return torch.stack(shares).sum(0)

    def score(self, targets: Tensor | Sequence[int]) -> Tensor:
        """(N,), the logit of each picture's target."""
        index = torch.as_tensor(targets, dtype=torch.long, device=self.logits.device)
        return self.logits.gather(1, index[:, None])[:, 0]

    @property
    def embedding(self) -> Tensor:
        """(N, K), the mean of the activations over the places."""
        return torch.cat([maps.mean((-2, -1)) for maps in self._maps(self._kept)], dim=1)

    @property
    def penultimate(self) -> Tensor | None:
        """(N, D), what the classifier's head reads of each picture; None where no head above the layer is known."""
        known = self.entered if self.entered is not None and self.entered.requires_grad else None
        vectors = None if known is None else as_vectors(known)
        return None if vectors is None else vectors.detach().float()

    def head_gradients(self, score: Tensor) -> Tensor | None:
        """(N, D) of a sum (N,) of logits to what the head reads: of a linear head, the rows of its weights."""
        if self.entered is None or self.penultimate is None:
            return None
        (found,) = torch.autograd.grad(score.sum(), [self.entered], retain_graph=True, materialize_grads=True)
        return (found.sum((2, 3)) if found.ndim == 4 else found).float()

    def _gradients(self, score: Tensor) -> list[Tensor]:
        found: Sequence[Tensor | None] = [None] * len(self._kept)
        if score.requires_grad:
            found = torch.autograd.grad(score.sum(), self._kept, retain_graph=True, allow_unused=True)
        if all(gradient is None for gradient in found):
            names = " + ".join(layer.name for layer in self.layers)
            raise TargetLayerError(f"The answer does not depend on layer {names}. Choose another layer.")
        return [
            torch.zeros_like(kept) if gradient is None else gradient
            for kept, gradient in zip(self._kept, found, strict=True)
        ]

    def _maps(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """(N, K, h, w) of each layer's raw output."""
        return [
            to_maps(output.detach(), layer.view, self._input_size).float()
            for output, layer in zip(outputs, self.layers, strict=True)
        ]


def _standing_for(maps: Tensor, finest: tuple[int, int]) -> Tensor:
    """(h, w), how many places of the finest grid take the value of each place: not all alike on 3 beside 4."""

    def along(coarse: int, fine: int) -> Tensor:
        places = torch.arange(coarse, dtype=torch.float32)[None, None]
        taken = interpolate(places, fine, mode="nearest-exact")[0, 0].long()
        return torch.bincount(taken, minlength=coarse).clamp_min(1)

    rows, columns = along(maps.shape[2], finest[0]), along(maps.shape[3], finest[1])
    return (rows[:, None] * columns).to(maps)


def slices(count: int, size: int) -> Iterator[slice]:
    """So many things in order, at most `size` at once: what goes through a network together."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def target_layer_of(classifier: Classifier) -> TargetLayer:
    """The layer that is explained.

    Raises:
        TargetLayerError: the classifier has no layer that shows where.
    """
    if classifier.target_layer is None:
        raise TargetLayerError(classifier.no_layer or f"No target layer was chosen for {classifier.repo_id}.")
    return classifier.target_layer


@contextmanager
def listening(
    classifier: Classifier, layers: Sequence[TargetLayer], heard: Callable[[str, Tensor, Any], Any]
) -> Iterator[Callable[[Tensor], Tensor]]:
    """While open, gives `run(pixels)` -> logits (N, C) that calls `heard` each time one of the layers ran.

    It records no graph unless `heard` asks for one. The classifier is left as it was: no hook, no mode, no gradient of
    a parameter. Safe from several threads.

    Args:
        heard: (a layer's name, its tensor, all that its module gave) -> what goes on in place of the last, or None.
    """
    ran: set[str] = set()

    def hear(name: str, output: Any) -> Any:
        tensor = first_tensor(output, part_of(name)[1])
        if tensor is None:
            raise TargetLayerError(f"Layer {name} gave no tensor. Choose another layer.")
        ran.add(name)
        return heard(name, tensor, output)

    def run(pixels: Tensor) -> Tensor:
        ran.clear()
        with torch.no_grad():
            logits = classifier._forward(pixels)
        silent = [layer.name for layer in layers if layer.name not in ran]
        if silent:
            these = "this picture" if len(pixels) == 1 else "these pictures"
            raise TargetLayerError(f"Layer {silent[0]} did not run for {these}. Choose another layer.")
        return logits

    watched = {layer.name: classifier.module.get_submodule(part_of(layer.name)[0]) for layer in layers}
    with evaluating(classifier.module, classifier.lock), watching(watched, hear):
        yield run


@contextmanager
def tap(classifier: Classifier, layers: Sequence[TargetLayer] = ()) -> Iterator[Callable[[Tensor], Pass]]:
    """While open, gives `run(pixels) -> Pass`; the only place where a classifier is explained by touching it.

    Below the first layer nothing is recorded. There its raw output becomes the leaf that gradients are taken to,
    and the network goes on with a copy, so a later in-place operation cannot overwrite what we hold.

    Args:
        layers: what to keep; the target layer if none are named.

    Raises:
        TargetLayerError: the classifier has no layer that shows where.
    """
    layers = tuple(layers) or target_layer_of(classifier).layers
    head = classifier.module.get_submodule(classifier.head) if classifier.head else None
    kept: dict[str, Tensor] = {}
    entered: list[Any] = []
    given: list[Any] = []
    calls: Counter[str] = Counter()

    def give(_name: str, output: Any) -> None:
        given.append(output.detach().clone() if torch.is_tensor(output) else None)  # what follows may overwrite it

    def keep(name: str, tensor: Tensor, output: Any) -> Any:
        calls[name] += 1
        torch.set_grad_enabled(True)  # from here up; this thread's mode ends with the pass
        # of a layer that runs several times the last call counts; one above another layer stays in its graph
        kept[name] = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        return replace_tensor(output, tensor, kept[name].clone())

    def run(pixels: Tensor) -> Pass:
        kept.clear()
        entered.clear()
        given.clear()
        calls.clear()
        logits = forward(pixels)
        tensors, size = [kept[layer.name] for layer in layers], (pixels.shape[2], pixels.shape[3])
        return Pass(logits, tensors, layers, size, dict(calls), _read(entered, given, logits))

    with ExitStack() as watched:
        if head is not None:
            watched.enter_context(entering(head, entered.append))
            watched.enter_context(watching({classifier.head: head}, give))
        forward = watched.enter_context(listening(classifier, layers, keep))
        yield run


def _read(entered: Sequence[Any], given: Sequence[Any], logits: Tensor) -> Tensor | None:
    """What entered the head when it ran last, if what it then gave is the answer."""
    if not entered or not given or not torch.is_tensor(entered[-1]) or given[-1] is None:
        return None
    return entered[-1] if answers(given[-1], logits) else None


def replay(classifier: Classifier, passed: Pass, pixels: Tensor, change: Callable[[int, Tensor], Tensor]) -> Tensor:
    """(B, C) logits of the network with other maps at its target layer; only what lies above runs B times.

    Where a network cannot go on with more pictures than it began with, all of it runs B times: the same, but slower.

    Args:
        passed: an earlier pass of the same pixels.
        pixels: (1, 3, H, W).
        change: (index of the layer, its maps (1 or B, K, h, w)) -> maps (B, K, h, w).
    """
    size, count = (pixels.shape[2], pixels.shape[3]), [0]
    layers = {layer.name: (i, layer) for i, layer in enumerate(passed.layers)}
    calls: Counter[str] = Counter()

    def exchange(name: str, output: Any) -> Any:
        calls[name] += 1
        tensor = first_tensor(output, part_of(name)[1])
        if tensor is None or calls[name] != passed.calls[name]:
            return None
        index, layer = layers[name]
        maps = change(index, to_maps(tensor, layer.view, size))
        count[0] = len(maps)
        given = from_maps(maps.to(tensor.dtype), tensor, layer.view)
        # what comes next may ask for a view of it, as of the layer's own output
        return replace_tensor(output, tensor, given.contiguous() if tensor.is_contiguous() else given)

    def run(given: Tensor) -> Tensor:
        calls.clear()
        with torch.no_grad(), evaluating(classifier.module, classifier.lock), watching(watched, exchange):
            return classifier._forward(given)

    watched = {name: classifier.module.get_submodule(part_of(name)[0]) for name in layers}
    try:
        logits = run(pixels)
        if len(logits) == count[0]:
            return logits
    except (RuntimeError, ValueError, AssertionError):  # it remembered how many pictures there were below
        pass
    return run(pixels.expand(count[0], -1, -1, -1))
