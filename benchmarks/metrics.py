"""Metrics on ResNet-18: to the same number of forwards in full batches, and beside the peers at the same settings.

Every rival has the same picture, the same map and the same steps, or subsets, or copies. What the peers cost for a map,
where a metric asks for maps again, is the same function for all of them: our Grad-CAM.
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision import models

from benchmarks.timing import Call, interleaved, ratio, table
from xaihub import Classifier
from xaihub.cams import heatmaps
from xaihub.hooks import recording
from xaihub.metrics import METRICS, area, both_curves
from xaihub.metrics.randomisation import layers_with_weights, similarities
from xaihub.metrics.road import road_curves

SIZE = 224
TARGET = 1
SHARPNESS = 15.0  # the random head's weights times this: else no class of a thousand is ever probable
STEPS = 224
SHARES = tuple(i / 10 for i in range(1, 10))  # pytorch-grad-cam's percentiles, from the other end


class Bench:
    """One network, one picture and one map, made ready for every rival."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = models.resnet18(weights=None).eval()
        with torch.no_grad():
            self.net.fc.weight.mul_(SHARPNESS)
        labels = [str(i) for i in range(1000)]
        self.classifier = Classifier.from_module(self.net, labels=labels, transform=_transform)
        self.pixels = self.classifier.transform(_patterns())[None] * 4 - 2
        with torch.no_grad():
            self.net.fc.bias.sub_(self.net(self.pixels * 0.5)[0])
            self.net.fc.bias[TARGET] += float((self.net(self.pixels)[0]).max() - self.net(self.pixels)[0, TARGET])
        self.targets = torch.tensor([TARGET])
        ordered = torch.randperm(SIZE * SIZE, generator=torch.Generator().manual_seed(0)) / (SIZE * SIZE)
        smooth = nn.functional.interpolate(ordered.view(1, 1, SIZE, SIZE)[..., ::32, ::32], SIZE, mode="bilinear")
        self.maps = smooth[0] * 0.99 + ordered.view(1, SIZE, SIZE) * 0.001  # a CAM's grain, no two values alike
        self.given = (self.pixels, self.maps, self.targets)

    def ours(self, name: str, classifier: Classifier | None = None, **settings: Any) -> Call:
        return lambda: METRICS[name].run(classifier or self.classifier, *self.given, **settings)

    def forwards(self, count: int, batch: int = 8) -> Call:
        """So many pictures through the network in full batches, made beforehand, and nothing else."""
        pixels = self.pixels.repeat(batch, 1, 1, 1)

        def call() -> None:
            with torch.inference_mode():
                for _ in range(count // batch):
                    self.net(pixels)
                if count % batch:
                    self.net(pixels[: count % batch])

        return call

    def explainer(self, classifier: Classifier, pixels: Tensor, targets: Tensor) -> Tensor:
        return recording(heatmaps)(classifier, pixels, targets)  # captum asks without gradients

    def quantus(self, name: str, explains: bool = False, **settings: Any) -> Call:
        """One of theirs; where it asks for maps again, it makes the first one too, as ours does."""
        import quantus

        plain = {"normalise": False, "abs": False, "disable_warnings": True, "display_progressbar": False}
        metric = getattr(quantus, name)(**(plain | settings))

        def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
            given = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
            raw = heatmaps(replace(self.classifier, module=model), given, torch.as_tensor(targets))
            return nn.functional.interpolate(raw[:, None], SIZE, mode="nearest").numpy()

        def call() -> Any:
            return metric(
                model=self.net, x_batch=self.pixels.numpy(), y_batch=self.targets.numpy(),
                a_batch=None if explains else self.maps[:, None].numpy().copy(), explain_func=explain, device="cpu",
            )  # fmt: skip

        return call


def insertion_and_deletion(rounds: int, steps: int) -> None:
    """Both curves to as many forwards, beside torch-cam's."""
    bench = Bench()
    count = 2 * steps + 2
    calls = {
        f"{count} forwards, batches of 8": bench.forwards(count),
        "xaihub": lambda: both_curves(bench.classifier, *bench.given, steps=steps),
        "torch-cam": _torch_cam(bench, steps),
    }
    _to_the_first(f"Insertion and deletion, {steps} steps", calls, rounds)


def _torch_cam(bench: Bench, steps: int) -> Call:
    from torchcam.methods import GradCAM
    from torchcam.metrics import DeletionInsertionMetric

    net = copy.deepcopy(bench.net)
    extractor = GradCAM(net, target_layer="layer4")
    metric = DeletionInsertionMetric(extractor, lambda logits: logits.softmax(-1), steps=steps, batch_size=8)

    def call() -> dict[str, float]:
        metric.reset()
        metric.update(bench.pixels, TARGET)
        return metric.summary()

    return call


def road(rounds: int) -> None:
    """ROAD combined at nine shares beside pytorch-grad-cam's, and how far the two scores are apart."""
    bench = Bench()
    theirs = _their_road(bench)

    def ours(noise: float = 0.01) -> float:
        found = road_curves(bench.classifier, *bench.given, shares=SHARES, noise=noise).mean(2)[0]
        return float(found[1] - found[0]) / 2

    calls: dict[str, Call] = {"18 forwards": bench.forwards(18), "xaihub": ours, "pytorch-grad-cam": theirs}
    seconds = interleaved(calls, rounds, warm_up=1)
    rows = [[name, f"{ratio(seconds, name, '18 forwards'):.2f}"] for name in calls]
    rows.append(["pytorch-grad-cam to xaihub", f"{ratio(seconds, 'pytorch-grad-cam', 'xaihub'):.2f}"])
    apart = abs(ours(0.0) - float(theirs(noise=0.0)))  # type: ignore[call-arg]
    rows.append(["difference of the two scores, without noise", f"{apart:.1e}"])
    table("ROAD combined, 9 shares", rows, ["", "ratio"])


def _their_road(bench: Bench) -> Callable[..., float]:
    from pytorch_grad_cam.metrics import road as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    asked = [ClassifierOutputSoftmaxTarget(TARGET)]

    def call(noise: float = 0.01) -> float:
        before = peer.NoisyLinearImputer.__init__.__defaults__
        peer.NoisyLinearImputer.__init__.__defaults__ = (noise, peer.neighbors_weights)
        try:
            return float(peer.ROADCombined()(bench.pixels, bench.maps.numpy(), asked, bench.net)[0])
        finally:
            peer.NoisyLinearImputer.__init__.__defaults__ = before

    return call


def beside_the_peers(rounds: int) -> None:
    """Each metric that a peer has as well, to the forwards that it cannot avoid."""
    bench = Bench()
    explainer = {"explainer": bench.explainer}
    layers = len(layers_with_weights(bench.net))

    def randomised(order: str) -> Call:
        return lambda: similarities(bench.classifier, bench.pixels, bench.targets, bench.explainer, order, None)  # type: ignore[arg-type]

    black = bench.pixels.amin()
    rivals: dict[str, tuple[int, Call, dict[str, Call]]] = {
        "pixel flipping, 48 steps": (
            49, bench.ours("pixel-flipping", steps=48),
            {"Quantus": bench.quantus("PixelFlipping", features_in_step=3 * SIZE * SIZE // 48)},
        ),
        "region perturbation, 50 regions": (
            51, bench.ours("region-perturbation", regions=50, fill=black),
            {"Quantus": bench.quantus("RegionPerturbation", patch_size=8, regions_evaluation=50)},
        ),
        "faithfulness correlation, 50 sets": (
            51, bench.ours("faithfulness-correlation", runs=50),
            {"Quantus": bench.quantus("FaithfulnessCorrelation", nr_runs=50, subset_size=3 * SIZE)},
        ),
        "infidelity, 32 squares": (33, bench.ours("infidelity"), {"captum": _captum_infidelity(bench)}),
        "average drop": (2, bench.ours("average-drop"), {"torch-cam": _torch_cam_drop(bench)}),
        "max-sensitivity, 10 copies": (
            11, bench.ours("max-sensitivity", **explainer),
            {"Quantus": bench.quantus("MaxSensitivity", True, nr_samples=10, lower_bound=0.02),
             "captum": _captum_sensitivity(bench)},
        ),
        f"cascading randomisation, {layers} layers": (
            layers + 1, randomised("cascading"), {"Quantus": bench.quantus("MPRT", True, layer_order="top_down")},
        ),
        f"independent randomisation, {layers} layers": (
            layers + 1, randomised("independent"), {"Quantus": bench.quantus("MPRT", True, layer_order="independent")},
        ),
        "random logit": (2, bench.ours("random-logit", **explainer), {"Quantus": bench.quantus("RandomLogit", True)}),
        "sparseness": (1, bench.ours("sparseness"), {"Quantus": bench.quantus("Sparseness", abs=True)}),
        "complexity": (1, bench.ours("complexity"), {"Quantus": bench.quantus("Complexity", abs=True)}),
    }  # fmt: skip
    rows = []
    for name, (count, ours, peers) in rivals.items():
        seconds = interleaved({"forwards": bench.forwards(count), "xaihub": ours} | peers, rounds, warm_up=1)
        own = f"{ratio(seconds, 'xaihub', 'forwards'):.2f}"
        rows += [
            [name, own, peer, f"{ratio(seconds, peer, 'forwards'):.2f}", f"{ratio(seconds, peer, 'xaihub'):.2f}"]
            for peer in peers
        ]
    head = ["metric", "xaihub to its forwards", "peer", "peer to those forwards", "peer to xaihub"]
    table("Each metric beside its peers", rows, head)


def _captum_infidelity(bench: Bench) -> Call:
    from captum.metrics import infidelity

    from xaihub.metrics.subsets import random_squares

    def without(inputs: Tensor) -> tuple[Tensor, Tensor]:
        squares = random_squares(bench.pixels[0], 32)[:, None].float()
        gone = squares[: len(inputs)]
        return gone.expand_as(inputs) / 3, inputs * (1 - gone)

    def probabilities(pixels: Tensor) -> Tensor:
        return bench.net(pixels).softmax(-1)

    maps = bench.maps[:, None].expand_as(bench.pixels)
    return lambda: infidelity(
        probabilities, without, bench.pixels, maps, target=TARGET, n_perturb_samples=32, max_examples_per_batch=8,
        normalize=True,
    )  # fmt: skip


def _captum_sensitivity(bench: Bench) -> Call:
    from captum.metrics import sensitivity_max

    def explain(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        given = inputs[0] if isinstance(inputs, tuple) else inputs
        return (bench.explainer(bench.classifier, given, torch.full((len(given),), TARGET)),)

    return lambda: sensitivity_max(explain, bench.pixels, n_perturb_samples=10)


def _torch_cam_drop(bench: Bench) -> Call:
    from torchcam.methods import GradCAM
    from torchcam.metrics import ClassificationMetric

    metric = ClassificationMetric(
        GradCAM(copy.deepcopy(bench.net), target_layer="layer4"), lambda logits: logits.softmax(-1)
    )

    def call() -> dict[str, float]:
        metric.reset()
        metric.update(bench.pixels, TARGET)
        return metric.summary()

    return call


def fused_forward(rounds: int) -> None:
    """What batch norms folded into their convolutions, and channels last, add to the time and to the scores.

    It is no part of the package: the scores would be those of a network that is not quite the one explained.
    """
    bench = Bench()
    fused = fuse(copy.deepcopy(bench.net)).to(memory_format=torch.channels_last)
    quick = replace(bench.classifier, module=fused)
    calls: dict[str, Call] = {
        "as it is": lambda: both_curves(bench.classifier, *bench.given, steps=56),
        "fused, channels last": lambda: both_curves(quick, *bench.given, steps=56),
    }
    seconds = interleaved(calls, rounds, warm_up=1)
    curves = [torch.cat([area(each) for each in call()]) for call in calls.values()]  # type: ignore[attr-defined]
    roads = [road_curves(one, *bench.given) for one in (bench.classifier, quick)]
    changes = [float((a - b).abs().max()) for a, b in (curves, roads)]
    rows = [
        ["insertion and deletion, fused to as it is", f"{ratio(seconds, 'fused, channels last', 'as it is'):.2f}"],
        ["largest change of a score", f"{max(changes):.1e}"],
    ]
    table("A fused, channels-last forward", rows, ["", ""])


def all_metrics(rounds: int, quick: bool) -> None:
    sys.stderr.flush()
    insertion_and_deletion(max(1, rounds // 3), 28 if quick else STEPS)
    road(max(1, rounds // 3))
    beside_the_peers(max(1, rounds // 3))
    fused_forward(max(1, rounds // 3))


def _to_the_first(title: str, calls: dict[str, Call], rounds: int) -> None:
    seconds = interleaved(calls, rounds, warm_up=1)
    floor = next(iter(calls))
    table(title, [[name, f"{ratio(seconds, name, floor):.3f}"] for name in calls], ["", "ratio"])


def _transform(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.resize((SIZE, SIZE)))).permute(2, 0, 1) / 255


def _patterns() -> Image.Image:
    """Structure at several scales."""
    generator = np.random.default_rng(0)
    layers = [
        np.asarray(Image.fromarray(generator.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((SIZE, SIZE)), float)
        for n in (3, 9, 30, 112)
    ]
    return Image.fromarray(np.clip((np.mean(layers, axis=0) - 128) * 2 + 128, 0, 255).astype(np.uint8))
