"""Embedders: what the head reads is found, and what a query's class takes of it is the head's own weights."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from test_references import picture
from torch import nn
from toy_networks import ColourCounter, SmallNet, TokenNet, classifier_of

from xaihub.embedders import DEFAULT, EMBEDDERS, Batch
from xaihub.passes import tap


class ConvHead(nn.Module):
    """Ends as MobileNetV1 does: the mean, then a 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv2d(3, 16, 5, stride=4, padding=2), nn.Conv2d(16, 3, 1)

    def forward(self, pixels):
        return self.head(self.body(pixels).relu().mean((2, 3), keepdim=True)).flatten(1)


class TwoHeads(SmallNet):
    """Answers with the mean of two heads, as a distilled DeiT does."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(16, 3)

    def forward(self, pixels):
        pooled = self.after(self.body(self.stem(pixels))).mean((-2, -1))
        return (self.head(pooled) + self.second(pooled)) / 2


def batch_of(classifier, count=4):
    pictures = [picture(seed) for seed in range(count)]
    with tap(classifier) as run:
        passed = run(torch.stack([classifier.transform(each) for each in pictures]))
    return Batch(pictures, passed, classifier.activation)


@pytest.mark.parametrize("network", [SmallNet(), ConvHead(), TokenNet()], ids=lambda network: type(network).__name__)
def test_the_head_is_found_and_its_input_times_its_weights_is_the_answer(network):
    classifier = classifier_of(network)
    assert classifier.head == "head"
    batch = batch_of(classifier)
    read = EMBEDDERS["penultimate"].embed(batch)
    weight = network.head.weight.detach().reshape(3, -1)
    logits = read @ weight.T + network.head.bias.detach()
    torch.testing.assert_close(logits, batch.passed.logits.detach(), atol=1e-4, rtol=1e-4)
    weights = EMBEDDERS[DEFAULT].weigh(batch, [0, 1, 2, 0])
    torch.testing.assert_close(weights, weight[[0, 1, 2, 0]] - weight.mean(0), atol=1e-5, rtol=1e-4)


def test_where_no_head_is_known_the_target_layers_mean_serves_with_its_own_gradients():
    counter = classifier_of(ColourCounter(0.01))
    assert counter.head == ""
    batch = batch_of(counter)
    mean = EMBEDDERS[DEFAULT].embed(batch)
    torch.testing.assert_close(mean, EMBEDDERS["target-layer"].embed(batch))
    weights = EMBEDDERS[DEFAULT].weigh(batch, [0, 1, 2, 2])
    assert weights.shape == mean.shape
    places = batch.passed.activations.shape[-2] * batch.passed.activations.shape[-1]
    owed = (weights * mean).sum(1) / places
    score = batch.passed.score([0, 1, 2, 2]) - batch.passed.logits.mean(1)
    torch.testing.assert_close(
        owed * places, score.detach(), atol=1e-3, rtol=1e-3
    )  # no bias: all of it is owed to the maps
    assert classifier_of(TwoHeads()).head == "", "neither of two heads is the head"


def test_a_vector_added_to_all_rows_of_the_head_changes_no_weight():
    network = SmallNet()
    moved = copy.deepcopy(network)
    with torch.no_grad():
        moved.head.weight += torch.randn(16, generator=torch.Generator().manual_seed(3))
    before, after = (EMBEDDERS[DEFAULT].weigh(batch_of(classifier_of(each)), [0, 1, 2, 1]) for each in (network, moved))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)


def test_where_classes_do_not_exclude_each_other_each_weight_is_its_own():
    network = SmallNet()
    weights = EMBEDDERS[DEFAULT].weigh(batch_of(classifier_of(network, activation="sigmoid")), [0, 1, 2, 1])
    torch.testing.assert_close(weights, network.head.weight.detach()[[0, 1, 2, 1]], atol=1e-5, rtol=1e-4)


def test_a_batch_gives_what_single_pictures_give():
    classifier = classifier_of(SmallNet())
    together = batch_of(classifier)
    for name, embedder in EMBEDDERS.items():
        alone = []
        for each in together.pictures:
            with tap(classifier) as run:
                alone.append(embedder.embed(Batch([each], run(classifier.transform(each)[None]))))
        torch.testing.assert_close(embedder.embed(together), torch.cat(alone), atol=1e-5, rtol=1e-4, msg=name)
        assert not embedder.embed(together).requires_grad


def test_the_published_contributions_tell_two_classes_apart_whatever_the_features_are():
    """The leak: with random features and a random head, neighbours by C-HP agree nearly always."""
    generator = torch.Generator().manual_seed(0)
    z, head = torch.rand(300, 32, generator=generator), torch.randn(2, 32, generator=generator)
    predicted = (z @ head.T).argmax(1)
    centred = head - head.mean(0)
    leaking = torch.nn.functional.normalize(z * centred[predicted], dim=1)
    honest = torch.nn.functional.normalize(z * centred[0], dim=1)  # one class on both sides

    def agreement(vectors):
        similarity = (vectors @ vectors.T).fill_diagonal_(-2)
        return float((predicted[similarity.argmax(1)] == predicted).float().mean())

    assert agreement(leaking) == 1.0
    assert agreement(honest) < 0.95
    assert EMBEDDERS["c-hp"].leaks
    assert not EMBEDDERS[DEFAULT].leaks


def test_the_published_contributions_of_classes_that_do_not_exclude_each_other_are_not_centred():
    network = SmallNet()
    weight, weights = network.head.weight.detach(), {"sigmoid": 0, "softmax": network.head.weight.detach().mean(0)}
    for activation, centre in weights.items():
        batch = batch_of(classifier_of(network, activation=activation))
        own = batch.passed.logits.argmax(1)
        expected = batch.passed.penultimate * (weight[own] - centre)
        torch.testing.assert_close(EMBEDDERS["c-hp"].embed(batch), expected, atol=1e-5, rtol=1e-4)


def test_pixels_know_colours_at_their_places_and_nothing_of_the_classifier():
    passed = batch_of(classifier_of(SmallNet()), 3).passed
    pictures = [picture(seed).resize((32, 32)) for seed in range(3)]
    vectors = EMBEDDERS["pixels"].embed(Batch(pictures, passed))
    assert vectors.shape == (3, 768)
    mirrored = [each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in pictures]
    again = EMBEDDERS["pixels"].embed(Batch(mirrored, passed))
    np.testing.assert_allclose(again.reshape(3, 16, 16, 3).flip(2).reshape(3, -1), vectors, atol=0.005)
    assert EMBEDDERS["pixels"].kind == "looks"
