"""A diffusion pipeline, ready to make pictures of given seeds."""

import inspect
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from xaihub import hub
from xaihub.errors import TooLargeError, UnsupportedModelError, XaihubError, first_line
from xaihub.generation.finding import Found, GenerationSettings, device_of
from xaihub.generation.plan import library
from xaihub.generation.watching import Watch
from xaihub.progress import Progress, quietly

__all__ = ["SCHEDULERS", "Painter", "load"]

SCHEDULERS = {
    "ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "pndm": "PNDMScheduler", "euler": "EulerDiscreteScheduler",
    "dpmsolver++": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler",
}  # fmt: skip
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Painter:
    """A loaded pipeline, and how it is called."""

    pipeline: Any
    arguments: Mapping[str, Any]
    takes_batch_size: bool
    scheduler: str

    def paint(self, seeds: Sequence[int], watch: Watch) -> list[Image.Image | None]:
        """A picture for each seed; None where the pipeline's own filter held it back."""
        # one generator a picture, on the CPU: the noise of a seed is the same whatever is beside it, on any device
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        many = {"batch_size": len(seeds)} if self.takes_batch_size else {"num_images_per_prompt": len(seeds)}
        self.pipeline.progress_bar = watch.bar
        try:
            with torch.inference_mode(), _repeatable(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=DeprecationWarning, module="diffusers")  # about its own code
                made = self.pipeline(generator=generators, output_type="pt", **many, **self.arguments)
        except torch.OutOfMemoryError as error:
            raise TooLargeError(
                f"The GPU's memory does not hold a batch of {len(seeds)} pictures. Make fewer at once (--batch), or use"
                " --dtype bfloat16."
            ) from error
        held = getattr(made, "nsfw_content_detected", None) or [False] * len(seeds)
        pictures = [_picture(pixels) for pixels in made.images]
        return [None if flagged else picture for picture, flagged in zip(pictures, held, strict=True)]


def _picture(pixels: Any) -> Image.Image:
    """The picture of a tensor (3, H, W) in [0, 1]; some pipelines cannot make one themselves of bfloat16."""
    if not isinstance(pixels, torch.Tensor):  # an older one, which gives an array (H, W, 3) whatever it is asked for
        pixels = torch.from_numpy(pixels).permute(2, 0, 1)
    eight = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return Image.fromarray(eight.expand(3, -1, -1).permute(1, 2, 0).numpy())


def load(found: Found, settings: GenerationSettings, *, token: hub.Token, progress: Progress) -> Painter:
    """The pipeline, fetched and on its device.

    Raises:
        UnsupportedModelError: it needs what nobody can give, or cannot be loaded.
    """
    kind = _class(found)
    parameters = inspect.signature(kind.__call__).parameters
    arguments = _arguments(found.name, parameters, settings)
    folder = found.folder
    if found.repo is not None:
        _refuse_full_disk(found)
        folder = hub.fetch(found.repo, found.plan.paths, token=token, progress=progress)
    from diffusers.utils import logging

    with quietly(logging), _explained(found.name):
        pipeline = kind.from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, trust_remote_code=False, low_cpu_mem_usage=False
        )
        scheduler = _reschedule(pipeline, settings.scheduler)
        if "prompt" not in parameters:
            _refuse_unfit(found.name, pipeline.scheduler)
        pipeline.to(device_of(settings), _DTYPES[settings.dtype])
        if device_of(settings) == "cpu":  # measured on google/ddpm-cat-256's network: 1.3 times as fast, bfloat16 2.1
            for module in (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)):
                module.to(memory_format=torch.channels_last)
    return Painter(pipeline, arguments, "batch_size" in parameters, scheduler)


def _class(found: Found) -> Any:
    diffusers = library()
    kind = getattr(diffusers, found.plan.class_name, None)
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise UnsupportedModelError(
            f"{found.name} is a {found.plan.class_name}, which diffusers {diffusers.__version__} does not have. Update"
            " diffusers, or use another pipeline."
        )
    return kind


def _arguments(name: str, parameters: Mapping[str, Any], settings: GenerationSettings) -> dict[str, Any]:
    """What the pipeline is called with beside seeds.

    Raises:
        UnsupportedModelError: it wants a prompt and there is none, or the reverse, or something else.
    """
    if "prompt" in parameters and not settings.prompt:
        raise UnsupportedModelError(
            f"{name} makes pictures of a text. Give one with --prompt, such as 'a photograph of a cat'."
        )
    if "prompt" not in parameters and settings.prompt:
        raise UnsupportedModelError(
            f"{name} makes pictures of one kind and takes no text, so the prompt {settings.prompt[:60]!r} would not be"
            " read. Leave it out, or use a text-to-image pipeline."
        )
    needed = [
        given for given, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and given not in ("self", "prompt", "kwargs", "args")
    ]  # fmt: skip
    if needed or "generator" not in parameters or not {"batch_size", "num_images_per_prompt"} & set(parameters):
        wants = f"needs {', '.join(needed)}" if needed else "cannot be given a seed for each of several pictures"
        raise UnsupportedModelError(
            f"{name} {wants}, so it cannot make pictures from seeds alone. Use an unconditional or a text-to-image"
            " pipeline."
        )
    arguments: dict[str, Any] = {"num_inference_steps": settings.steps} if "num_inference_steps" in parameters else {}
    if settings.prompt:
        arguments["prompt"] = settings.prompt
    if settings.size is not None:
        if "height" not in parameters:
            raise UnsupportedModelError(
                f"{name} makes pictures of one size only, so {settings.size} pixels cannot be asked for. Leave the size"
                " out; the dataset is resized anyway."
            )
        arguments |= {"height": settings.size, "width": settings.size}
    return arguments


def _refuse_full_disk(found: Found) -> None:
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())).free
    if found.plan.bytes > free:
        raise TooLargeError(
            f"The pipeline {found.name} has {found.plan.bytes / 2**30:.1f} GB of files, and {free / 2**30:.1f} GB are"
            f" free where they are kept ({cache}). Make room, or use a smaller pipeline."
        )


def _reschedule(pipeline: Any, wanted: str | None) -> str:
    """The name of the scheduler that the pipeline now has."""
    own = getattr(pipeline, "scheduler", None)
    if own is None:
        return ""
    name = SCHEDULERS[wanted] if wanted else ""
    if not name and type(own).__name__ == "DDPMScheduler":
        name = "DDIMScheduler"
    if name and type(own).__name__ != name:
        pipeline.scheduler = getattr(library(), name).from_config(own.config)
    return type(pipeline.scheduler).__name__


def _refuse_unfit(name: str, scheduler: Any) -> None:
    """Unconditional pipelines hand their pictures to the network unscaled, which some schedulers count on."""
    takes = inspect.signature(scheduler.step).parameters
    if float(getattr(scheduler, "init_noise_sigma", 1)) != 1 or "generator" not in takes:
        raise UnsupportedModelError(
            f"{name} is not made for a {type(scheduler).__name__}: it would give noise. Use --scheduler ddim, ddpm or"
            " dpmsolver++."
        )


@contextmanager
def _repeatable() -> Iterator[None]:
    """The same sums in the same order each time, also on a GPU."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns whatever diffusers raises over a stranger's files into a sentence about them."""
    try:
        yield
    except XaihubError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{name} cannot be loaded as a pipeline ({type(error).__name__}: {first_line(error, 200)}). Use another"
            " pipeline, or another scheduler, dtype or device."
        ) from error
