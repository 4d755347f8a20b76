"""A network that sees pictures, and perhaps reads words, each as a vector of one space."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from xaihub.costs import PassLimits, pass_cost, refuse_beyond
from xaihub.errors import XaihubError
from xaihub.families.resizing import resize_check

__all__ = ["Tower", "mean", "pooler_output"]

_INPUTS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")  # the latter two are SigLIP 2's
_AT_ONCE = 32
_LONGEST = 1_000  # characters; whoever pastes a book need not wait until it is cut into tokens


@dataclass(frozen=True, eq=False)
class Tower:
    """A network that gives a vector for a picture and, if it was loaded for it, one in the same space for words.

    Attributes:
        kind: what its kind is called by people: CLIP, SigLIP, DINOv2, ResNet.
        parameters: of the part that sees.
        lock: two threads take turns; a processor and a tokenizer keep settings of the call they are in.
    """

    module: Any = field(repr=False)
    processor: Any = field(repr=False)
    pool: Callable[[Any], Tensor] = field(repr=False)
    kind: str
    where: str
    parameters: int
    tokenizer: Any = field(default=None, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def see(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(N, K) of N pictures, of any length; float32, on the CPU, without a graph."""
        parts = [pictures[start : start + _AT_ONCE] for start in range(0, len(pictures), _AT_ONCE)]
        with self.lock, torch.no_grad():
            return torch.cat([self._seen(part) for part in parts]).float().cpu()

    def _seen(self, pictures: Sequence[Image.Image]) -> Tensor:
        each = [self._prepared(picture) for picture in pictures]
        if len({tuple(inputs["pixel_values"].shape) for inputs in each}) > 1:  # a processor that keeps proportions
            return torch.cat([self._forward(inputs) for inputs in each])
        return self._forward({name: torch.cat([inputs[name] for inputs in each]) for name in each[0]})

    def _prepared(self, picture: Image.Image) -> dict[str, Tensor]:
        resize_check(getattr(self.processor, "size", None), getattr(self.processor, "crop_pct", None))(picture.size)
        processed = self.processor(images=picture.convert("RGB"), return_tensors="pt")
        return {name: processed[name].to(self.module.device) for name in _INPUTS if name in processed}

    def _forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self._vectors(self.module, inputs)

    def _vectors(self, network: Any, inputs: dict[str, Tensor]) -> Tensor:
        see = getattr(network, "get_image_features", network)
        return self.pool(see(**inputs)).flatten(1)

    def check_cost(self, limits: PassLimits) -> None:
        """Raise TooLargeError if the pass of an image costs more than these limits allow; told without running it."""
        inputs = self._prepared(Image.new("RGB", (64, 48), "grey"))
        others = {name: value for name, value in inputs.items() if name != "pixel_values"}

        def see(network: nn.Module, pixels: Tensor) -> Tensor:
            return self._vectors(network, {"pixel_values": pixels, **others})

        cost = pass_cost(self.module, see, inputs["pixel_values"])
        if cost is not None:  # no gradient is taken here
            refuse_beyond(replace(cost, opening=cost.ungraded), limits, self.where)

    def read(self, texts: Sequence[str]) -> Tensor:
        """(N, K) of N texts, each of length one, in the space of `see`.

        Each is the mean direction of the words as given and of "a photo of" them: what was learnt from were captions,
        and an ensemble of prompts does better than one (Radford et al., 2021, arXiv:2103.00020, section 3.1.4).

        Raises:
            XaihubError: a text is empty or too long.
        """
        if self.tokenizer is None:
            raise TypeError(f"{self.where} was loaded for pictures only. Load it with words=True.")
        with self.lock, torch.no_grad():
            # SigLIP learnt from lower case, and not all of its tokenizers see to that
            asked = [self._checked(text).lower() for text in texts]
            plain, photo = self._read(asked), self._read([f"a photo of {text}" for text in asked])
        return normalize(normalize(plain) + normalize(photo)).float().cpu()

    def _checked(self, text: str) -> str:
        said = " ".join(text.split())
        if not said:
            raise XaihubError("No words were given to search with. Say what the picture shows, such as 'a black cat'.")
        longest = self.module.config.text_config.max_position_embeddings
        short = len(said) <= _LONGEST
        tokens = len(self.tokenizer(f"a photo of {said.lower()}")["input_ids"]) if short else 0
        if not short or tokens > longest:
            length = f"{tokens} tokens" if tokens else f"{len(said):,} characters"
            raise XaihubError(
                f"{said[:60] + '...'!r} is too long to search with ({length}; {self.where} reads {longest} tokens)."
                " Say it in fewer words."
            )
        return said

    def _read(self, texts: list[str]) -> Tensor:
        config = self.module.config
        if config.model_type.startswith("siglip"):  # it was trained on texts filled up to one length, without a mask
            length = config.text_config.max_position_embeddings
            tokens = self.tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt")
            inputs = {"input_ids": tokens["input_ids"]}
        else:
            tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
            inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        inputs = {name: value.to(self.module.device) for name, value in inputs.items()}
        return pooler_output(self.module.get_text_features(**inputs))


def pooler_output(output: Any) -> Tensor:
    """(N, K) or (N, K, 1, 1), the vector that the network itself makes of its places, projected where it does that."""
    projected = getattr(output, "image_embeds", None)
    pooled = projected if projected is not None else getattr(output, "pooler_output", None)
    return mean(output) if pooled is None else pooled


def mean(output: Any) -> Tensor:
    """(N, K), the last layer's mean over its places: maps (N, K, h, w) or tokens (N, L, K)."""
    hidden: Tensor = output.last_hidden_state
    return hidden.mean((-2, -1)) if hidden.ndim == 4 else hidden.mean(1)
