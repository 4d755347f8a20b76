"""What each method costs is counted, what is known is not computed again, and long work can be stopped."""

from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from peer_networks import noise
from toy_networks import SmallNet, TokenNet, classifier_of

from xaihub import explaining, perturbations
from xaihub.cams import CAMS, several
from xaihub.errors import TargetLayerError
from xaihub.explaining import explain, explain_query
from xaihub.methods import FEW_PASSES, METHODS, Query

assert explaining, "importing it registers the methods"
ALONE = [name for name, method in METHODS.items() if not method.shows_pictures]
GRADIENT_FREE = ["cam", "finercam", "smooth-gradcam++", "scorecam", "ablationcam", "occlusion", "rise", *CAMS]


class Counted:
    """A classifier, and how many pictures its head and its first layer have seen."""

    def __init__(self, module, **options):
        self.classifier = classifier_of(module, **options)
        self.above = self.below = 0
        module.head.register_forward_pre_hook(self._see_above)
        first = module.stem if isinstance(module, SmallNet) else module.embed
        first.register_forward_pre_hook(self._see_below)

    def _see_above(self, _module, inputs):
        self.above += len(inputs[0])

    def _see_below(self, _module, inputs):
        self.below += len(inputs[0])

    def since(self, ask):
        """(pictures above, pictures below) that this took."""
        before = self.above, self.below
        ask()
        return self.above - before[0], self.below - before[1]


def counted_for(name, **options):
    attention = "attention" in METHODS[name].needs
    return Counted(TokenNet() if attention else SmallNet(), **options)


@pytest.mark.parametrize("name", ALONE)
def test_a_method_costs_what_it_says_beyond_the_shared_pass(name):
    counted = counted_for(name)
    assert not METHODS[name].missing(counted.classifier, None)
    query = Query(counted.classifier, noise(), target=1)
    assert counted.since(lambda: query.logits) == (1, 1)
    above, below = counted.since(lambda: METHODS[name].run(query))
    promised = METHODS[name].cost(counted.classifier)
    assert max(above, below) <= promised
    assert (max(above, below) == 0) == (promised == 0)
    if name in GRADIENT_FREE:
        assert above == promised
        assert below == (1 if METHODS[name].above else promised), "one batch from the target layer up"


@pytest.mark.parametrize("name", GRADIENT_FREE)
def test_another_target_costs_no_further_pass_and_gives_another_map(name):
    counted = counted_for(name)
    query = Query(counted.classifier, noise(), target=1)
    METHODS[name].run(query)
    other = query.about(target=2)
    found = []
    assert counted.since(lambda: found.extend(METHODS[name].run(other))) == (0, 0)
    for evidence in found:
        expected = METHODS[name].run(Query(counted.classifier, noise(), target=2))[0]
        np.testing.assert_allclose(evidence.raw, expected.raw, atol=1e-6)
        assert "'blue'" in evidence.caption or name == "eigencam"


def test_questions_asked_before_the_first_pass_share_it_too():
    counted = counted_for("gradcam")
    query = Query(counted.classifier, noise())
    others = [query.about(target=target) for target in range(3)]
    maps = []

    def ask():
        for other in (*others, query):
            maps.append(METHODS["gradcam"].run(other)[0].raw)

    assert counted.since(ask) == (1, 1)
    assert not np.allclose(maps[0], maps[1])


def test_several_maps_of_several_pictures_and_targets_come_from_one_pass():
    counted = counted_for("gradcam")
    pixels = torch.stack([counted.classifier.transform(noise(seed=seed)) for seed in range(3)])
    found = {}
    assert counted.since(lambda: found.update(several(counted.classifier, pixels, [2, 0, 1], list(CAMS)))) == (3, 3)
    for name, maps in found.items():
        for n, target in enumerate([2, 0, 1]):
            expected = METHODS[name].run(Query(counted.classifier, noise(seed=n), target=target))[0].raw
            np.testing.assert_allclose(maps[n].numpy(), expected, atol=1e-5, rtol=1e-4)


def test_asked_for_nothing_in_particular_only_what_is_cheap_runs():
    counted = counted_for("gradcam")
    explanation = []
    above, _ = counted.since(lambda: explanation.append(explain(counted.classifier, noise())))
    cheap = {name for name in ALONE if METHODS[name].cost(counted.classifier) <= FEW_PASSES}
    able = {name for name in cheap if not METHODS[name].missing(counted.classifier, None)}
    assert set(explanation[0].evidence) == able
    assert {"gradcam", "finercam", "cam"} <= able
    assert not able & {"scorecam", "ablationcam", "rise", "occlusion", "smoothgrad", "integrated-gradients"}
    assert above <= 1 + sum(METHODS[name].cost(counted.classifier) for name in able)


@pytest.mark.parametrize("name", ["scorecam", "ablationcam", "occlusion"])
def test_what_is_dear_runs_when_it_is_named(name):
    counted = counted_for(name)
    assert METHODS[name].cost(counted.classifier) > FEW_PASSES
    assert explain(counted.classifier, noise(), name)[name][0].raw.any()


STOPPABLE = ["scorecam", "ablationcam", "occlusion", "rise"]


@pytest.mark.parametrize("name", STOPPABLE)
def test_long_work_stops_between_batches_and_is_not_half_remembered(name, monkeypatch):
    monkeypatch.setattr(perturbations, "BATCH", 4)
    monkeypatch.setattr(perturbations, "RISE_MASKS", 30)
    monkeypatch.setattr(perturbations, "ELEMENTS", 4 * 16 * 64)  # four of its sixteen channels at once
    counted = counted_for(name)
    told = []

    def stop(share, sentence):
        told.append((share, sentence))
        if len(told) == 3:
            raise CancelledError

    query = Query(counted.classifier, noise(), target=1, progress=stop)
    known, before = query.passed, counted.above
    with pytest.raises(CancelledError):
        METHODS[name].run(query)
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0][0] == 0
    assert 0 < told[2][0] < 1
    assert METHODS[name].title in told[2][1]
    assert counted.above - before == 2 * 4, "two batches were finished"
    assert query.memory == {"passed": known}
    assert torch.is_grad_enabled()
    assert sum(len(part._forward_hooks) for part in counted.classifier.module.modules()) == 0

    again = METHODS[name].run(query.about(progress=lambda *_: None))[0].raw
    np.testing.assert_allclose(again, METHODS[name].run(Query(counted.classifier, noise(), target=1))[0].raw)


def test_one_method_that_cannot_run_does_not_take_the_others_with_it(monkeypatch):
    classifier = classifier_of(SmallNet())

    def refuse(_query):
        raise TargetLayerError("Its blocks cannot be told apart.")

    monkeypatch.setitem(
        METHODS._entries, "hirescam", METHODS["hirescam"].__class__("hirescam", refuse, frozenset(), "")
    )
    found = explain(classifier, noise())
    assert "hirescam" not in found
    assert found.notes["hirescam"] == ("Its blocks cannot be told apart.",)
    assert "gradcam" in found
    with pytest.raises(TargetLayerError, match="told apart"):
        explain_query(Query(classifier, noise()), ["gradcam", "hirescam"])
