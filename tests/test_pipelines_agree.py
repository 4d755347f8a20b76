"""Our probabilities are those of the libraries' own pipelines, on photographs in every mode that people have."""

import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tiny_models import tensors_of

from xaihub import load_classifier
from xaihub.classifier import Classifier
from xaihub.images import open_picture

SHARED = Path(__file__).parents[2] / "shared"
pytestmark = pytest.mark.skipif(
    not (SHARED / "models").is_dir(), reason="the pretrained weights and photographs in ../shared are not here"
)
TOLERANCE = 1e-6
ORIENTATION = 0x112


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _veil(photo: Image.Image) -> Image.Image:
    """Opacity that grows to the right, none at the left."""
    ramp = np.linspace(0, 255, photo.width).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(ramp, (photo.height, photo.width)).copy())


def _on_white(photo: Image.Image) -> Image.Image:
    """A picture with opacity over white, by Pillow's own paste: what we document that we do."""
    ground = Image.new("RGBA", photo.size, "white")
    ground.alpha_composite(photo.convert("RGBA"))
    return ground.convert("RGB")


def _turned(photo: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return _saved(photo, "JPEG", exif=exif, quality=90)


def _grey16(photo: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)


def _plain(photo: Image.Image, kind: str, **options: Any) -> tuple[bytes, Image.Image]:
    data = _saved(photo, kind, **options)
    return data, Image.open(io.BytesIO(data)).convert("RGB")


def _veiled(photo: Image.Image) -> tuple[bytes, Image.Image]:
    data = _saved(photo, "PNG")
    return data, _on_white(Image.open(io.BytesIO(data)))


ODD: dict[str, Callable[[Image.Image], tuple[bytes, Image.Image]]] = {
    # the file, and the RGB image that the library's own pipeline is given
    "grey JPEG": lambda photo: _plain(photo.convert("L"), "JPEG", quality=90),
    "CMYK JPEG": lambda photo: _plain(photo.convert("CMYK"), "JPEG", quality=90),
    "palette PNG": lambda photo: _plain(photo.quantize(64), "PNG"),
    "GIF": lambda photo: _plain(photo, "GIF"),
    "one bit": lambda photo: _plain(photo.convert("1"), "PNG"),
    "WebP": lambda photo: _plain(photo, "WEBP", quality=80),
    "TIFF": lambda photo: _plain(photo, "TIFF"),
    "BMP": lambda photo: _plain(photo, "BMP"),
    "RGBA": lambda photo: _veiled(Image.merge("RGBA", (*photo.split(), _veil(photo)))),
    "LA": lambda photo: _veiled(Image.merge("LA", (photo.convert("L"), _veil(photo)))),
    "palette with a transparent colour": lambda photo: (
        data := _saved(photo.quantize(32), "PNG", transparency=3),
        _on_white(Image.open(io.BytesIO(data))),
    ),
    "sixteen bits": lambda photo: (_saved(_grey16(photo), "PNG"), photo.convert("L").convert("RGB")),
    "sixteen-bit TIFF": lambda photo: (_saved(_grey16(photo), "TIFF"), photo.convert("L").convert("RGB")),
    "floats": lambda photo: (
        _saved(Image.fromarray(np.asarray(photo.convert("L"), np.float32) / 255), "TIFF"),
        photo.convert("L").convert("RGB"),
    ),
    **{
        f"EXIF {orientation}": lambda photo, orientation=orientation: (
            data := _turned(photo, orientation),
            ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"),
        )
        for orientation in range(2, 9)
    },
}


def _files() -> Iterator[Path]:
    """Twenty of ImageNet, and some of each other kind: wide, high, small and large ones among them."""
    data = SHARED / "data"
    yield from sorted((data / "imagenet_sample" / "images").iterdir())[::24][:20]
    yield from sorted((data / "hymenoptera").rglob("*.jpg"))[::16][:9]
    yield from sorted((data / "cats_real_fake").rglob("*.*"))[::39][:5]
    yield from sorted((data / "cifar10_test").rglob("*.png"))[::250][:2]
    yield from sorted((data / "boxes" / "images").iterdir())[::20][:4]


@pytest.fixture(scope="module")
def photographs() -> list[tuple[str, bytes, Image.Image]]:
    """Forty: what they are, their file, and the RGB image that it holds; the last twenty-one in odd modes."""
    plain = list(_files())
    assert len(plain) == 40
    found = [(path.name, path.read_bytes(), Image.open(path).convert("RGB")) for path in plain[len(ODD) :]]
    for path, (name, write) in zip(plain, ODD.items(), strict=False):
        found.append((f"{name} of {path.name}", *write(Image.open(path).convert("RGB"))))
    assert len(found) == 40
    return found


def agree(classifier: Classifier, theirs: Callable[[Image.Image], dict[str, list[float]]], photographs: Any) -> None:
    """Each label's probability is theirs, of every photograph; labels that are given twice are compared in order."""
    for name, data, image in photographs:
        prediction = classifier.predict(open_picture(data))
        ours = defaultdict(list)
        for label, probability in zip(prediction.labels, prediction.probabilities, strict=True):
            ours[label].append(float(probability))
        expected = theirs(image)
        assert ours.keys() == expected.keys()
        apart = max(
            abs(a - b) for label in ours for a, b in zip(sorted(ours[label]), sorted(expected[label]), strict=True)
        )
        assert apart <= TOLERANCE, f"{name}: {apart:.2e}"


def pipeline_of(folder: Path) -> Callable[[Image.Image], dict[str, list[float]]]:
    """transformers' own pipeline, with the processor that works on PIL images."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    every = model.config.num_labels
    run = pipeline("image-classification", model=model, image_processor=processor, top_k=every, device="cpu")

    def theirs(image: Image.Image) -> dict[str, list[float]]:
        found = defaultdict(list)
        for answer in run(image):
            found[answer["label"]].append(answer["score"])
        return found

    return theirs


def by_hand(module: Any, transform: Callable[[Image.Image], Any], labels: list[str]) -> Callable[..., Any]:
    """A network and a transform as its library's own examples use them."""

    def theirs(image: Image.Image) -> dict[str, list[float]]:
        with torch.inference_mode():
            answer = module(transform(image)[None]).softmax(-1)[0]
        found = defaultdict(list)
        for label, probability in zip(labels, answer.tolist(), strict=True):
            found[label].append(probability)
        return found

    return theirs


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128", "mobilenet_v2_1.0_224"])
def test_a_classifier_of_transformers_answers_as_its_pipeline_does(name, photographs):
    folder = SHARED / "models" / name
    agree(load_classifier(str(folder)), pipeline_of(folder), photographs)


def test_a_trained_encoder_with_a_head_on_it_answers_as_its_pipeline_does(tmp_path, photographs):
    from transformers import AutoImageProcessor, Dinov2Config, Dinov2ForImageClassification

    torch.manual_seed(0)
    trained = SHARED / "models" / "dinov2_small"
    labels = {index: f"kind {index}" for index in range(5)}
    stored = json.loads((trained / "config.json").read_text())
    stored = {key: value for key, value in stored.items() if key not in ("out_features", "out_indices", "stage_names")}
    blocks = 12 if os.environ.get("XAIHUB_SLOW") else 4  # eight more cost ten seconds and prepare no image differently
    config = Dinov2Config(**{**stored, "num_hidden_layers": blocks, "id2label": labels})
    model = Dinov2ForImageClassification.from_pretrained(trained, config=config, dtype=torch.float32)
    torch.nn.init.normal_(model.classifier.weight, std=0.05)
    model.save_pretrained(tmp_path)
    AutoImageProcessor.from_pretrained(trained, backend="pil").save_pretrained(tmp_path)
    agree(load_classifier(str(tmp_path)), pipeline_of(tmp_path), photographs)


def test_a_classifier_of_torchvision_answers_as_its_transforms_and_network_do(photographs):
    from safetensors.torch import load_file
    from torchvision import models, transforms

    folder = SHARED / "models" / "squeezenet1_0_deepcompression"
    config = json.loads((folder / "config.json").read_text())
    module = models.squeezenet1_0(num_classes=1000)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    steps = transforms.Compose([
        transforms.Resize(256), transforms.CenterCrop(227), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    labels = [config["id2label"][str(index)] for index in range(1000)]
    agree(load_classifier(str(folder)), by_hand(module.eval(), steps, labels), photographs)


def test_a_network_of_ones_own_answers_as_it_does_without_us(photographs, monkeypatch):
    import resnet20

    monkeypatch.setitem(os.environ, "RESNET20", str(SHARED / "models" / "cifar10_resnet20"))
    module, labels, transform = resnet20.load()
    ours = Classifier.from_module(module, labels=labels, transform=transform)
    agree(ours, by_hand(module, transform, [labels[index] for index in range(10)]), photographs)


def test_a_classifier_of_timm_answers_as_its_transform_and_network_do(tmp_path, photographs):
    import timm
    from timm.data import create_transform, resolve_data_config

    torch.manual_seed(0)
    labels = ["ant", "bee", "cat"]
    module = timm.create_model("test_resnet", num_classes=3).eval()
    torch.nn.init.normal_(module.fc.weight)
    config = {
        "architecture": "test_resnet", "num_classes": 3, "label_names": labels,
        "pretrained_cfg": {
            "input_size": [3, 128, 128], "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.25, 0.3], "num_classes": 3,
        },
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(tensors_of(module))
    transform = create_transform(**resolve_data_config(pretrained_cfg=config["pretrained_cfg"]))
    agree(load_classifier(str(tmp_path)), by_hand(module, transform, labels), photographs)
