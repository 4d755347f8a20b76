"""Grad-CAM of ours, pytorch-grad-cam, torch-cam and captum against the floor, in time and in peak memory.

The floor is a forward pass with no graph below the target layer, plus the gradient of the logit to that layer's output.
"""

import gc
import os
import subprocess
import sys
import warnings

import torch
from torchvision import models

from benchmarks.timing import Call, interleaved, ratio, table
from xaihub.cams import heatmaps
from xaihub.classifier import Classifier


def call_for(name: str, architecture: str, batch: int) -> Call:
    """One rival as a call that makes the raw maps of a batch, on a network of its own: peers leave hooks behind."""
    torch.manual_seed(0)
    net = models.get_model(architecture, weights=None).eval()
    pixels = torch.rand(batch, 3, 224, 224)
    targets = [1] * batch
    return _MAKERS[name](net, pixels, targets)


def _forward(net: torch.nn.Module, pixels: torch.Tensor, _targets: list[int]) -> Call:
    def call() -> torch.Tensor:
        with torch.no_grad():
            return net(pixels)

    return call


def _xaihub(net: torch.nn.Module, pixels: torch.Tensor, targets: list[int]) -> Call:
    classifier = Classifier.from_module(net, labels=[str(i) for i in range(1000)], transform=_transform)
    assert classifier.target_layer is not None
    assert classifier.target_layer.name == f"layer4.{len(net.layer4) - 1}"
    return lambda: heatmaps(classifier, pixels, targets, "gradcam")


def _transform(picture: object) -> torch.Tensor:
    import numpy as np

    return torch.from_numpy(np.array(picture.resize((224, 224)))).permute(2, 0, 1) / 255  # type: ignore[attr-defined]


def _floor(net: torch.nn.Module, pixels: torch.Tensor, targets: list[int]) -> Call:
    """The network cut by hand in two parts at the layer: no hook, no copy, no choice left."""
    stem = (net.conv1, net.bn1, net.relu, net.maxpool)
    below = torch.nn.Sequential(*stem, net.layer1, net.layer2, net.layer3, net.layer4)
    index = torch.tensor(targets)[:, None]

    def call() -> torch.Tensor:
        with torch.no_grad():
            held = below(pixels)
        held.requires_grad_()
        logits = net.fc(net.avgpool(held).flatten(1))
        (gradient,) = torch.autograd.grad(logits.gather(1, index).sum(), held)
        return (gradient.mean((-2, -1), keepdim=True) * held.detach()).sum(1)

    return call


def _torch_cam(net: torch.nn.Module, pixels: torch.Tensor, targets: list[int]) -> Call:
    from torchcam.methods import GradCAM

    def call() -> object:
        with GradCAM(net, target_layer=net.layer4[-1]) as extractor:
            return extractor(targets, net(pixels))

    return call


def _captum(net: torch.nn.Module, pixels: torch.Tensor, targets: list[int]) -> Call:
    from captum.attr import LayerGradCam

    peer, index = LayerGradCam(net, net.layer4[-1]), torch.tensor(targets)
    return lambda: peer.attribute(pixels, target=index)


def _pytorch_grad_cam(net: torch.nn.Module, pixels: torch.Tensor, targets: list[int]) -> Call:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    peer = GradCAM(model=net, target_layers=[net.layer4[-1]])
    wanted = [ClassifierOutputTarget(target) for target in targets]
    return lambda: peer(input_tensor=pixels, targets=wanted)


_MAKERS = {
    "forward": _forward,
    "floor": _floor,
    "xaihub": _xaihub,
    "torch-cam": _torch_cam,
    "captum": _captum,
    "pytorch-grad-cam": _pytorch_grad_cam,
}
NAMES = tuple(_MAKERS)


def time_ratios(architectures: tuple[str, ...], batches: tuple[int, ...], rounds: int) -> None:
    rows = []
    for architecture in architectures:
        for batch in batches:
            seconds = interleaved({name: call_for(name, architecture, batch) for name in NAMES}, rounds)
            floor = sorted(seconds["floor"])[rounds // 2] * 1e3 / batch
            ratios = [f"{ratio(seconds, name, 'floor'):.2f}" for name in NAMES]
            rows.append([f"{architecture} b{batch}", f"{floor:.1f}", *ratios])
    table("Grad-CAM, time as a ratio to the floor", rows, ["network", "floor, ms an image", *NAMES])


def peak_ratios(architecture: str, batch: int) -> None:
    """Peak memory of a call over what the process held before, each rival in a process of its own."""
    megabytes = {name: _peak(architecture, batch, name) for name in NAMES}
    floor = megabytes["forward"]
    row = [f"{architecture} b{batch}", *(f"{megabytes[name]:.0f} ({megabytes[name] / floor:.2f})" for name in NAMES)]
    table("Grad-CAM, peak memory in MB (ratio to a forward pass)", [row], ["network", *NAMES])


def _peak(architecture: str, batch: int, name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.gradcam", architecture, str(batch), name]
    # every tensor gets pages of its own and gives them back at once, so that resident memory is what is held
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return float(out.split()[-1])


def report_peak(call: Call) -> None:
    """Prints by how many MB the process grows at most during one call, after one to warm up."""
    call()
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the kernel's record of the peak
    before = _status("VmRSS")
    call()
    print((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(field)).split()[1])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    report_peak(call_for(sys.argv[3], sys.argv[1], int(sys.argv[2])))
