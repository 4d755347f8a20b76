"""A web server explains on several threads at once; the answers must be those of one thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from toy_networks import SmallNet, TokenNet, classifier_of

from xaihub.building import build_references
from xaihub.datasets import from_pairs
from xaihub.explaining import explain

THREADS, REQUESTS = 8, 200


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def pairs():
    return [
        (classifier, build_references(classifier, from_pairs("noise", [(str(i), "x", noise(i)) for i in range(30)])))
        for classifier in (classifier_of(SmallNet(seed=4)), classifier_of(TokenNet(prefix=2)))
    ]


def answer(request, pairs):
    classifier, references = pairs[request % 2]
    target = request % 3
    explanation = explain(
        classifier, noise(100 + request % 20), ["gradcam", "layercam", "twins"], target=target, references=references
    )
    return (
        explanation.prediction.probabilities,
        explanation["gradcam"][0].raw,
        explanation["layercam"][0].raw,
        [evidence.facts["key"] for evidence in explanation["twins"]],
        *[evidence.raw for evidence in explanation["twins"]],
    )


def test_eight_threads_with_two_models_answer_as_one_thread_does(pairs):
    alone = [answer(request, pairs) for request in range(REQUESTS)]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda request: answer(request, pairs), range(REQUESTS)))
    for one, many in zip(alone, together, strict=True):
        for expected, got in zip(one, many, strict=True):
            if isinstance(expected, list):
                assert got == expected
            else:
                np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-4)
    for classifier, _ in pairs:
        assert not any(part._forward_hooks for part in classifier.module.modules())


def test_threads_that_find_the_network_in_training_mode_leave_it_so():
    module = SmallNet()
    classifier = classifier_of(module)
    expected = explain(classifier, noise(0), ["gradcam"])["gradcam"][0].raw
    module.train()
    with ThreadPoolExecutor(THREADS) as pool:
        maps = list(pool.map(lambda _: explain(classifier, noise(0), ["gradcam"])["gradcam"][0].raw, range(40)))
    assert all(np.allclose(got, expected, atol=1e-5) for got in maps)
    assert module.training
    assert module.stem[1].training
