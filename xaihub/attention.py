"""Maps from attention: where a transformer's tokens look, layer by layer.

T tokens are the h x w patches and those at no place (class token, registers), in the order of the target layer.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from xaihub.calls import Weights, attending
from xaihub.classifier import Classifier
from xaihub.errors import TargetLayerError
from xaihub.hooks import evaluating, first_tensor, replace_tensor, watching
from xaihub.maps import evidence, map_method
from xaihub.methods import Query, method
from xaihub.passes import target_layer_of
from xaihub.records import Evidence

__all__ = ["attention_gradients", "attention_rollout", "attentions", "blocks_of", "legrad", "read_tokens"]


def attentions(classifier: Classifier, pixels: Tensor) -> Tensor:
    """(layers, heads, T, T), the weights with which one picture's tokens attend to each other; rows sum to one.

    Raises:
        TargetLayerError: its attention cannot be followed.
    """
    if classifier.no_attention:
        raise TargetLayerError(classifier.no_attention)
    seen: list[Tensor] = []
    with _self_attending(lambda weights: seen.append(weights.detach()[0].float())):
        classifier.logits(pixels)
    return torch.stack(seen)


def read_tokens(classifier: Classifier, pixels: Tensor, target: int, layers: int) -> Tensor:
    """(T,), true for each token that the target's logit is read from after the last of so many attentions.

    Read from the gradient to the last attention: a token that nobody reads has none in its row.
    """
    last: list[Tensor] = []
    ran = [0]

    def see(weights: Tensor) -> Tensor | None:
        ran[0] += 1
        if ran[0] < layers:
            return None
        torch.set_grad_enabled(True)  # from here up; this thread's mode ends with the no_grad block below
        last.append(weights.detach().requires_grad_())
        return last[0].clone()

    with torch.no_grad(), evaluating(classifier.module, classifier.lock), _self_attending(see):
        score = classifier._forward(pixels)[0, target]
    if not score.requires_grad:
        return torch.zeros(last[0].shape[-1], dtype=torch.bool)
    (gradient,) = torch.autograd.grad(score, last)
    return gradient[0].ne(0).any(0).any(-1)


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
    passes=2,
    claim="Where the tokens that the answer is read from take their information, whatever the class",
)
def _attention_rollout(query: Query) -> Tensor:
    """Attention rollout (Abnar & Zuidema, 2020): attention multiplied through all layers. No class enters.

    It starts at the class tokens that the answer is read from, or where there are none at the mean of the patches.
    """
    raw = query.once("rollout", lambda: _rolled(query))
    return raw - raw.min()  # every patch keeps a share of itself


def _rolled(query: Query) -> Tensor:
    """(h, w) of what arrives at the tokens that are read."""
    pixels, view = query.view.pixels, target_layer_of(query.classifier).view
    weights = attentions(query.classifier, pixels)
    read = read_tokens(query.classifier, pixels, query.target, len(weights))
    starts = torch.tensor([token for token in view.tokens_at_none() if read[token]], dtype=torch.long)
    starts = starts if len(starts) else view.tokens_at_places(len(read))
    return _on_grid(query, attention_rollout(weights)[starts.to(weights.device)].mean(0))


def legrad(gradients: Sequence[Tensor]) -> Tensor:
    """(T,), LeGrad (Bousselham et al., 2024, eq. 6 to 8): positive gradients of each layer's score to its attention.

    Averaged over heads, over the tokens that attend, and over the layers.

    Args:
        gradients: (heads, T, T) for each layer, of the score that the network's head gives to what that layer made.
    """
    return torch.stack([gradient.relu().mean((0, 1)) for gradient in gradients]).mean(0)


@method("legrad", needs=("attention",), title="LeGrad", passes=4)
def _legrad(query: Query) -> tuple[Evidence, ...]:
    """LeGrad (Bousselham et al., 2024): how the class's score, read after each layer, rises with its attention.

    Each layer's tokens go through what follows the last layer, so every layer has a score of its own.
    """
    classifier, pixels = query.classifier, query.view.pixels
    try:
        blocks = query.once("blocks", lambda: blocks_of(classifier, pixels))
        gradients = attention_gradients(classifier, pixels, query.target, blocks)
    except TargetLayerError as error:
        query.note("legrad", str(error))
        return ()
    return (evidence(query, "legrad", _on_grid(query, legrad(gradients))),)


def attention_gradients(classifier: Classifier, pixels: Tensor, target: int, blocks: Sequence[str]) -> list[Tensor]:
    """(heads, T, T) for each block: the gradient of the target's logit, read from its tokens, to its attention.

    One pass: each block goes on from the block below without its graph, and after the last one the tokens of all blocks
    go on as a batch.

    Args:
        blocks: of `blocks_of`.

    Raises:
        TargetLayerError: what follows the blocks takes no batch.
    """
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
        return replace_tensor(output, tensor, torch.cat(tokens) if len(tokens) == len(blocks) else tensor.detach())

    layers = {name: classifier.module.get_submodule(name) for name in blocks}
    with (
        torch.enable_grad(),
        evaluating(classifier.module, classifier.lock),
        watching(layers, go_on),
        _self_attending(keep),
    ):
        try:
            logits = classifier._forward(pixels)
        except RuntimeError as error:
            raise TargetLayerError(_NO_BLOCKS) from error
    if len(logits) != len(blocks) or len(weights) != len(blocks):
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
    with torch.no_grad(), evaluating(classifier.module, classifier.lock), watching(named, end), _self_attending(see):
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


def _self_attending(see: Weights) -> AbstractContextManager[None]:
    """`attending`, but only to the attention of all tokens among themselves: not to one that pools them at the end."""
    return attending(lambda weights: see(weights) if weights.shape[-2:-1] == weights.shape[-1:] else None)


def _on_grid(query: Query, tokens: Tensor) -> Tensor:
    """(h, w) of a value for each token."""
    rows, columns = query.activations.shape[1:]
    where = target_layer_of(query.classifier).view.tokens_at_places(len(tokens))
    return tokens[where.to(tokens.device)].view(rows, columns)
