"""Diffusion pipelines with a few channels and random weights, as files of a repository."""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from loopback_hub import LoopbackHub
from safetensors.torch import load, save

torch.set_num_threads(1)  # sums are rounded otherwise by other numbers of threads

SIDE = 32
WEIGHTS = "diffusion_pytorch_model.safetensors"
Files = dict[str, bytes]


@cache
def ddpm() -> Files:
    """An unconditional pipeline, such as google/ddpm-cat-256, but for its size."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=SIDE, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=None,
        )  # fmt: skip
        torch.nn.init.normal_(unet.conv_out.weight, std=0.3)  # else all pictures are the same grey
    return _saved(DDPMPipeline(unet, DDPMScheduler()))


def of_2022(files: Files) -> Files:
    """The same pipeline as repositories of 2022 have it: all at the root, attention by its old names, old versions."""
    old = {path.removeprefix("unet/").removeprefix("scheduler/"): data for path, data in files.items()}
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {_renamed(name, names): weight for name, weight in load(old[WEIGHTS]).items()}
    assert any("proj_attn" in name for name in weights)
    versions = {
        path: json.dumps(json.loads(data) | {"_diffusers_version": "0.1.1"}).encode()
        for path, data in old.items()
        if path.endswith(".json")
    }
    return {**old, **versions, WEIGHTS: save(weights)}


def _renamed(name: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


def pickled(files: Files) -> Files:
    """The same with its weights pickled."""
    return {path.replace(".safetensors", ".bin"): data for path, data in files.items()}


@cache
def text_to_image(*, prudish: bool = False) -> Files:
    """A Stable Diffusion of a few channels, whose tokenizer knows single letters; with a filter against everything."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
        text = CLIPTextConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=64,
            bos_token_id=0, eos_token_id=1, max_position_embeddings=16,
        )  # fmt: skip
        scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)  # what Stable Diffusion asks of one
        parts = {"vae": vae, "text_encoder": CLIPTextModel(text), "tokenizer": _letters(), "unet": unet}
        pipeline = StableDiffusionPipeline(
            **parts, **_filter(prudish), scheduler=scheduler, requires_safety_checker=prudish
        )
    return _saved(pipeline)


def _filter(prudish: bool) -> dict[str, Any]:
    if not prudish:
        return {"safety_checker": None, "feature_extractor": None}
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision = {**sizes, "image_size": 32, "patch_size": 16, "projection_dim": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=sizes, projection_dim=16))
    checker.concept_embeds_weights.data.fill_(-10)  # so far from a picture is none
    size = {"height": 32, "width": 32}
    return {
        "safety_checker": checker,
        "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size),
    }


def _letters() -> Any:
    from transformers import CLIPTokenizer

    letters = [chr(ord("a") + i) for i in range(26)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=16)
    finally:
        shutil.rmtree(folder)


def _saved(pipeline: Any) -> Files:
    folder = Path(tempfile.mkdtemp())
    try:
        pipeline.save_pretrained(folder, safe_serialization=True)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    finally:
        shutil.rmtree(folder)


def add_pipeline(hub: LoopbackHub, repo_id: str, files: Files, licence: str = "apache-2.0") -> str:
    """The commit at which the repository holds the pipeline."""
    card = f"---\nlicense: {licence}\nlibrary_name: diffusers\n---\n".encode()
    return hub.add_files(repo_id, {**files, "README.md": card})


def push_pipeline(hub: LoopbackHub, repo_id: str, *, token: str) -> str:
    """The commit at which the repository holds the unconditional pipeline, pushed by the Hub's own client."""
    from huggingface_hub import HfApi

    folder = Path(tempfile.mkdtemp())
    try:
        for path, data in ddpm().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        api = HfApi(token=token)
        api.create_repo(repo_id, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Add a pipeline").oid)
    finally:
        shutil.rmtree(folder)
