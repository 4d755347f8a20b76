"""Every map's time on ResNet-18: gradient CAMs to their floor, the others to the passes that they cannot avoid."""

import sys

import numpy as np
import torch
from PIL import Image
from torchvision import models

from benchmarks.gradcam import call_for
from benchmarks.timing import Call, interleaved, ratio, table
from xaihub import METHODS, Classifier, Query
from xaihub.cams import several

GRADIENT_CAMS = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigengradcam")
SIX = ", ".join(GRADIENT_CAMS)


class Bench:
    """One network and one picture, made ready for every rival."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = models.resnet18(weights=None).eval()
        labels = [str(i) for i in range(1000)]
        self.classifier = Classifier.from_module(self.net, labels=labels, transform=_transform)
        noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
        self.picture = Image.fromarray(noise)
        self.pixels = self.classifier.transform(self.picture)[None]

    def forwards(self, batch: int, count: int) -> Call:
        """So many pictures through the network in batches, and nothing else."""
        pixels = self.pixels.repeat(batch, 1, 1, 1)

        def call() -> None:
            with torch.inference_mode():
                for _ in range(-(-count // batch)):
                    self.net(pixels)

        return call

    def ours(self, name: str) -> Call:
        """A method on a picture that was never asked about: its first pass counts as well."""
        return lambda: METHODS[name].run(Query(self.classifier, self.picture, target=1))

    def peer(self, name: str) -> Call:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        net = models.resnet18(weights=None).eval()  # of its own: peers leave hooks behind
        net.load_state_dict(self.net.state_dict())
        peer = getattr(pytorch_grad_cam, name)(model=net, target_layers=[net.layer4[-1]])
        return lambda: peer(input_tensor=self.pixels, targets=[ClassifierOutputTarget(1)])


def gradient_cams(rounds: int) -> None:
    """Each gradient CAM, and six of them together, to the floor."""
    bench = Bench()
    calls = {"floor": call_for("floor", "resnet18", 1)}
    calls |= {
        name: (lambda name=name: several(bench.classifier, bench.pixels, [1], [name])) for name in (*GRADIENT_CAMS,)
    }
    calls["all six"] = lambda: several(bench.classifier, bench.pixels, [1], GRADIENT_CAMS)
    seconds = interleaved(calls, rounds)
    rows = [[name, f"{ratio(seconds, name, 'floor'):.2f}", f"{ratio(seconds, name, 'gradcam'):.2f}"] for name in calls]
    table("Gradient CAMs on ResNet-18, one picture", rows, ["map", "to the floor", "to Grad-CAM alone"])


def eigen_cam(rounds: int) -> None:
    """Eigen-CAM to a forward pass."""
    bench = Bench()
    calls = {
        "forward": bench.forwards(1, 1),
        "xaihub": lambda: several(bench.classifier, bench.pixels, [1], ["eigencam"]),
        "pytorch-grad-cam": bench.peer("EigenCAM"),
    }
    seconds = interleaved(calls, rounds)
    rows = [[name, f"{ratio(seconds, name, 'forward'):.2f}"] for name in calls]
    table("Eigen-CAM on ResNet-18, to a forward pass", rows, ["", "ratio"])


def ablation_cam(rounds: int) -> None:
    """Ablation-CAM beside pytorch-grad-cam's, and how far the two maps are apart."""
    bench = Bench()
    calls = {"forward": bench.forwards(1, 1), "xaihub": bench.ours("ablationcam"), "peer": bench.peer("AblationCAM")}
    ours = interleaved({name: calls[name] for name in ("forward", "xaihub")}, rounds)
    theirs = interleaved({name: calls[name] for name in ("xaihub", "peer")}, 1, warm_up=0)
    rows = [
        ["xaihub, to a forward pass", f"{ratio(ours, 'xaihub', 'forward'):.1f}"],
        ["pytorch-grad-cam, to xaihub", f"{ratio(theirs, 'peer', 'xaihub'):.0f}"],
        ["largest difference of the two maps, scaled to [0, 1]", f"{_difference(bench):.1e}"],
    ]
    table("Ablation-CAM on ResNet-18 (512 channels)", rows, ["", "ratio"])


def _difference(bench: Bench) -> float:
    (evidence,) = METHODS["ablationcam"].run(Query(bench.classifier, bench.picture, target=1))
    theirs = torch.from_numpy(bench.peer("AblationCAM")()[0])
    from torch.nn.functional import interpolate

    raw = torch.from_numpy(evidence.raw).relu()
    scaled = (raw - raw.min()) / (1e-7 + (raw - raw.min()).max())  # as the peer does, twice
    large = interpolate(scaled[None, None], theirs.shape, mode="bilinear", align_corners=False)[0, 0]
    large = (large - large.min()) / (1e-7 + (large - large.min()).max())
    return float((large - theirs).abs().max())


def many_passes(rounds: int) -> None:
    """Methods that are their forward passes: to the same number of forwards in full batches."""
    bench = Bench()
    rows = []
    for name in ("scorecam", "occlusion", "rise"):
        count = METHODS[name].cost(bench.classifier)
        calls = {"floor": bench.forwards(32, count), "xaihub": bench.ours(name)}
        seconds = interleaved(calls, rounds, warm_up=0)
        rows.append([name, str(count), f"{ratio(seconds, 'xaihub', 'floor'):.2f}"])
    table("Methods of many passes on ResNet-18", rows, ["map", "pictures", "to as many in full batches"])


def all_maps(rounds: int, quick: bool) -> None:
    sys.stderr.flush()
    gradient_cams(rounds)
    eigen_cam(rounds)
    if not quick:
        ablation_cam(rounds)
        many_passes(3)


def _transform(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.resize((224, 224)))).permute(2, 0, 1) / 255
