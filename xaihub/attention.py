"""Maps from attention: where a transformer's tokens look, layer by layer.

T tokens are the prefix tokens (class token, registers) and the h x w patches, in this order.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from xaihub.calls import attending
from xaihub.classifier import Classifier
from xaihub.errors import TargetLayerError
from xaihub.hooks import evaluating, first_tensor, replace_tensor, watching
from xaihub.maps import map_method
from xaihub.methods import Query

__all__ = ["attention_rollout", "attentions", "blocks_of", "legrad"]


def attentions(classifier: Classifier, pixels: Tensor) -> Tensor:
    """(layers, heads, T, T), the attention weights of one picture; each row sums to one."""
    seen: list[Tensor] = []
    with attending(lambda weights: seen.append(weights.detach()[0].float())):
        classifier.logits(pixels)
    return torch.stack(seen)


def attention_rollout(weights: Tensor) -> Tensor:
    """(T, T), attention rollout (Abnar & Zuidema, 2020, eq. 1): how much of each token arrives at each token.

    Heads are averaged, the residual connection counts as half, and the layers are multiplied.

    Args:
        weights: (layers, heads, T, T).
    """
    tokens = weights.shape[-1]
    mixed = 0.5 * weights.mean(1) + 0.5 * torch.eye(tokens, dtype=weights.dtype, device=weights.device)
    rolled = mixed[0]
    for layer in mixed[1:]:
        rolled = layer @ rolled
    return rolled


@map_method(
    "attention-rollout",
    needs=("attention",),
    title="Attention rollout",
    passes=1,
    claim="Where the answer's token takes its information from, whatever the class",
)
def _attention_rollout(query: Query) -> Tensor:
    """Attention rollout (Abnar & Zuidema, 2020): attention multiplied through all layers. No class enters.

    It starts at the class token, or where there is none at the mean of the patches.
    """
    rolled = query.once("rollout", lambda: attention_rollout(attentions(query.classifier, query.view.pixels)))
    prefix = _prefix(query)
    received = rolled[0] if prefix else rolled.mean(0)
    raw = _on_grid(query, received[prefix:])
    return raw - raw.min()  # every patch keeps a share of itself


def legrad(gradients: Sequence[Tensor]) -> Tensor:
    """(T,), LeGrad (Bousselham et al., 2024, eq. 6 to 8): positive gradients of each layer's score to its attention.

    Averaged over heads, over the tokens that attend, and over the layers.

    Args:
        gradients: (heads, T, T) for each layer, of the score that the network's head gives to what that layer made.
    """
    return torch.stack([gradient.relu().mean((0, 1)) for gradient in gradients]).mean(0)


@map_method("legrad", needs=("attention",), title="LeGrad", passes=4)
def _legrad(query: Query) -> Tensor:
    """LeGrad (Bousselham et al., 2024): how the class's score, read after each layer, rises with its attention.

    Each layer's tokens go through what follows the last layer, so every layer has a score of its own.
    """
    gradients = attention_gradients(query.classifier, query.view.pixels, query.target)
    return _on_grid(query, legrad(gradients)[_prefix(query) :])


def attention_gradients(classifier: Classifier, pixels: Tensor, target: int) -> list[Tensor]:
    """(heads, T, T) for each block: the gradient of the target's logit, read from its tokens, to its attention.

    One pass: each block goes on from the block below without its graph, and after the last one the tokens of all blocks
    go on as a batch.

    Raises:
        TargetLayerError: the network's blocks cannot be told apart, or what follows them takes no batch.
    """
    names = blocks_of(classifier, pixels)
    weights: list[Tensor] = []
    tokens: list[Tensor] = []

    def keep(seen: Tensor) -> Tensor:
        leaf = seen.detach().requires_grad_()
        weights.append(leaf)
        return leaf.clone()

    def go_on(_name: str, output: Any) -> Any:
        tensor = first_tensor(output)
        if tensor is None:
            return None
        tokens.append(tensor)
        return replace_tensor(output, tensor, torch.cat(tokens) if len(tokens) == len(names) else tensor.detach())

    layers = {name: classifier.module.get_submodule(name) for name in names}
    with torch.enable_grad(), evaluating(classifier.module, classifier.lock), watching(layers, go_on), attending(keep):
        try:
            logits = classifier._forward(pixels)
        except RuntimeError as error:
            raise TargetLayerError(_NO_BLOCKS) from error
    if len(logits) != len(names) or len(weights) != len(names):
        raise TargetLayerError(_NO_BLOCKS)
    return [gradient[0].float() for gradient in torch.autograd.grad(logits[:, target].sum(), weights)]


def blocks_of(classifier: Classifier, pixels: Tensor) -> list[str]:
    """The modules that hold one attention each and hand on all tokens, in order: the transformer's blocks.

    Raises:
        TargetLayerError: there are none.
    """
    attended: list[int] = []  # how many modules had ended when each attention ran
    ended: list[tuple[str, bool]] = []  # name, and whether what it gave are all tokens
    count = [0]

    def see(weights: Tensor) -> None:
        attended.append(len(ended))
        count[0] = weights.shape[-1]

    def end(name: str, output: Any) -> None:
        tensor = first_tensor(output)
        ended.append((name, tensor is not None and tensor.ndim == 3 and tensor.shape[1] == count[0]))

    named = {name: layer for name, layer in classifier.module.named_modules() if name}
    with torch.no_grad(), evaluating(classifier.module, classifier.lock), watching(named, end), attending(see):
        classifier._forward(pixels)
    around = [_around(ended[start:stop]) for start, stop in pairwise([*attended, len(ended)])]
    # containers end with the last block they hold: the first block tells how deep a block lies
    depth = min((name.count(".") for name in around[0]), default=0) if around else 0
    blocks = [name for names in around for name in names if name.count(".") == depth]
    if not blocks or len(blocks) != len(attended) or len(set(blocks)) != len(blocks):
        raise TargetLayerError(_NO_BLOCKS)
    return blocks


def _around(ended: Sequence[tuple[str, bool]]) -> list[str]:
    """Of the modules that ended after one attention and before the next, those that surround it and give all tokens."""
    first = ended[0][0] if ended else ""
    return [name for name, whole in ended if whole and first.startswith(f"{name}.")]


_NO_BLOCKS = (
    "LeGrad reads the class's score after every block of a transformer; the blocks of this network cannot be told"
    " apart, or what follows them cannot read them. Attention rollout works."
)


def _prefix(query: Query) -> int:
    layer = query.classifier.target_layer
    return layer.prefix_tokens if layer else 0


def _on_grid(query: Query, patches: Tensor) -> Tensor:
    """(h, w) of a value for each patch."""
    rows, columns = query.activations.shape[1:]
    return patches.view(rows, columns)
