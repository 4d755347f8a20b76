"""What a network gives is measured: no answer is squashed twice, and none of several outputs is guessed."""

import json
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TINY, build, files_of, picture, processor_of, tensors_of
from torch import Tensor, nn
from toy_networks import ColourCounter, SmallNet, to_pixels

from xaihub import Classifier, explain, load_classifier
from xaihub.__main__ import main
from xaihub.doctor import examine, told
from xaihub.embedders import EMBEDDERS
from xaihub.metrics.answering import answered
from xaihub.passes import tap

SIZE = 32
COLOUR = (204, 51, 0)  # 0.8, 0.2 and 0 of full brightness
LOGITS = torch.tensor([1.6, 0.4, 0.0])
SOFTMAX, SIGMOID = LOGITS.softmax(0), LOGITS.sigmoid()
NAMES = ["red", "green", "blue"]


class Ended(nn.Module):
    """Scores the colours of a picture by twice their mean brightness, and does `end` to the scores."""

    def __init__(self, end, classes: int = 3) -> None:
        super().__init__()
        self.counter = ColourCounter(2 / (3 * SIZE * SIZE))
        self.end, self.classes = end, classes

    def forward(self, pixels: Tensor):
        return self.end(self.counter(pixels)[:, : self.classes])


def of(end, labels=NAMES, classes: int = 3, **options) -> Classifier:
    return Classifier.from_module(
        Ended(end, classes).eval(), labels=labels, transform=to_pixels((SIZE, SIZE)), **options
    )


@pytest.fixture
def image() -> Image.Image:
    return Image.new("RGB", (SIZE, SIZE), COLOUR)


def shown(classifier: Classifier) -> str:
    """What a person reads of it in the terminal."""
    return "\n".join(told(examine(classifier)))


# Probabilities are not squashed again

ENDS = {
    "a softmax module": (nn.Softmax(1), SOFTMAX),
    "a softmax function": (lambda z: z.softmax(1), SOFTMAX),
    "a softmax over maps of one place": (lambda z: torch.softmax(z[:, :, None, None], 1), SOFTMAX),
    "a softmax kept off its ends": (lambda z: z.softmax(1).clamp(1e-6, 1 - 1e-6), SOFTMAX),
    "log probabilities": (nn.LogSoftmax(1), SOFTMAX),
    "the exponential of log probabilities": (lambda z: z.log_softmax(1).exp(), SOFTMAX),
    "the mean of two softmaxes": (lambda z: (z.softmax(1) + (2 * z).softmax(1)) / 2,
                                  (SOFTMAX + (2 * LOGITS).softmax(0)) / 2),
    "sigmoids": (torch.sigmoid, SIGMOID),
    "sigmoids in place": (lambda z: z.clone().sigmoid_(), SIGMOID),
    "sigmoids written out": (lambda z: 1 / (1 + torch.exp(-z)), SIGMOID),
    "logarithms of sigmoids": (nn.LogSigmoid(), SIGMOID),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_probabilities_are_shown_as_the_network_gives_them(end, image):
    function, expected = ENDS[end]

    classifier = of(function)
    prediction = classifier.predict(image)

    assert prediction.probabilities == pytest.approx(expected.numpy(), abs=1e-6)
    assert prediction.activation == ("sigmoid" if "sigmoids" in end else "softmax")
    assert "probabilities already (measured on 8 test images:" in classifier.notices[0]
    assert f"note: {classifier.notices[0]}" in shown(classifier)


@pytest.mark.parametrize("end", [end for end in ENDS if "mean of two" not in end])
def test_what_is_explained_of_probabilities_is_their_logit_up_to_a_constant(end, image):
    """The score of red is twice its mean, so each of its 32 x 32 values has a gradient of 2 / 32**2."""
    classifier = of(ENDS[end][0])
    pixels = classifier.transform(image)[None].requires_grad_()

    logits = classifier.logits(pixels)[0]
    shift = logits.mean() - LOGITS.mean() if classifier.activation == "softmax" else 0
    torch.testing.assert_close(logits - shift, LOGITS, atol=1e-5, rtol=0)
    margin = classifier.score(pixels, [0]) - classifier.score(pixels, [1])
    (gradient,) = torch.autograd.grad(margin.sum(), pixels)
    expected = torch.tensor([2, -2, 0.0])[None, :, None, None].expand_as(gradient) / SIZE**2
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-3)


def test_everything_that_asks_for_probabilities_gets_the_same_ones(image):
    classifier = of(nn.Softmax(1))
    pixels = classifier.transform(image)[None]

    targets = torch.tensor([0, 1, 2])
    metrics = answered(classifier, lambda numbers: pixels.expand(len(numbers), -1, -1, -1), targets)
    assert metrics.numpy() == pytest.approx(SOFTMAX.numpy(), abs=1e-6)
    with tap(classifier) as run:
        passed = run(pixels)
    torch.testing.assert_close(classifier.probabilities(passed.logits)[0], SOFTMAX)
    explanation = explain(classifier, image, ["gradcam", "rise"], target="green")
    assert explanation.prediction.probabilities == pytest.approx(SOFTMAX.numpy(), abs=1e-6)


def test_a_head_below_a_softmax_is_still_the_head():
    network = nn.Sequential(SmallNet(), nn.Softmax(1)).eval()
    classifier = Classifier.from_module(network, labels=NAMES, transform=to_pixels((SIZE, SIZE)))

    assert classifier.head == "0.head"
    with tap(classifier) as run:
        passed = run(classifier.transform(picture())[None])
    assert passed.penultimate.shape == (1, 16)
    assert "penultimate" in EMBEDDERS or passed.penultimate is not None


def test_the_map_below_a_softmax_is_that_of_the_network_without_it():
    plain, ended = SmallNet().eval(), nn.Sequential(SmallNet(), nn.Softmax(1)).eval()
    maps = [
        explain(Classifier.from_module(network, labels=NAMES, transform=to_pixels((SIZE, SIZE))), picture(), "gradcam",
                target=2)["gradcam"][0].raw
        for network in (plain, ended)
    ]  # fmt: skip

    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-5, atol=1e-7)


def test_a_softmax_that_is_certain_to_the_last_bit_still_has_its_gradient(image):
    """exp(-160) is 0 in float32: log p would have no gradient, what enters the softmax does."""
    classifier = of(lambda z: (200 * z).softmax(1))

    assert classifier.predict(image).probabilities.tolist() == [1, 0, 0]
    raw = explain(classifier, image, ["input-x-gradient"])["input-x-gradient"][0].raw
    assert raw == pytest.approx(200 * 2 * 0.8 / SIZE**2, rel=1e-4)


def test_a_probability_of_exactly_one_without_a_way_inside_says_that_nothing_is_left_of_it(image):
    classifier = of(lambda z: (200 * z).log_softmax(1).exp())

    shown = explain(classifier, image, ["input-x-gradient", "gradcam"])
    for method in shown:
        assert "is 0 or 1 to float precision: no gradient is left of it" in shown[method][0].caption
        assert np.isfinite(shown[method][0].raw).all()
    fine = explain(of(lambda z: z.log_softmax(1).exp()), image, ["gradcam"])["gradcam"][0]
    assert "precision" not in fine.caption


def test_a_network_in_half_precision_may_round_its_softmax():
    torch.manual_seed(0)
    network = nn.Sequential(SmallNet(3), nn.Softmax(1)).eval().bfloat16()
    classifier = Classifier.from_module(network, labels=NAMES, transform=to_pixels((SIZE, SIZE)))

    with torch.no_grad():
        own = network(classifier.transform(picture())[None].bfloat16()).float()[0]
    assert classifier.predict(picture()).probabilities == pytest.approx(own.numpy(), abs=4e-3)


# What only looks like probabilities


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("bias", [0.5, 0.2])
def test_small_logits_of_an_untrained_head_are_not_taken_for_probabilities(classes, bias):
    """All of them lie in [0, 1] for every image, and those of two classes even sum to 1."""
    network = SmallNet(classes)
    with torch.no_grad():
        network.head.weight.mul_(1e-3)
        network.head.bias.fill_(bias)
    labels = NAMES[:classes] if classes > 1 else ["no", "yes"]
    classifier = Classifier.from_module(network.eval(), labels=labels, transform=to_pixels((SIZE, SIZE)))

    probabilities = classifier.predict(picture()).probabilities
    assert classifier.reading.gives == "logits"
    expected = [1 / classes] * classes if classes > 1 else [1 - 1 / (1 + np.exp(-bias)), 1 / (1 + np.exp(-bias))]
    assert probabilities == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_pooled_scores_that_are_never_negative_are_logits(seed):
    """SqueezeNet's head ends in a ReLU and a mean, so untrained it often answers in [0, 1]."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3, 2), nn.GroupNorm(1, 12), nn.ReLU(), nn.Conv2d(12, 2, 1), nn.GroupNorm(1, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip
    classifier = Classifier.from_module(network, labels=["a", "b"], transform=to_pixels((SIZE, SIZE)))

    assert (classifier.reading.gives, classifier.activation) == ("logits", "softmax")


# One number for two classes


@pytest.mark.parametrize("labels", [["not red", "red"], ["red"], {0: "not red", 1: "red"}, {0: "red"}])
@pytest.mark.parametrize(
    "end",
    [lambda z: z, torch.sigmoid, lambda z: z[:, 0], lambda z: z.sigmoid().squeeze(), lambda z: {"logits": z}],
    ids=["logit", "sigmoid", "one per image", "squeezed wholly", "in a dict"],
)
def test_one_number_is_the_probability_of_the_second_of_two_classes(labels, end, image):
    classifier = of(end, labels, classes=1)

    no, yes = classifier.predict(image).probabilities
    assert (yes, no) == (pytest.approx(float(SIGMOID[0]), abs=1e-6), pytest.approx(1 - float(SIGMOID[0]), abs=1e-6))
    assert (classifier.labels, classifier.activation) == (("not red", "red"), "sigmoid")
    assert "one number, read as the probability of 'red' against 'not red'" in classifier.notices[-1]


def test_two_shares_that_one_sigmoid_made_are_shown_as_they_are(image):
    classifier = of(lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1), ["no", "red"], classes=1)

    assert classifier.predict(image).probabilities[1] == pytest.approx(float(SIGMOID[0]), abs=1e-6)


TORCHVISION = {
    "architecture": "torchvision.models.mobilenet_v3_small", "num_classes": 1, "center_crop": 32, "input": [3, 32, 32],
    "resize_shortest": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
}  # fmt: skip


def torchvision_folder(folder, classes: int = 1, **settings) -> tuple[nn.Module, str]:
    from torchvision import models

    torch.manual_seed(1)
    network = models.mobilenet_v3_small(num_classes=classes).eval()
    with torch.no_grad():
        network.classifier[-1].bias.fill_(0.9)
    (folder / "model.safetensors").write_bytes(tensors_of(network))
    (folder / "config.json").write_text(json.dumps({**TORCHVISION, "num_classes": classes, **settings}))
    return network, str(folder)


@pytest.mark.parametrize("id2label", [{"0": "no", "1": "yes"}, {"0": "yes"}])
def test_a_torchvision_folder_with_one_output_is_read_as_every_other(tmp_path, id2label):
    network, folder = torchvision_folder(tmp_path, id2label=id2label)

    classifier = load_classifier(folder)

    with torch.no_grad():
        logit = float(network(classifier.transform(picture())[None]))
    assert classifier.predict(picture()).probabilities[1] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert classifier.labels[1] == "yes"


# Which output answers

Pair = namedtuple("Pair", "logits aux")


@dataclass
class Heads:
    features: Tensor
    scores: Tensor


CONTAINERS = {
    "a dict whose logits come last": lambda z: {"aux": 0 * z + 1, "logits": z},
    "a named tuple": lambda z: Pair(z, 3 * z),
    "a dataclass with features": lambda z: Heads(torch.cat([z, z], 1), z),
    "an object": lambda z: SimpleNamespace(hidden=torch.cat([z, z], 1), logits=z),
    "a list with features first": lambda z: [torch.cat([z, z], 1), z],
    "logits further in": lambda z: {"loss": z.sum(), "heads": {"logits": z, "aux": 2 * z}},
    "scores beside their probabilities": lambda z: {"probabilities": z.softmax(1), "scores": z},
    "the same twice": lambda z: (z, z.clone()),
    "a number of classes beside": lambda z: {"class": z.argmax(1), "scores": z},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_answer_is_found_by_what_it_is(container, image):
    classifier = of(CONTAINERS[container])

    assert classifier.predict(image).probabilities == pytest.approx(SOFTMAX.numpy(), abs=1e-6)
    explanation = explain(classifier, image, ["gradcam"], target="green")
    assert np.isfinite(explanation["gradcam"][0].raw).all()


@pytest.mark.parametrize(
    ("end", "names", "chosen"),
    [
        (lambda z: {"main": z, "aux": 2 * z}, r"main: \(1, 3\), aux: \(1, 3\).*output='main' or output='aux'", "main"),
        (lambda z: (2 * z, z), r"output='0' or output='1'", 1),
        (lambda z: [{"logits": 2 * z}, {"logits": z}], r"output='0.logits' or output='1.logits'", "1.logits"),
        (lambda z: Heads(2 * z, z), r"output='features' or output='scores'", "scores"),
    ],
    ids=["dict", "deep supervision", "two heads", "dataclass"],
)
def test_of_two_outputs_that_could_answer_neither_is_guessed(end, names, chosen, image):
    with pytest.raises(ValueError, match=rf"returns 2 tensors that could be its answer \(.*{names}"):
        of(end)

    assert of(end, output=chosen).predict(image).probabilities == pytest.approx(SOFTMAX.numpy(), abs=1e-6)
    with pytest.raises(ValueError, match=r"returns no output 'other'. It returns: "):
        of(end, output="other")


@pytest.mark.parametrize(
    ("end", "gave"),
    [
        (lambda z: z.argmax(1), r"int64 \(1,\)"),
        (lambda z: "cat", "str"),
        (lambda z: z[:, :, None] * z[:, None], "float32"),
    ],
)
def test_what_holds_no_answer_is_refused_with_what_there_is(end, gave):
    with pytest.raises(ValueError, match=f"answers with logits .N, classes., but this network gave {gave}"):
        of(end)


def test_auxiliary_heads_of_googlenet_do_not_answer():
    from torchvision import models

    torch.manual_seed(0)
    network = models.googlenet(num_classes=3, aux_logits=True, init_weights=False)  # in training mode
    classifier = Classifier.from_module(network, labels=NAMES, transform=to_pixels((64, 64)))

    assert network.training
    network.eval()
    with torch.no_grad():
        own = network(classifier.transform(picture())[None]).softmax(1)[0]
    assert classifier.predict(picture()).probabilities == pytest.approx(own.numpy(), abs=1e-5)


# What somebody says of it


def test_the_caller_may_say_how_classes_go_together(image):
    assert of(lambda z: z, activation="sigmoid").predict(image).probabilities == pytest.approx(
        SIGMOID.numpy(), abs=1e-6
    )
    assert of(lambda z: z, activation="softmax").predict(image).probabilities == pytest.approx(
        SOFTMAX.numpy(), abs=1e-6
    )
    assert of(nn.Softmax(1), activation="none").predict(image).probabilities == pytest.approx(SOFTMAX.numpy(), abs=1e-6)
    with pytest.raises(ValueError, match=r"activation='none' says .* but on an image it gave numbers from"):
        of(lambda z: 9 * z, activation="none")
    with pytest.raises(ValueError, match="There is no activation 'relu'"):
        of(lambda z: z, activation="relu")


def test_what_is_stated_never_squashes_probabilities_a_second_time(image):
    classifier = of(torch.sigmoid, activation="sigmoid")
    assert classifier.predict(image).probabilities == pytest.approx(SIGMOID.numpy(), abs=1e-6)

    other = of(nn.Softmax(1), activation="sigmoid")
    assert other.predict(image).probabilities == pytest.approx(SOFTMAX.numpy(), abs=1e-6)
    assert "'sigmoid' was stated for it, but its own last step is a softmax" in other.notices[1]


def test_the_doctor_says_what_a_network_answers_with(image):
    assert "answers with: logits, whose softmax is the probability" in shown(of(lambda z: z))
    assert "answers with: probabilities of its own softmax; explained: the logits before it" in shown(of(nn.Softmax(1)))
    assert "explained: their logarithm" in shown(of(lambda z: z.log_softmax(1).exp()))


# Tags


def push_tagger(hub, folder, classes: int = 40, files: dict[str, bytes] | None = None, **config) -> nn.Module:
    """A small network of timm with its own files and others, as alice/tags."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=classes).eval()
    with torch.no_grad():
        network.get_classifier().bias.copy_(torch.linspace(-3, 3, classes))
    timm.models.save_for_hf(network, folder, model_config=config, safe_serialization=True)
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.add_files("alice/tags", {**held, **(files or {})})
    return network


def csv_of(count: int, head: str, row: str) -> bytes:
    return "\n".join([head, *(row.format(i=i, id=9000 + 7 * i) for i in range(count))]).encode()


TAG_FILES = {
    "selected_tags.csv": csv_of(40, "tag_id,name,category,count", "{id},tag of {i},0,12"),
    "top_tags.txt": "\n".join(f"tag of {i}" for i in range(40)).encode(),
    "tags.json": json.dumps({f"tag of {i}": i for i in range(40)}).encode(),
    "names.tsv": csv_of(40, "index\ttag", "{i}\ttag of {i}"),
}


@pytest.mark.parametrize("file", TAG_FILES)
def test_a_tagger_of_timm_gives_each_tag_a_probability_of_its_own_and_its_name(hub, tmp_path, file):
    network = push_tagger(hub, tmp_path, files={file: TAG_FILES[file], "README.md": b"# tags\n"})

    classifier = load_classifier("alice/tags", token=False)

    with torch.no_grad():
        own = network(classifier.transform(picture())[None]).sigmoid()[0]
    assert classifier.predict(picture()).probabilities == pytest.approx(own.numpy(), abs=1e-6)
    assert classifier.labels == tuple(f"tag of {i}" for i in range(40))
    assert f"names of its classes are from {file}" in classifier.notices[0]
    assert "(multi-label): each has a probability of its own" in classifier.notices[1]


def test_a_file_of_names_that_speaks_of_no_tags_only_names(hub, tmp_path):
    push_tagger(hub, tmp_path, files={"classes.txt": "\n".join(f"kind {i}" for i in range(40)).encode()})

    classifier = load_classifier("alice/tags", token=False)

    assert (classifier.labels[7], classifier.activation) == ("kind 7", "softmax")


@pytest.mark.parametrize("file", ["selected_tags.csv", "tags.json"])
def test_a_tag_file_of_another_length_or_a_broken_one_is_passed_over(hub, tmp_path, file):
    push_tagger(hub, tmp_path, files={file: TAG_FILES[file][:-3] if "json" in file else csv_of(39, "name", "tag {i}")})

    classifier = load_classifier("alice/tags", token=False)

    assert classifier.labels[3] == "class 3"
    assert "Nothing says whether its classes exclude each other" in classifier.notices[1]
    chosen = load_classifier("alice/tags", token=False, activation="sigmoid")
    assert chosen.activation == "sigmoid"


def test_timms_config_may_say_that_several_classes_hold_at_once(hub, tmp_path):
    push_tagger(hub, tmp_path, 3, label_names=["cat", "dog", "hen"], problem_type="multi_label_classification")

    assert load_classifier("alice/tags", token=False).activation == "sigmoid"


def test_a_tag_file_counts_for_the_revision_of_a_folder(tmp_path, capsys):
    _, folder = torchvision_folder(tmp_path, classes=3)
    before = load_classifier(folder).revision
    (tmp_path / "labels.txt").write_text("cat\ndog\nhen\n")

    assert load_classifier(folder).labels == ("cat", "dog", "hen")
    assert load_classifier(folder).revision != before
    assert main(["doctor", folder]) == 0
    assert "3 classes (cat, dog, hen), softmax" in capsys.readouterr().out


def test_a_model_of_transformers_that_states_nothing_keeps_its_softmax(hub, tmp_path):
    hub.add_files("alice/tiny", files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=tmp_path))

    assert load_classifier("alice/tiny", token=False).activation == "softmax"


def test_the_command_line_takes_what_its_caller_says_of_the_activation(tmp_path, capsys):
    _, folder = torchvision_folder(tmp_path, classes=3, id2label={"0": "cat", "1": "dog", "2": "hen"})

    assert main(["doctor", folder, "--activation", "sigmoid"]) == 0
    assert "answers with: logits, whose sigmoid is the probability" in capsys.readouterr().out
