"""Causes that keep a network from being explained: damaged weights, answers that are no numbers, lost gradients."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from xaihub.errors import UnsupportedModelError
from xaihub.hooks import first_tensor, watching
from xaihub.tracing import Forward

__all__ = [
    "NOT_FINITE", "damage_in_words", "damaged", "refuse_meta", "refuse_not_finite", "why_no_gradient",
    "why_no_module_runs",
]  # fmt: skip

NOT_FINITE = "{who} answers with numbers that are not finite (nan or infinite) for {what}"

_SHOWN = 5  # names of tensors in a message
_ONLY_ANSWER = " Methods that only look at the answer (occlusion, RISE) work."


def damaged(module: nn.Module) -> list[str]:
    """Each parameter with values that are nan or infinite, as "body.weight (1 of 1,728 values)"."""
    return [_counted(name, tensor) for name, tensor in module.named_parameters() if not _finite(tensor)]


def damage_in_words(module: nn.Module) -> list[str]:
    """A sentence on weights that are nan or infinite; none where all are finite."""
    names = damaged(module)
    return [
        f"{len(names)} of its weights' tensors hold values that are not finite, such as {names[0]}: its answers to"
        " other images may be wrong or missing."
    ] if names else []  # fmt: skip


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.detach().isfinite().all())


def _counted(name: str, tensor: Tensor) -> str:
    return f"{name[:100]} ({int((~tensor.detach().isfinite()).sum()):,} of {tensor.numel():,} values)"


def refuse_meta(module: nn.Module, where: str) -> None:
    """Raise UnsupportedModelError if the network has shapes, but no weights."""
    names = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if names:
        raise UnsupportedModelError(
            f"{where} has no weights: {len(names)} of its tensors lie on the device 'meta', such as {names[0][:100]}."
            " Load its weights first (`module.to_empty(device='cpu')`, then `load_state_dict`)."
        )


def refuse_not_finite(module: nn.Module, forward: Forward, pixels: Tensor, where: str) -> None:
    """Raise UnsupportedModelError, naming the damaged tensors; without any, the layer where the numbers are lost.

    Args:
        pixels: (1, C, H, W), for which the network's answer is not finite.
    """
    what = NOT_FINITE.format(who=where, what="a test image")
    tensors = [*damaged(module), *(_counted(n, t) for n, t in module.named_buffers() if t.isnan().any())]
    if tensors:
        raise UnsupportedModelError(
            f"{what}, because {len(tensors)} of its tensors hold such values: {_listed(tensors)}. Its weights are"
            " damaged or its training diverged; use another copy or an earlier checkpoint."
        )
    layer = _first_not_finite(module, forward, pixels)
    where_lost = f" They first appear in the output of {layer!r}." if layer else ""
    kinds = {tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()}
    low = " It runs in half precision: in float32 (`module.float()`) nothing may overflow." if kinds & _HALF else ""
    raise UnsupportedModelError(
        f"{what}, although all of its weights are finite: something overflows, or is divided by zero.{where_lost}{low}"
    )


_HALF = {torch.float16, torch.bfloat16}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _first_not_finite(module: nn.Module, forward: Forward, pixels: Tensor) -> str:
    lost: list[str] = []

    def see(name: str, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and tensor.isnan().any() | tensor.isinf().any():
            lost.append(name)

    with torch.no_grad(), watching({name: part for name, part in module.named_modules() if name}, see):
        forward(pixels)
    return lost[0] if lost else ""


def why_no_gradient(module: nn.Module, forward: Forward, pixels: Tensor, others: Iterable[Tensor]) -> str:
    """Why no gradient of the answer arrives at the pixels, in words; "" where one does.

    Args:
        forward: pixels -> logits (1, C), through the module.
        pixels: (1, C, H, W).
        others: pixels of other images: whether the answer depends on them is measured.
    """
    leaf = pixels.detach().clone().requires_grad_()
    steps: list[_Step] = []

    def see(name: str, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            kind = module.get_submodule(name)._get_name()
            steps.append(_Step(name, kind, tensor, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    with torch.enable_grad(), watching({name: part for name, part in module.named_modules() if name}, see):
        logits = forward(leaf)
    target = logits[0, int(logits[0].argmax())]
    arrived = None
    if target.requires_grad:
        arrived, *gradients = _gradients(target, [leaf, *(step.output for step in steps)])
        steps = [step._replace(reached=gradient is not None) for step, gradient in zip(steps, gradients, strict=True)]
    if arrived is not None and arrived.any():
        return "" if arrived.isfinite().all() else _NOT_FINITE_GRADIENT
    with torch.no_grad():
        changed = [not torch.allclose(forward(other), logits, rtol=1e-5, atol=1e-6) for other in others]
    if not any(changed):
        return _SAME.format(count=len(changed) + 1)
    return _LOST + (_ZERO if arrived is not None else _where_lost(steps)) + _ONLY_ANSWER


class _Step(NamedTuple):
    """Output of a layer in a pass, and which modes it ran in; whether a gradient of the answer reaches its output."""

    name: str
    kind: str
    output: Tensor
    recording: bool
    inference: bool
    reached: bool = False

    @property
    def in_words(self) -> str:
        return f"{self.name!r} ({self.kind})"


_LOST = "No gradient of the answer reaches the pixels, although the answer changes with the image: "
_ZERO = "it is zero everywhere, as where numbers are rounded, compared with a threshold or saturated."
_NOT_FINITE_GRADIENT = (
    "The gradient of the answer at the pixels is not finite, although the answer is: as of a square root or a logarithm"
    " at zero." + _ONLY_ANSWER
)
_SAME = (
    "The answer is the same for {count} images that have nothing in common, so it does not depend on the image, as in a"
    " network whose head is zero or was never trained: there is nothing to explain. Use trained weights."
)


def _gradients(target: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of each, None of those that nothing leads to."""
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    found = iter(torch.autograd.grad(target, wanted, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in tensors]


def _where_lost(steps: Sequence[_Step]) -> str:
    """Return what cut the gradient off, as far as the layers' outputs tell."""
    if not steps:
        return "none of its layers runs where that could be seen, and its code records no gradient."
    quantised = next((step for step in steps if "quantized" in step.kind.lower()), None)
    if quantised is not None:
        return f"its layer {quantised.in_words} is quantised, and such layers have no gradient. Use the float network."
    off = next((step for step in steps if step.inference or not step.recording), None)
    if off is not None:
        mode = "torch.inference_mode" if off.inference else "torch.no_grad"
        return f"it switches gradients off itself ({mode}, found at {off.in_words}). Take that out of its forward."
    unreached = [place for place, step in enumerate(steps) if not step.reached and step.output.requires_grad]
    last = unreached[-1] if unreached else -1
    after = next((step for step in steps if step.reached), next(iter(steps[last + 1 :]), None))
    where = f" after {steps[last].in_words}" if unreached else ""
    where += f" and before {after.in_words}" if after else ""
    return f"it is cut off{where}, as by detach(), .data or a way through NumPy. Take that out of its forward."


def why_no_module_runs(module: nn.Module, forward: Forward, pixels: Tensor) -> str:
    """Why nothing can be seen inside a network that Python does not run layer by layer; "" of any other."""
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return _TORCHSCRIPT + _ANSWER_AND_PIXELS
    ran: list[str] = []

    def see(name: str, output: Any) -> None:
        if first_tensor(output) is not None:
            ran.append(name)

    with torch.no_grad(), watching({name: part for name, part in module.named_modules() if name}, see):
        forward(pixels)
    return "" if ran else _NO_PARTS + _ANSWER_AND_PIXELS


_TORCHSCRIPT = (
    "It is TorchScript (scripted or traced): its layers run outside of Python, where none of their outputs can be seen."
    " Give the network that it was made from."
)
_NO_PARTS = (
    "None of its layers runs as a module (nn.Module) of its own, as after torch.export or in a network of functions, so"
    " none of their outputs can be seen. Give the network that it was made from, or write its steps as modules."
)
_ANSWER_AND_PIXELS = " Methods that look at pixels and answers (input x gradient, occlusion, RISE) work."
