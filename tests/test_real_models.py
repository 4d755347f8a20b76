"""Real pretrained weights and real pictures, pulled by id from the loopback Hub; skipped where they are not at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from toy_networks import lion, to_pixels

from xaihub.building import build_references
from xaihub.classifier import Classifier
from xaihub.explaining import explain
from xaihub.images import open_picture
from xaihub.loading import load_classifier

SHARED = Path(__file__).parents[2] / "shared"
pytestmark = pytest.mark.skipif(
    not (SHARED / "models").is_dir(), reason="the pretrained weights in ../shared are not here"
)

MODELS = {
    "alice/mobilenet-v2": ("mobilenet_v2_1.0_224", "mobilenet_v2.conv_1x1", (7, 7)),
    "alice/mobilenet-v1": ("mobilenet_v1_0.25_128", "mobilenet_v1.layer.25", (4, 4)),
    "alice/squeezenet": ("squeezenet1_0_deepcompression", "features.12", (13, 13)),
}


@pytest.fixture(scope="module")
def pulled(module_hub):
    classifiers = {}
    for repo_id, (folder, _, _) in MODELS.items():
        module_hub.add_folder(repo_id, SHARED / "models" / folder)
        classifiers[repo_id] = load_classifier(repo_id, token=False)
    return classifiers


@pytest.mark.parametrize("repo_id", MODELS)
def test_gradios_lion_is_called_a_lion_by_a_model_pulled_by_its_id(pulled, repo_id):
    _, layer, grid = MODELS[repo_id]
    classifier = pulled[repo_id]
    explanation = explain(classifier, lion(), ["gradcam"])
    assert explanation.prediction.label == "lion, king of beasts, Panthera leo"
    assert explanation.prediction.probability > 0.5
    assert classifier.target_layer.name == layer
    assert classifier.target_layer.grid == grid
    assert classifier.target_layer.proof == "bottleneck"
    assert len(classifier.revision) == 40
    heatmap = explanation["gradcam"][0].heatmap
    rows, columns = np.indices(heatmap.shape)
    centre = (heatmap * rows).sum() / heatmap.sum(), (heatmap * columns).sum() / heatmap.sum()
    assert all(0.25 < place / len(heatmap) < 0.75 for place in centre), "the lion's head fills the middle"


class Reordered(nn.Module):
    """The trained blocks of DINOv2 with their tokens in another order, which attention does not mind; a class token is
    read after them."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        from transformers import AutoModel

        trained = AutoModel.from_pretrained(SHARED / "models" / "dinov2_small", dtype=torch.float32)
        self.embeddings, self.layers, self.norm = trained.embeddings, trained.encoder.layer, trained.layernorm
        self.order, self.head = order, nn.Linear(384, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.embeddings(pixels)[:, self.order]
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens)[:, self.order.index(0)])


ROWS = list(range(1, 65))  # 8 x 8 patches, after the class token
COLUMNS = [1 + 8 * row + column for column in range(8) for row in range(8)]
ORDERS = {"usual": [0, *ROWS], "middle": [*ROWS[:32], 0, *ROWS[32:]], "end": [*ROWS, 0], "columns": [0, *COLUMNS]}


@pytest.mark.parametrize("name", ORDERS)
def test_where_the_tokens_of_trained_blocks_lie_is_found_in_whatever_order_they_are(name):
    torch.manual_seed(0)
    squash = to_pixels((112, 112))
    module = Reordered(ORDERS[name]).eval()
    layer = Classifier.from_module(module, labels="abc", transform=lambda given: squash(given) / 0.225 - 2).target_layer
    assert (layer.name, layer.grid, layer.proof) == ("layers.10", (8, 8), "bottleneck")
    places = layer.view.places or (-1, *range(64))
    assert [place + 1 for place in places] == ORDERS[name]


def test_the_map_follows_the_lion_across_a_wide_picture(pulled):
    """Half of a wide picture is grey: on the original the heat must lie on the half where the lion is."""
    photo = open_picture(lion())
    for left in (0, 128):
        wide = Image.new("RGB", (384, 256), (128, 128, 128))
        wide.paste(photo, (left, 0))
        explanation = explain(
            pulled["alice/mobilenet-v2"], wide, ["gradcam"], target="lion, king of beasts, Panthera leo"
        )
        on_original = explanation.on_original(explanation["gradcam"][0])
        assert on_original.shape == (256, 384)
        assert on_original[:, left : left + 256].sum() > 0.85 * on_original.sum()


def test_squeezenets_grad_cam_is_its_class_map_where_the_class_is_active(pulled):
    """It ends in ReLU and a global mean: taken after that ReLU, Grad-CAM is CAM up to scale."""
    classifier = pulled["alice/squeezenet"]
    explanation = explain(classifier, lion(), ["gradcam", "hirescam"])
    raw, exact = explanation["gradcam"][0].raw, explanation["hirescam"][0].raw
    assert np.corrcoef(raw.ravel(), exact.ravel())[0, 1] > 0.9
    assert exact.sum() > 0


def test_explained_objects_lie_in_their_boxes_more_often_than_their_area(pulled):
    """Pointing game (Zhang et al., 2018) on COCO photographs whose object the model names."""
    import csv

    hits, areas = [], []
    with (SHARED / "data" / "boxes" / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[:60]:
        explanation = explain(pulled["alice/mobilenet-v2"], SHARED / "data" / "boxes" / row["file"], ["gradcam"])
        if str(explanation.prediction.index) not in row["imagenet_indices"].split():
            continue
        heat = explanation.on_original(explanation["gradcam"][0])
        boxes = Image.new("1", heat.shape[::-1])
        for other in rows:
            if other["file"] == row["file"] and other["label"] == row["label"]:
                ImageDraw.Draw(boxes).rectangle([float(other[k]) for k in ("x0", "y0", "x1", "y1")], fill=1)
        inside = np.asarray(boxes)
        hits.append(bool(inside[np.unravel_index(heat.argmax(), heat.shape)]))
        areas.append(inside.mean())
    assert len(hits) >= 8
    assert np.mean(hits) > np.mean(areas) + 0.15


@pytest.fixture(scope="module")
def cats(pulled):
    folder = SHARED / "data" / "cats_real_fake" / "train"
    return build_references(pulled["alice/mobilenet-v2"], folder, limit=60, fidelity=False)


def test_every_counterfactual_of_sixty_cats_is_predicted_another_class(pulled, cats):
    classifier = pulled["alice/mobilenet-v2"]
    folder = SHARED / "data" / "cats_real_fake" / "train"
    assert len(cats) == 60
    assert set(cats.labels) == {"real", "fake"}
    for key in cats.keys[::2]:  # every second one is explained, beside all of them
        explanation = explain(classifier, folder / key, ["twins", "counterfactuals"], references=cats, k=1)
        predicted = explanation.prediction.label
        assert explanation["counterfactuals"], key
        for evidence in explanation["counterfactuals"]:
            assert evidence.facts["predicted"] != predicted, key
        for evidence in explanation["twins"]:
            assert evidence.facts["predicted"] == predicted, key
            assert evidence.facts["key"] != key
