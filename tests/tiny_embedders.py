"""Networks that describe pictures, small and with random weights, and what transformers itself makes of a picture."""

from typing import Any

import torch
from PIL import Image
from tiny_models import TEXT, TINY, VIT, build, files_of, processor_of
from torch import Tensor

WORDS = ["a", "photo", "of", "black", "white", "cat", "dog", "in", "the", "grass", "."]
LONGEST = 16
CLIP_TEXT = {
    **TEXT, "vocab_size": len(WORDS) + 3, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    "max_position_embeddings": LONGEST,
}  # fmt: skip
# SigLIP projects neither half: its text must be as wide as its pictures
SIGLIP_TEXT = {**CLIP_TEXT, "hidden_size": VIT["hidden_size"], "projection_size": VIT["hidden_size"]}


def tokenizer() -> Any:
    """One token a word, as fast tokenizers are published: tokenizer.json and tokenizer_config.json."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<start>", "<end>", "<unknown>", *WORDS])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unknown>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<start>", eos_token="<end>", pad_token="<end>", unk_token="<unknown>"
    )


def network(name: str, **settings: Any) -> Any:
    """A network of transformers by its class, in eval mode, the same every time."""
    import transformers

    kind = getattr(transformers, name)
    torch.manual_seed(0)
    return kind(kind.config_class(**settings)).eval()


def clip_files(folder: Any) -> dict[str, bytes]:
    """A whole CLIP, as published."""
    model = network("CLIPModel", vision_config=VIT, text_config=CLIP_TEXT, projection_dim=8)
    return files_of(model, processor_of(TINY["clip"]), tokenizer(), folder=folder)


def siglip_files(folder: Any) -> dict[str, bytes]:
    """A whole SigLIP, as published."""
    from transformers import SiglipImageProcessor

    model = network("SiglipModel", vision_config=VIT, text_config=SIGLIP_TEXT)
    return files_of(model, SiglipImageProcessor(size={"height": 64, "width": 64}), tokenizer(), folder=folder)


def siglip2_files(folder: Any) -> dict[str, bytes]:
    """A SigLIP 2 that takes pictures at their own proportions."""
    from transformers import Siglip2ImageProcessor

    seeing = {**VIT, "num_patches": 16}
    model = network("Siglip2Model", vision_config=seeing, text_config=SIGLIP_TEXT)
    return files_of(model, Siglip2ImageProcessor(patch_size=16, max_num_patches=16), tokenizer(), folder=folder)


def backbone_files(name: str, folder: Any) -> dict[str, bytes]:
    """A network that only sees, saved without a head: DINOv2 and CNNs as their authors publish them."""
    from transformers import AutoConfig, AutoModel

    tiny = TINY[name]
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(tiny.kind, **tiny.settings), trust_remote_code=False).eval()
    return files_of(model, processor_of(tiny), folder=folder)


def classifier_files(name: str, folder: Any) -> dict[str, bytes]:
    """A classifier, whose head an embedder leaves away."""
    return files_of(build(TINY[name]), processor_of(TINY[name]), folder=folder)


def plain(folder: Any, kind: str, pictures: list[Image.Image], **options: Any) -> Any:
    """What transformers alone gives for pictures, and its own module."""
    import transformers

    module = getattr(transformers, kind).from_pretrained(folder, **options).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(images=pictures, return_tensors="pt")
    with torch.no_grad():
        see = getattr(module, "get_image_features", module)
        return see(**inputs), module


def unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors)
