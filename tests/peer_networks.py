"""Networks that other libraries can explain too, and what those libraries make of a raw map before they show it."""

import copy

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate


def noise(size=32, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def patterns(size=64, seed=0) -> Image.Image:
    """Structure at several scales: on plain noise all places of a network look alike."""
    generator = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(generator.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((size, size)), float)
        for n in (2, 5, 11, size)
    ]
    return Image.fromarray(np.clip((np.mean(layers, axis=0) - 128) * 2 + 128, 0, 255).astype(np.uint8))


def resnet18(classes: int = 10) -> nn.Module:
    """Random weights, and batch norms that do something: at initialisation they only scale."""
    from torchvision import models

    torch.manual_seed(0)
    net = models.resnet18(weights=None, num_classes=classes)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.7, 1.3)
            nn.init.normal_(part.bias, std=0.2)
    return net.eval()


def in_float64(net: nn.Module) -> nn.Module:
    """The network, which now computes in float64 whatever it is given.

    In float32 each processor's kernels round differently, and a value that rounds to the other side of a ReLU's kink,
    or another largest value of a max pooling, changes a gradient by more than any tolerance.
    """
    net.double().register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
    return net


def smooth(net: nn.Module) -> nn.Module:
    """A copy without kinks: for inputs with noise, which two libraries round differently themselves."""
    copied = copy.deepcopy(net)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.SiLU())
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    return copied


def vit(classes: int = 10) -> nn.Module:
    from torchvision import models

    torch.manual_seed(0)
    net = models.VisionTransformer(64, 16, 4, 4, 64, 128, num_classes=classes)
    nn.init.normal_(net.heads.head.weight)
    return in_float64(net.eval())


def reshape_tokens(prefix, grid):
    return lambda tensor: tensor[:, prefix:].reshape(len(tensor), *grid, -1).permute(0, 3, 1, 2)


def peers(architecture):
    """(network, our layer's name, pytorch-grad-cam's layer, its reshape transform)."""
    from torchvision import models

    if architecture == "resnet18":
        net = in_float64(resnet18())
        return net, "layer4.1", net.layer4[-1], None
    if architecture == "vit":
        net = vit()
        name = "encoder.layers.encoder_layer_2"
        return net, name, net.get_submodule(name), reshape_tokens(1, (4, 4))
    torch.manual_seed(0)
    if architecture == "mobilenet_v2":
        net = in_float64(models.mobilenet_v2(weights=None, num_classes=10, width_mult=0.5))
        return net, "features.18", net.features[-1], None
    net = in_float64(models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=10))
    return net, "permute", net.norm, lambda tensor: tensor.permute(0, 3, 1, 2)  # permute gives NCHW of norm's NHWC


def scaled(maps: torch.Tensor) -> torch.Tensor:
    """As pytorch-grad-cam scales: the smallest value is taken away, so that no map has a zero of its own."""
    low = maps - maps.amin((-2, -1), keepdim=True)
    return low / (low.amax((-2, -1), keepdim=True) + 1e-7)


def as_they_show(raw: torch.Tensor, size: int) -> np.ndarray:
    """Our raw map under their scaling, which takes the smallest value away twice; ours leaves zero at zero."""
    small = scaled(raw.relu())
    return scaled(interpolate(small[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]).numpy()
