"""Reference pictures at several layers: what each is, what that costs, and whose pictures may be used."""

from dataclasses import replace

import pytest
import torch
from tiny_models import picture
from toy_networks import SmallNet, classifier_of

from xaihub.building import build_references
from xaihub.datasets import from_pairs
from xaihub.errors import CancelledError
from xaihub.layer_embeddings import BATCH, embed_layers, means, rows_of
from xaihub.passes import tap
from xaihub.stages import stages

PAIRS = [(str(i), "cat" if i % 3 else "dog", picture(40, 40, seed=i)) for i in range(20)]


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(SmallNet())


@pytest.fixture(scope="module")
def references(classifier):
    return build_references(classifier, from_pairs("drawn", PAIRS))


def count_pictures(classifier):
    """A list that grows by each pass's number of pictures, and the handle that ends it."""
    passes: list[int] = []
    return passes, classifier.module.register_forward_hook(lambda module, given, output: passes.append(len(given[0])))


def test_each_layer_gives_the_mean_of_its_maps_over_the_places(classifier, references):
    layers = stages(classifier)
    found = embed_layers(classifier, references, layers)
    pixels = torch.stack([classifier.transform.pixels_of(references.picture(row)) for row in range(20)])
    for layer, vectors in zip(layers, found.vectors, strict=True):
        with tap(classifier, [layer]) as run:
            expected = torch.nn.functional.normalize(run(pixels).embedding, dim=1)
        torch.testing.assert_close(vectors, expected)
        assert vectors.shape == (20, layer.view.channels)
    assert found.rows == tuple(range(20))
    assert (found.logits == references.logits).all()
    target = torch.nn.functional.cosine_similarity(found.vectors[-1], references.embeddings)
    assert target.min() > 0.99  # the stored pictures are JPEGs


def test_all_layers_together_cost_one_pass_of_each_picture_and_leave_no_trace(classifier, references):
    layers, told = stages(classifier), []
    passes, handle = count_pictures(classifier)
    embed_layers(classifier, references, layers, progress=lambda share, stage: told.append(share))
    handle.remove()
    assert sum(passes) == 20
    assert max(passes) == BATCH
    assert told == [0.0, 0.4, 0.8, 1.0]
    assert all(not part._forward_hooks for part in classifier.module.modules())


def test_nothing_of_the_graph_is_recorded_or_held(classifier):
    with means(classifier, stages(classifier)) as run:
        found = run(torch.rand(3, 3, 32, 32))
    assert [each.shape[0] for each in found] == [3] * len(found)
    assert not any(each.requires_grad for each in found)


def test_progress_can_stop_it(classifier, references):
    layers = stages(classifier)
    passes, handle = count_pictures(classifier)

    def stop(share: float, stage: str) -> None:
        if share > 0:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        embed_layers(classifier, references, layers, progress=stop)
    handle.remove()
    assert sum(passes) == BATCH
    assert all(not part._forward_hooks for part in classifier.module.modules())


def test_fewer_pictures_are_taken_evenly_from_the_predicted_classes(classifier, references):
    assert rows_of(references, 5) == [0, 4, 8, 12, 16]
    assert rows_of(references, 99) == list(range(20))
    found = embed_layers(classifier, references, stages(classifier), limit=5)
    assert len(found) == 5
    everything = embed_layers(classifier, references, stages(classifier))
    torch.testing.assert_close(found.vectors[0], everything.vectors[0][[0, 4, 8, 12, 16]])


def test_the_pictures_of_another_classifiers_references_are_prepared_and_judged_anew(classifier, references):
    other = replace(classifier_of(SmallNet(seed=3), (48, 48)), repo_id="somebody/else")
    found = embed_layers(other, references, stages(other))
    pixels = torch.stack([other.transform(references.picture(row)) for row in range(20)])
    torch.testing.assert_close(found.logits, other.logits(pixels))
    assert not torch.allclose(found.logits, references.logits)
