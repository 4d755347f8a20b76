"""A temperature on logits whose truth is known, and in heads of several kinds."""

import json

import numpy as np
import pytest
import torch
from tiny_models import TINY, build
from torch import nn
from torch.nn.functional import cross_entropy
from training_child import RESNET, backbone, class_folders, tinted, train

from xaihub.datasets import open_dataset
from xaihub.finetuning.calibration import fit_temperature, put_into_head
from xaihub.measuring.scoring import calibration_error


def drawn(scale, count=4000, seed=0):
    """Logits that are `scale` times those of the probabilities by which the truth is drawn."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 3, generator=generator)
    return scale * logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_of_logits_that_are_too_large_by_a_factor_is_the_factor(scale):
    logits, truth = drawn(scale)

    temperature = fit_temperature(logits, truth)

    assert temperature == pytest.approx(scale, rel=0.06)
    for other in (0.8, 1.25):
        assert cross_entropy(logits / temperature, truth) < cross_entropy(logits / (temperature * other), truth)


def test_where_every_answer_is_right_probabilities_stay_below_the_rule_of_succession():
    """20 of 20 right is no proof of certainty: with logits of one size the answer is Laplace's (N + 1) / (N + 2)."""
    truth = torch.arange(20) % 2
    logits = torch.where(nn.functional.one_hot(truth) == 1, 3.0, -3.0)

    probabilities = (logits / fit_temperature(logits, truth)).softmax(1)

    torch.testing.assert_close(probabilities.amax(1), torch.full((20,), 21 / 22), atol=1e-4, rtol=0)


def test_logits_that_know_nothing_are_not_trusted():
    truth = torch.arange(40) % 2
    logits = torch.randn(40, 2, generator=torch.Generator().manual_seed(1)) * 5

    assert fit_temperature(logits, truth) > 5


@pytest.mark.parametrize("name", ["resnet", "vit", "levit", "swin", "segformer"])
def test_the_head_divides_the_logits_of_any_image_whatever_it_is_made_of(name, tmp_path):
    from xaihub.families.from_transformers import load_backbone

    tiny = RESNET if name == "resnet" else TINY[name]
    held = load_backbone(backbone(tmp_path, tiny), ("a", "b"), "tiny")
    images = torch.randn(4, 3, tiny.size, tiny.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = held.module(images).logits

    assert put_into_head(held.module, held.heads, 2.5, images[:2])

    with torch.no_grad():
        torch.testing.assert_close(held.module(images).logits, before / 2.5, atol=1e-5, rtol=1e-4)


class Normed(nn.Module):
    """What comes after the head undoes any factor."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, images):
        return nn.functional.normalize(self.head(images.mean((2, 3))), dim=1)


def test_a_head_whose_weights_do_not_scale_the_answer_is_left_as_it_is():
    module = Normed().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    assert not put_into_head(module, ["head"], 2.0, torch.randn(3, 3, 4, 4))

    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.fixture
def doubtful(tmp_path):
    """Two classes that nobody can tell apart for certain: a third of each class's images are of the other's colour."""
    folder = class_folders(tmp_path / "doubtful", 24, real="red", fake="blue")
    for place in range(0, 24, 3):
        tinted(5000 + place, "blue").save(folder / "real" / f"{place}.png")
        tinted(6000 + place, "red").save(folder / "fake" / f"{place}.png")
    return folder


def test_a_network_that_is_too_sure_is_calibrated_by_images_that_it_did_not_see(doubtful, tmp_path):
    """Trained long without mixup it learns the doubtful images by heart; the temperature makes unseen ones dearer."""
    from dataclasses import replace

    from xaihub.families.from_transformers import load_backbone
    from xaihub.finetuning.fitting import fine_tune
    from xaihub.finetuning.pixel_store import read_pixels
    from xaihub.finetuning.settings import FineTuning

    settings = FineTuning(epochs=12, learning_rate=3e-3, mixup=0.0, head_strength=100.0, calibration_folds=3, copies=2)
    network = backbone(tmp_path / "network")
    held = load_backbone(network, ("real", "fake"), "tiny")
    store = read_pixels(open_dataset(doubtful), held.transform, ("real", "fake"))

    found = fine_tune(held, store, None, settings, work=tmp_path / "work").calibration

    assert found.temperature > 1.2
    assert found.after < found.before - 0.05
    assert found.in_words == (
        f"Calibrated by a temperature of {found.temperature:.2f}, from 3-fold out-of-fold predictions; it is in the"
        " head's weights."
    )
    others = read_pixels(
        open_dataset(class_folders(tmp_path / "others", 30, real="red", fake="blue")), held.transform, ("real", "fake")
    )
    assert replace(settings).calibration_folds == 3
    assert len(others) == 60


def test_the_stored_models_own_probabilities_are_those_that_were_measured(tmp_path, monkeypatch):
    from test_train_classifier import dataset_folder
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    data = dataset_folder(tmp_path / "data", ["real", "fake"], train=8, test=6)
    made = tmp_path / "made"

    assert train(data, backbone(tmp_path / "network"), made, "--epochs", "2") == 0

    record, metrics = (json.loads((made / f"{name}.json").read_text("utf-8")) for name in ("training", "metrics"))
    model, processor = (
        kind.from_pretrained(made, **more)
        for kind, more in ((AutoModelForImageClassification, {}), (AutoImageProcessor, {"backend": "pil"}))
    )
    rows = list(open_dataset(data, split="test"))
    with torch.no_grad():
        logits = torch.cat([model(**processor(images=row.picture, return_tensors="pt")).logits for row in rows])
    truth = np.array([["real", "fake"].index(row.label) for row in rows])
    error = calibration_error(truth, logits.double().softmax(1).numpy())[0]
    assert error == pytest.approx(metrics["calibration_error"], abs=1e-6)
    assert record["calibration"]["temperature"] != 1
    assert record["calibration"]["in_words"] in (made / "README.md").read_text("utf-8")


def test_the_temperature_in_the_head_is_that_of_the_record(tmp_path):
    """Without it the head's weights are those of the epochs' mean: undone, the logits are larger by that factor."""
    from xaihub.families.from_transformers import load_backbone
    from xaihub.finetuning.checkpoints import read_checkpoint
    from xaihub.finetuning.fitting import fine_tune
    from xaihub.finetuning.pixel_store import read_pixels
    from xaihub.finetuning.settings import FineTuning

    held = load_backbone(backbone(tmp_path / "network"), ("real", "fake"), "tiny")
    store = read_pixels(open_dataset(class_folders(tmp_path / "pets", 8)), held.transform, ("real", "fake"))

    found = fine_tune(
        held, store, None, FineTuning(epochs=2, averaged=1, calibration_folds=2, copies=2), work=tmp_path / "work"
    )

    kept, _ = read_checkpoint(tmp_path / "work" / "all.safetensors")
    weight = held.module.classifier[1].weight.detach()
    torch.testing.assert_close(weight * found.calibration.temperature, kept["kept.classifier.1.weight"])
    assert found.calibration.temperature != pytest.approx(1, abs=1e-3)
    assert build(RESNET).classifier[1].weight.shape[0] == 3
