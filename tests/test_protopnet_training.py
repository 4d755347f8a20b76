"""The parts of training prototypes together with their network, on problems whose answer is known."""

import json
import multiprocessing
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from killing import dies, moments
from prototype_child import black_box
from safetensors.torch import save_file
from torch import nn

from xaihub.datasets import open_dataset
from xaihub.errors import DatasetError
from xaihub.families.base import read_config
from xaihub.families.from_protopnet import load_black_box
from xaihub.finetuning.pixel_store import read_pixels
from xaihub.folders import replacing_file
from xaihub.prototype_maps import look
from xaihub.prototype_training import PUBLISHED, PrototypeTraining
from xaihub.prototype_training.course import Lesson, PrototypeCourse, upper_weights
from xaihub.prototype_training.fitting import train_network
from xaihub.prototype_training.watching import nearest_cells, spread, spread_of, take
from xaihub.prototypes import PrototypeLayer, PrototypeNetwork, PrototypeSettings, Source
from xaihub.prototypes.losses import (
    cluster_cost,
    distillation,
    nearest_distances,
    other_class_weights,
    separation_cost,
)

QUICK = PrototypeTraining(per_class=4, warm_up=1, epochs=2, batch_size=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A classifier, the store of its training pictures, and how it sees them."""
    folder, data = black_box(tmp_path_factory.mktemp("made"))
    classifier = load_black_box(folder, read_config(folder), {"repo_id": "tiny", "revision": None})
    store = read_pixels(open_dataset(data), classifier.transform, ("fake", "real"))
    return classifier, store, look(classifier, store.rows)


def layer_of(vectors, owners=(0, 0, 1), **settings) -> PrototypeLayer:
    """A layer that compares the maps' channels themselves with these vectors."""
    channels = len(vectors[0])
    asked = PrototypeSettings(channels, channels, max(owners) + 1, owners, **{"pooled": 1, "least": 0.0, **settings})
    layer = PrototypeLayer(asked)
    with torch.no_grad():
        layer.add_on.weight.copy_(torch.eye(channels)[:, :, None, None])
        layer.add_on.bias.zero_()
        layer.vectors.copy_(torch.tensor(vectors))
    return layer


# What pulls and pushes them


@pytest.mark.parametrize("similarity", ["cosine", "log-distance"])
def test_costs_are_those_of_the_equations_written_as_loops(similarity):
    generator = torch.Generator().manual_seed(0)
    maps, owners = torch.rand(4, 3, 2, 3, generator=generator), (0, 0, 1, 2, 2)
    layer = layer_of(torch.rand(5, 3, generator=generator).tolist(), owners, similarity=similarity)
    targets = torch.tensor([0, 2, 1, 0])
    near, far = [], []
    for picture, target in zip(maps, targets.tolist(), strict=True):
        distances = []
        for vector in layer.vectors.detach():
            cells = picture.flatten(1).T
            if similarity == "cosine":
                apart = [1 - nn.functional.cosine_similarity(cell, vector, dim=0) for cell in cells]
            else:
                apart = [(cell - vector).square().sum() for cell in cells]
            distances.append(min(map(float, apart)))
        near.append(min(d for d, owner in zip(distances, owners, strict=True) if owner == target))
        far.append(min(d for d, owner in zip(distances, owners, strict=True) if owner != target))

    found = nearest_distances(layer.similarities(layer.embed(maps)), similarity).detach()

    assert float(cluster_cost(found, targets, layer.owners)) == pytest.approx(sum(near) / 4, abs=1e-4)
    assert float(separation_cost(found, targets, layer.owners)) == pytest.approx(sum(far) / 4, abs=1e-4)


def test_a_class_without_prototypes_costs_nothing_and_breaks_nothing():
    distances = torch.tensor([[0.25, 0.5], [0.125, 1.0]], requires_grad=True)

    cost = cluster_cost(distances, torch.tensor([0, 1]), torch.tensor([0, 0]))
    cost.backward()

    assert cost.item() == 0.25
    assert distances.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_only_weights_for_other_classes_are_priced():
    weights = torch.tensor([[1.0, 2.0, -0.5], [-0.25, 0.5, 4.0]])

    assert float(other_class_weights(weights, torch.tensor([0, 0, 1]))) == 0.5 + 0.25 + 0.5


def test_distillation_of_a_certain_teacher_is_the_cross_entropy():
    logits = torch.tensor([[1.0, 2.0], [0.0, -1.0]])

    found = distillation(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))

    assert float(found) == pytest.approx(float(nn.functional.cross_entropy(logits, torch.tensor([0, 0]))))


# What of the network learns, and in which order pictures come


def test_only_the_last_weights_below_the_prototypes_learn(made):
    classifier = made[0]
    layer = PrototypeLayer(PrototypeSettings(12, 4, 2, (0, 1)))
    network = PrototypeNetwork(
        deepcopy(classifier.module), {classifier.target_layer.name: classifier.target_layer.view}, layer
    )
    names = {id(parameter): name for name, parameter in network.black_box.named_parameters()}

    every = [names[id(each)] for each in upper_weights(network, torch.rand(1, 3, 32, 32), 1.0)]
    half = [names[id(each)] for each in upper_weights(network, torch.rand(1, 3, 32, 32), 0.5)]

    assert not any("classifier" in name for name in every)  # the head lies above
    assert len(every) == len(names) - 2
    assert half == every[-len(half) :]
    assert not any("embedder" in name for name in half)
    assert {name for name in every if "stages.1" in name} <= set(half)


def test_every_batch_has_as_many_pictures_of_each_class_and_none_comes_again_too_early():
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 2])
    course = PrototypeCourse(
        layer_of([[1.0, 0.0]] * 3, (0, 1, 2)), "warm-up", torch.rand(10, 2, 3, 3), Lesson(targets),
        PrototypeTraining(batch_size=3),
    )  # fmt: skip

    order = course.order(torch.Generator().manual_seed(0))

    assert len(order) == course.drawn == 12
    for batch in order.split(3):
        assert sorted(targets[batch].tolist()) == [0, 1, 2]
    assert len({int(place) for place in order if targets[place] == 0}) == 4
    assert sorted(int(place) for place in order if targets[place] == 1) == [7, 7, 8, 8]


# Whether they collapse


def test_the_nearest_cell_is_one_of_the_own_class():
    maps = torch.zeros(3, 2, 3, 3)
    maps[0, :, 2, 1] = torch.tensor([1.0, 0.1])
    maps[1, :, 0, 2] = torch.tensor([1.0, 0.0])  # nearer still, but of another class
    maps[2, :, 1, 1] = torch.tensor([0.0, 1.0])
    layer = layer_of([[1.0, 0.0], [0.0, 1.0]], (0, 0))

    sources = nearest_cells(layer, maps, torch.tensor([0, 1, 0]))
    take(layer, maps, sources)

    assert sources == (Source(0, (2, 1)), Source(2, (1, 1)))
    torch.testing.assert_close(layer.vectors.detach(), layer.embed(maps)[[0, 2], :, [2, 1], [1, 1]].detach())


def test_the_alarm_fires_on_prototypes_that_have_collapsed():
    """Ten of one class on one picture, ten of the other each on its own."""
    apart = torch.eye(10).tolist()
    layer = layer_of([[1.0] * 10] * 10 + apart, (0,) * 10 + (1,) * 10)
    sources = [Source(3, (0, place % 3)) for place in range(10)] + [Source(place, (0, 0)) for place in range(10, 20)]

    found = spread(layer, sources, list(range(20)), ("cat", "dog"))

    assert found.distinct_sources == {"cat": 1, "dog": 10}
    assert found.largest_share == {"cat": 1.0, "dog": 0.1}
    assert found.nearly_equal == {"cat": 45, "dog": 0}
    assert found.warnings == ("The 10 prototypes of 'cat' come from only one picture: they have collapsed.",)


def test_the_alarm_fires_where_one_picture_serves_too_many_and_where_a_class_has_none():
    layer = layer_of(torch.eye(10).tolist(), (0,) * 10)
    copies = [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]  # rows 0 to 2 are copies of one picture

    found = spread(layer, [Source(row, (0, 0)) for row in range(10)], copies, ("cat", "hen"))

    assert found.warnings == (
        "One picture serves 30% of the prototypes of 'cat'.",
        "The class 'hen' has no prototype, so nothing can speak for it.",
    )


def test_a_network_that_collapses_while_it_is_trained_says_so_in_its_records(made, tmp_path):
    """From anywhere, with a strong pull and nothing that keeps them apart, prototypes go to the same few patches."""
    _, store, looked = made
    pulled = replace(PrototypeTraining(**PUBLISHED), per_class=10, warm_up=8, epochs=0, rate=0.3, cluster=50.0)

    trained = train_network(looked, store, None, pulled, "labels", work=tmp_path)

    assert any("collapsed" in line for line in trained.history[-1]["warnings"])
    assert any("collapsed" in line for line in trained.spread.warnings)
    assert spread_of(trained.classifier.prototypes).warnings == trained.spread.warnings


# What training gives


@pytest.mark.parametrize("settings", [QUICK, replace(QUICK, similarity="log-distance")], ids=["usual", "log-distance"])
def test_each_prototype_is_the_vector_of_its_own_patch_and_the_black_box_is_as_it_was(made, settings, tmp_path):
    classifier, store, looked = made
    before = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}

    trained = train_network(looked, store, None, settings, "labels", work=tmp_path)

    held = trained.classifier.prototypes
    again = look(replace(classifier, module=held.network.black_box), store.rows)
    with torch.no_grad():
        cells = held.network.head.embed(again.maps)
    for vector, each in zip(held.network.head.vectors.detach(), held.gallery, strict=True):
        cell = cells[again.keys.index(each.key), :, each.cell[0], each.cell[1]]
        torch.testing.assert_close(vector, cell, atol=1e-6, rtol=1e-6)  # float32 has no more digits of numbers above 1
        assert f"/{held.labels[each.owner]}/" in f"/{each.key}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.module.state_dict().items())
    assert not all(torch.equal(tensor, before[name]) for name, tensor in held.network.black_box.state_dict().items())
    assert not any(parameter.requires_grad for parameter in trained.classifier.module.parameters())
    assert [row["stage"] for row in trained.history] == ["warm-up", "joint", "joint"]
    assert trained.spread.distinct_sources == {"fake": 4, "real": 4}


def test_the_published_recipe_keeps_weights_for_other_classes_and_may_use_a_picture_twice(made, tmp_path):
    _, store, looked = made
    settings = replace(PrototypeTraining(**PUBLISHED), per_class=3, warm_up=1, epochs=2, project_every=2)

    trained = train_network(looked, store, None, settings, "labels", work=tmp_path)

    head = trained.classifier.prototypes.network.head
    assert head.settings.owners == (0, 0, 0, 1, 1, 1)
    assert head.settings.add_on == "published"
    torch.testing.assert_close(head.weights[0], torch.tensor([1.0] * 3 + [-0.5] * 3), atol=0.01, rtol=0)
    assert head.bias.tolist() == [0, 0]


def test_a_validation_split_chooses_the_epoch_after_projection(made, tmp_path):
    _, store, looked = made

    trained = train_network(looked, store, store, QUICK, "labels", work=tmp_path)

    assert all("validation_loss" in row for row in trained.history if row["stage"] == "joint")
    assert trained.kept.endswith("each judged after its prototypes were moved onto patches")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"per_class": 0}, "per_class is 0; it must be 1 or more"),
        ({"rate": 2.0}, "A rate of 2.0 trains nothing"),
        ({"add_on": "published"}, "cannot start from them"),
    ],
)
def test_settings_that_cannot_do_are_a_sentence(settings, says):
    with pytest.raises(DatasetError, match=says):
        PrototypeTraining(**settings)


def _train(made, work, file) -> None:
    """All of a training, and its weights in a file."""
    _, store, looked = made
    trained = train_network(looked, store, None, QUICK, "labels", work=work)
    weights = {name: tensor.contiguous() for name, tensor in trained.classifier.module.state_dict().items()}
    with replacing_file(file) as draft:
        save_file(weights, draft, metadata={"history": json.dumps(trained.history)})


def test_a_training_that_was_killed_goes_on_to_the_same_bytes(made, tmp_path):
    fork, whole = multiprocessing.get_context("fork"), (made, tmp_path / "whole", tmp_path / "whole.safetensors")

    for moment in moments(fork, _train, whole, tmp_path, seed=1):
        again = (made, tmp_path / f"killed {moment}", tmp_path / f"killed {moment}.safetensors")
        assert dies(fork, _train, again, tmp_path, moment)
        _train(*again)
        assert again[2].read_bytes() == whole[2].read_bytes()
