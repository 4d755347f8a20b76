"""From a repository to a classifier: labels, activations, preprocessing, what is assumed, and what is too large."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import (
    TINY,
    assert_explained,
    assert_same_network,
    build,
    changed,
    files_of,
    picture,
    processor_of,
)

from xaihub import Limits, explain, load_classifier, preflight
from xaihub.errors import CancelledError, TooLargeError, UnsupportedModelError
from xaihub.passes import tap

VIT = TINY["vit"]
PROCESSOR = "preprocessor_config.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole, good repository: a small ViT of three classes."""
    return files_of(build(VIT), processor_of(VIT), folder=tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def one_logit(tmp_path_factory) -> dict[str, bytes]:
    """The same with one class: a yes or no."""
    model = build(VIT, labels={0: "hot dog"})
    return files_of(model, processor_of(VIT), folder=tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> dict[str, bytes]:
    """The same for pictures of one channel."""
    return files_of(build(VIT, num_channels=1), processor_of(VIT), folder=tmp_path_factory.mktemp("grey"))


def load(hub, files):
    hub.add_files("alice/tiny", files)
    return load_classifier("alice/tiny", token=False)


def test_labels_stand_in_the_order_of_their_numbers_however_the_config_is_written(hub, files):
    classifier = load(hub, changed(files, id2label={"2": "hen", "0": "cat", "1": "dog"}))

    assert classifier.labels == ("cat", "dog", "hen")
    assert classifier.facts["named classes"] is True
    twelve = {str(i): f"class of {i}" for i in (10, 2, 0, 1, 11, 3, 9, 4, 8, 5, 7, 6)}
    with pytest.raises(UnsupportedModelError, match=r"classifier.bias: \[3\] in the weights, \[12\] in the network"):
        load(hub, changed(files, id2label=twelve))


def test_classes_without_names_are_noticed(hub, files):
    classifier = load(hub, changed(files, id2label={str(i): f"LABEL_{i}" for i in range(3)}))

    assert classifier.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert classifier.notices == ("Its authors did not name its classes (LABEL_0, LABEL_1, ...).",)
    assert classifier.facts["named classes"] is False


def test_a_config_without_id2label_counts_its_classes(hub, files, tmp_path):
    assert load(hub, changed(files, id2label=None, num_labels=3)).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    two = files_of(build(VIT, labels={0: "LABEL_0", 1: "LABEL_1"}), processor_of(VIT), folder=tmp_path)
    assert "id2label" not in json.loads(two["config.json"])  # two classes is what transformers leaves unsaid

    classifier = load(hub, two)

    assert classifier.labels == ("LABEL_0", "LABEL_1")
    assert "did not name its classes" in classifier.notices[0]


def test_a_config_that_names_no_class_at_all_is_refused(hub, files):
    with pytest.raises(UnsupportedModelError, match=r"alice/tiny has no classes \(id2label is empty\)"):
        load(hub, changed(files, id2label={}))


def test_one_logit_is_two_classes_that_both_have_a_name_a_probability_and_a_map(hub, one_logit):
    classifier = load(hub, one_logit)

    assert (classifier.labels, classifier.activation) == (("not hot dog", "hot dog"), "sigmoid")
    assert "read as the probability of 'hot dog' against 'not hot dog'" in classifier.notices[0]
    pixels = classifier.transform(picture())[None]
    with torch.no_grad():
        logit = float(classifier.module(pixels).logits)
    no, yes = classifier.predict(picture()).probabilities
    assert yes == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert no + yes == pytest.approx(1, abs=1e-6)
    with tap(classifier) as run:
        passed = run(pixels)
        for_no, for_yes = passed.gradients([0]), passed.gradients([1])
    assert for_yes.abs().max() > 0
    torch.testing.assert_close(for_no, -for_yes)
    assert explain(classifier, picture(), ["gradcam"], target="not hot dog").target == 0


def test_classes_that_do_not_exclude_each_other_have_sigmoids(hub, files):
    classifier = load(hub, changed(files, problem_type="multi_label_classification"))

    logits = classifier.logits(classifier.transform(picture())[None])[0].numpy()
    assert classifier.predict(picture()).probabilities == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    assert "(multi-label): each has a probability of its own" in classifier.notices[0]


def test_without_preprocessing_a_stated_default_is_taken(hub, files):
    classifier = load(hub, {name: content for name, content in files.items() if name != PROCESSOR})

    assert "It comes without preprocessing, so a common one is assumed: resize to 64 x 64" in classifier.notices[0]
    assert classifier.transform.description == "assumed: resize to 64 x 64, ImageNet mean and deviation"
    seen = np.asarray(picture().resize((64, 64), Image.Resampling.BILINEAR)) / 255
    expected = (seen - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(classifier.transform(picture()).permute(1, 2, 0), expected, atol=1e-5)
    assert_explained(classifier, 64)


@pytest.mark.parametrize("content", [b"{not json", b"[1, 2]", b'{"image_processor_type": "NoSuchProcessor"}'])
def test_preprocessing_that_cannot_be_read_is_said_to_be_assumed(hub, files, content):
    classifier = load(hub, {**files, PROCESSOR: content})

    assert "Its preprocessing could not be read" in classifier.notices[0]
    assert "so a common one is assumed: resize to 64 x 64" in classifier.notices[0]


def test_preprocessing_saved_by_older_versions_is_understood(hub, files):
    new = load(hub, files).transform(picture())

    older = changed(files, PROCESSOR, image_processor_type=None, feature_extractor_type="ViTFeatureExtractor", size=64)
    classifier = load(hub, older)

    assert classifier.notices == ()
    torch.testing.assert_close(classifier.transform(picture()), new)


@pytest.mark.parametrize("mean", [[0.25], [0.25, 0.25, 0.25]])
def test_a_grey_classifier_is_given_grey_pictures_however_its_mean_is_written(hub, grey, mean):
    classifier = load(hub, changed(grey, PROCESSOR, image_mean=mean, image_std=mean))

    assert classifier.transform.channels == 1
    assert classifier.notices == ("It reads grey pictures, so colours are taken out first.",)
    pixels = classifier.transform(Image.new("RGB", (80, 60), (255, 0, 0)))
    assert pixels.unique().item() == pytest.approx((76 / 255 - 0.25) / 0.25, abs=1e-5)  # ITU-R 601: red is 76 of 255
    assert_explained(classifier, 64)


def test_a_grey_classifier_without_preprocessing_is_given_grey_pictures_too(hub, grey):
    classifier = load(hub, {name: content for name, content in grey.items() if name != PROCESSOR})

    red, same = Image.new("RGB", (64, 64), (255, 0, 0)), Image.new("RGB", (64, 64), (76, 76, 76))
    torch.testing.assert_close(classifier.transform(red), classifier.transform(same))
    assert classifier.transform.description.endswith("grey")


def test_a_classifier_of_four_channels_is_refused(hub, tmp_path):
    files = files_of(build(VIT, num_channels=4), processor_of(VIT), folder=tmp_path)

    with pytest.raises(UnsupportedModelError, match="reads pictures of 4 channels; only grey and RGB"):
        load(hub, files)


@pytest.mark.parametrize("size", [(40, 300), (300, 40), (64, 64), (7, 9)])
def test_a_classifier_of_a_fixed_size_takes_pictures_of_any(hub, files, size):
    classifier = load(hub, files)

    explanation = explain(classifier, picture(*size), ["gradcam"])

    assert explanation.image.size == (64, 64)
    assert explanation.original.size == size
    np.testing.assert_allclose(explanation.crop, (0, 0, *size), atol=1.5)  # all of it was seen


@pytest.mark.parametrize("settings", [{"size": {"height": 96, "width": 96}}, {"do_resize": False}])
def test_preprocessing_of_another_size_than_the_network_takes_is_refused(hub, files, settings):
    with pytest.raises(UnsupportedModelError, match=r"could not be run on a picture \(Input image size"):
        load(hub, changed(files, PROCESSOR, **settings))


def fetched(hub) -> list[tuple[str, int]]:
    """How the weights were asked for: method and status, 206 for a part of them."""
    return [(seen.method, seen.status) for seen in hub.requests if ".safetensors" in seen.path]


def test_a_plan_reads_the_weights_header_alone(hub, files):
    sha = hub.add_files("alice/tiny", files, tags=["license:mit"])

    plan = preflight("alice/tiny", token=False)

    weights = len(files["model.safetensors"])
    assert (plan.repo_id, plan.family, plan.revision, plan.licence) == ("alice/tiny", "transformers", sha, "mit")
    assert plan.parameters == sum(parameter.numel() for parameter in build(VIT).parameters())
    assert plan.download == weights + len(files["config.json"]) + len(files[PROCESSOR])
    assert set(plan.files) == set(files)
    assert plan.in_words == f"alice/tiny: transformers, 0.0 M parameters, {plan.download / 2**20:.0f} MB to fetch"
    assert fetched(hub) == [("GET", 206)]
    assert_same_network(load_classifier(plan, token=False), build(VIT))
    assert fetched(hub) == [("GET", 206), ("HEAD", 200), ("GET", 200)]


def test_too_many_parameters_are_refused_by_the_header_alone(hub, files):
    hub.add_files("alice/tiny", files)
    most = Limits(parameters=20_000)

    with pytest.raises(TooLargeError, match=r"has 0 M parameters; this host runs at most 0 M\. Try a smaller model"):
        load_classifier("alice/tiny", token=False, limits=most)
    assert fetched(hub) == [("GET", 206)]
    assert load_classifier("alice/tiny", token=False, limits=Limits(parameters=50_000)).labels[0] == "cat"


class Claims(bytes):
    """Content that is said to be three gigabytes."""

    def __len__(self) -> int:
        return 3 * 2**30


def test_too_many_bytes_are_refused_before_any_is_fetched(hub, files):
    hub.add_files("alice/tiny", {**files, "model.safetensors": Claims(files["model.safetensors"])})

    with pytest.raises(TooLargeError, match=r"3,072 MB of weights; this host takes at most 700 MB.*XAIHUB_MAX_MEGA"):
        load_classifier("alice/tiny", token=False)
    assert fetched(hub) == []


def test_a_large_torchvision_classifier_is_refused_without_asking_its_server():
    with pytest.raises(TooLargeError, match="has 304 M parameters in 1,107 MB; this host takes at most 150 M and 700"):
        load_classifier("torchvision/vit_l_16")


def test_the_host_sets_the_limits_by_its_environment(monkeypatch):
    assert Limits.from_environment() == Limits(150_000_000, 700 * 2**20)
    monkeypatch.setenv("XAIHUB_MAX_PARAMETERS", "0.02")
    monkeypatch.setenv("XAIHUB_MAX_MEGABYTES", "1.5")
    assert Limits.from_environment() == Limits(20_000, 3 * 2**19)


def test_loading_obeys_the_limits_of_the_environment(hub, files, monkeypatch):
    hub.add_files("alice/tiny", files)
    monkeypatch.setenv("XAIHUB_MAX_PARAMETERS", "0.02")
    with pytest.raises(TooLargeError, match="XAIHUB_MAX_PARAMETERS raised"):
        load_classifier("alice/tiny", token=False)


def test_progress_is_told_and_may_stop_the_download(hub, files):
    hub.add_files("alice/tiny", files)
    told: list[tuple[float, str]] = []

    def stop(share: float, stage: str) -> None:
        if stage == "Downloading model.safetensors":
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError, match="Stopped"):
        load_classifier("alice/tiny", token=False, progress=stop)
    load_classifier("alice/tiny", token=False, progress=lambda share, stage: told.append((share, stage)))

    stages = list(dict.fromkeys(stage for _, stage in told))
    assert stages == ["Looking at alice/tiny", "Downloading model.safetensors", "Choosing the target layer"]
    assert all(0 <= share <= 1 for share, _ in told)
    assert [share for share, _ in told] == sorted(share for share, _ in told)
