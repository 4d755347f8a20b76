"""Cells and pairs of cells: what they carry, when that adds up, and which of two pictures belong together."""

import numpy as np
import pytest
import torch
from peer_networks import noise
from torch import nn
from toy_networks import ColourCounter, SmallNet, TokenNet, classifier_of

from xaihub.discriminant import EXACT, SCOUT, scout
from xaihub.explaining import explain, explain_query
from xaihub.methods import METHODS, Query
from xaihub.passes import tap
from xaihub.regions import adds_up, cell_box, cell_evidence, centred_score, pairs, told_by_head


class DeepHead(SmallNet):
    """Above its layer stand two linear layers with a bend between them, which its cells cannot add up through."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, pixels):
        return self.head(torch.tanh(self.middle(self.after(self.body(self.stem(pixels))).mean((-2, -1)))))


class Ended(SmallNet):
    """Its one linear map is not the last thing that it does."""

    def __init__(self, end, classes=3) -> None:
        super().__init__(classes, seed=3)
        self.end = end
        with torch.no_grad():
            self.head.weight.mul_(8)

    def forward(self, pixels):
        return self.end(super().forward(pixels))


class Cosine(SmallNet):
    """Answers with cosines; the one linear map of as many outputs as classes is a gate."""

    def forward(self, pixels):
        read = self.after(self.body(self.stem(pixels))).mean((-2, -1))
        read = read * (1 + self.head(read).sigmoid().mean(1, keepdim=True))
        return 10 * nn.functional.normalize(read) @ nn.functional.normalize(torch.eye(16)[:, :3] + 0.1, dim=0)


ENDS = [lambda z: z**3, torch.tanh]


def with_added(module, vector):
    with torch.no_grad():
        module.head.weight.add_(vector)
    return module


def passed_of(classifier, count=3):
    pixels = torch.stack([classifier.transform(noise(seed=seed)) for seed in range(count)])
    with tap(classifier) as run:
        return run(pixels)


def cosine(one, other):
    return float(one @ other / (one.norm() * other.norm()).clamp_min(1e-12))


def pairs_by_loops(ours, theirs, most=3):
    """The definition, place by place: mutual nearest, evidence times evidence times cosine, none beside another."""
    a = {(r, c): ours[:, r, c] for r in range(ours.shape[1]) for c in range(ours.shape[2])}
    b = {(r, c): theirs[:, r, c] for r in range(theirs.shape[1]) for c in range(theirs.shape[2])}
    total, other_total = (sum(max(float(v.sum()), 0) for v in cells.values()) for cells in (a, b))
    scored = []
    for i, vector in a.items():
        j = max(b, key=lambda cell: cosine(vector, b[cell]))
        back = max(a, key=lambda cell: cosine(a[cell], b[j]))
        score = max(float(vector.sum()), 0) * max(float(b[j].sum()), 0) * max(cosine(vector, b[j]), 0)
        enough = float(vector.sum()) * len(a) >= total and float(b[j].sum()) * len(b) >= other_total
        if back == i and score > 0 and enough:
            scored.append((score, i, j))
    found = []
    for _, i, j in sorted(scored, reverse=True):
        near = [max(abs(x[0] - y[0]), abs(x[1] - y[1])) <= 1 for x, y in [(i, k) for k, _ in found]]
        near += [max(abs(j[0] - k[0]), abs(j[1] - k[1])) <= 1 for _, k in found]
        if not any(near) and len(found) < most:
            found.append((i, j))
    return found


def test_cells_and_bias_are_the_logit_where_the_head_is_a_mean_and_linear():
    classifier = classifier_of(SmallNet(seed=3), size=(32, 48))
    passed = passed_of(classifier)
    for target in range(3):
        score = passed.score([target] * 3)
        cells = cell_evidence(passed.activations, passed.gradients_of(score))
        assert cells.shape == (3, 8, 12)
        assert adds_up(cells, told_by_head(passed, score)).all()
        bias = classifier.module.head.bias[target]
        torch.testing.assert_close(cells.sum((1, 2)) + bias, score.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "module", [DeepHead(), TokenNet(), ColourCounter(0.01)], ids=["deep", "class token", "unknown"]
)
def test_it_is_not_said_where_they_do_not_add_up_or_nobody_knows(module):
    classifier = classifier_of(module)
    passed = passed_of(classifier)
    score = passed.score([1, 1, 1])
    cells = cell_evidence(passed.activations, passed.gradients_of(score))
    assert not adds_up(cells, told_by_head(passed, score)).any()


def test_one_pictures_cells_may_add_up_while_anothers_do_not():
    cells = torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]], [[500.0, -500.0]]])
    assert adds_up(cells, torch.tensor([3.0, 3.01, 0.01])).tolist() == [True, False, True], "relative to the terms"


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_their_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = torch.randn(4, 5, 7, generator=generator), torch.randn(4, 6, 4, generator=generator)
    found = pairs(ours, theirs)
    assert [(pair.query, pair.twin) for pair in found] == pairs_by_loops(ours, theirs)
    for pair in found:
        evidence = ours.sum(0)
        assert pair.share == pytest.approx(float(evidence[pair.query] / evidence.relu().sum()))
        assert pair.similarity == pytest.approx(cosine(ours[:, *pair.query], theirs[:, *pair.twin]))


def test_the_same_part_elsewhere_is_found_and_carries_its_share():
    ours, theirs = torch.zeros(3, 4, 6), torch.zeros(3, 5, 3)
    ours[0, 1, 4] = theirs[0, 4, 0] = 3  # an ear, say
    ours[1, 3, 0] = theirs[1, 0, 2] = 1  # a tail
    ours[2, 0, 1] = -5  # speaks against, and is no part of what speaks for it
    found = pairs(ours, theirs)
    assert [(pair.query, pair.twin) for pair in found] == [((1, 4), (4, 0)), ((3, 0), (0, 2))]
    assert [pair.share for pair in found] == [0.75, 0.25]
    assert found[0].similarity == pytest.approx(1)


def test_no_two_pairs_lie_side_by_side_in_either_picture_and_three_are_enough():
    ours, theirs = torch.zeros(6, 1, 12), torch.zeros(6, 1, 12)
    for i, (here, there) in enumerate([(0, 0), (1, 6), (4, 1), (6, 4), (9, 8), (11, 11)]):
        ours[i, 0, here] = theirs[i, 0, there] = 10 - i
    found = [(pair.query[1], pair.twin[1]) for pair in pairs(ours, theirs)]
    assert found == [(0, 0), (6, 4), (9, 8)], "1 lies beside 0 here, 4's twin beside 0 there, and a fourth is too many"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (torch.ones(3, 1, 1), torch.ones(3, 4, 4)),
        (torch.ones(3, 4, 4), torch.ones(3, 1, 1)),
        (-torch.ones(3, 4, 4), torch.ones(3, 4, 4)),
        (torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)),
    ],
    ids=["one cell", "one cell there", "against", "nothing"],
)
def test_where_nothing_can_be_paired_there_are_no_pairs(ours, theirs):
    assert pairs(ours, theirs) == ()


def test_of_a_fine_grid_the_strongest_cells_are_compared(monkeypatch):
    monkeypatch.setattr("xaihub.regions._MOST_CELLS", 8)
    ours, theirs = torch.full((2, 6, 6), -0.1), torch.full((2, 5, 5), -0.1)
    ours[0, 5, 1] = theirs[0, 2, 3] = 2
    assert [(pair.query, pair.twin) for pair in pairs(ours, theirs)] == [((5, 1), (2, 3))]


def test_a_cell_becomes_a_box_with_its_margin_that_ends_at_the_crops_edges():
    assert cell_box((1, 2), (4, 6), (60, 80), margin=0.5) == (15, 10, 35, 50)
    assert cell_box((0, 5), (4, 6), (60, 80), margin=0.5) == (45, 0, 60, 30)
    assert cell_box((3, 0), (4, 6), (60, 80), margin=0) == (0, 60, 10, 80)


def test_a_vector_added_to_all_rows_of_a_head_changes_no_pair():
    added = torch.randn(16, generator=torch.Generator().manual_seed(1)) * 3
    for seed in range(4):
        found = []
        for module in (SmallNet(seed=seed), with_added(SmallNet(seed=seed), added)):
            passed = passed_of(classifier_of(module), 2)
            score = centred_score(passed, [2, 2], "softmax")
            ours, theirs = passed.activations * passed.gradients_of(score)
            found.append(pairs(ours, theirs))
        assert [(pair.query, pair.twin) for pair in found[0]] == [(pair.query, pair.twin) for pair in found[1]]
        assert found[0]
        np.testing.assert_allclose([pair.share for pair in found[0]], [pair.share for pair in found[1]], rtol=1e-3)


def test_the_discriminant_map_of_a_linear_head_is_the_margin_place_by_place():
    classifier = classifier_of(SmallNet(seed=1), size=(32, 48))
    query = Query(classifier, noise(), target=0, against="blue")
    found = explain_query(query, ["discriminant"])["discriminant"][0]
    head, maps = classifier.module.requires_grad_(False).head, query.activations.relu()
    expected = torch.einsum("k,khw->hw", head.weight[0] - head.weight[2], maps) / maps[0].numel()
    np.testing.assert_allclose(found.raw, expected, atol=1e-6)
    margin = query.logits[0] - query.logits[2] - (head.bias[0] - head.bias[2])
    assert found.raw.sum() == pytest.approx(float(margin), rel=1e-4)
    assert found.facts["exact"]
    assert found.facts["signed"]
    assert found.facts["other"] == "blue"
    assert found.caption.endswith(EXACT)
    other_way = explain_query(query.about(target="blue", against="red"), ["discriminant"])["discriminant"][0]
    np.testing.assert_allclose(other_way.raw, -found.raw, atol=1e-6)


def test_a_linear_head_that_is_not_known_is_found_out_by_one_pass_with_the_maps_off():
    classifier = classifier_of(ColourCounter(0.01))
    assert not classifier.head
    query = Query(classifier, noise(), target=0, against="blue")
    found = explain_query(query, ["discriminant"])["discriminant"][0]
    assert found.facts["exact"]
    assert found.raw.sum() == pytest.approx(float(query.logits[0] - query.logits[2]), rel=1e-3, abs=1e-3)
    assert METHODS["discriminant"].cost(classifier) == 1
    assert METHODS["discriminant"].cost(classifier_of(SmallNet())) == 0


def test_where_the_head_is_more_the_discriminant_is_scouts_and_says_so():
    found = explain(classifier_of(DeepHead()), noise(), "discriminant", target=1)["discriminant"][0]
    assert not found.facts["exact"]
    assert found.signed is None
    assert found.caption.endswith(SCOUT)
    assert found.raw.min() >= 0
    assert found.raw.max() > 0


@pytest.mark.parametrize("module", [*map(Ended, ENDS), Cosine()], ids=["cube", "tanh", "cosine"])
def test_a_linear_map_that_does_not_give_the_answer_is_no_head_and_proves_nothing(module):
    classifier = classifier_of(module)
    assert classifier.head == "head", "one that could be it, not asked yet"
    passed = passed_of(classifier)
    assert passed.penultimate is None
    assert told_by_head(passed, passed.score([0, 1, 2])) is None
    found = explain(classifier, noise(), "discriminant")["discriminant"][0]
    assert not found.facts["exact"]
    assert found.caption.endswith(SCOUT)


@pytest.mark.parametrize("end", [lambda z: z.softmax(-1), torch.sigmoid], ids=["softmax", "sigmoid"])
def test_the_head_below_a_softmax_or_a_sigmoid_gives_what_is_explained(end):
    ended, plain = (passed_of(classifier_of(network)) for network in (Ended(end), Ended(lambda z: z)))

    torch.testing.assert_close(ended.logits, plain.logits)
    torch.testing.assert_close(ended.penultimate, plain.penultimate)


def test_the_head_of_a_yes_or_no_and_of_a_picture_that_overflows_is_still_the_head():
    for classes in (1, 3):
        classifier = classifier_of(SmallNet(classes, seed=3), classes=classes)
        pixels = torch.stack([classifier.transform(noise(seed=seed)) for seed in range(2)])
        pixels[1] *= 1e38
        with tap(classifier) as run:
            passed = run(pixels)
        assert not passed.logits[1].isfinite().all()
        score = passed.score([1, 1])
        told = told_by_head(passed, score)
        bias = classifier.module.head.bias[-1 if classes == 1 else 1]
        torch.testing.assert_close(told[0] + bias, score[0], rtol=1e-4, atol=1e-5)


def test_scout_is_its_equation():
    own, other, certain = torch.randn(3, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    found = scout(own, other, certain)
    for n in range(2):
        unit = [(m[n] - m[n].min()) / (m[n].max() - m[n].min()) for m in (own, other, certain)]
        for row in range(3):
            for column in range(5):
                a, b, s = (float(m[row, column]) for m in unit)
                assert float(found[n, row, column]) == pytest.approx(a * (1 - b) * s, abs=1e-6)
    flat = torch.full((2, 3, 5), 7.0)
    torch.testing.assert_close(
        scout(own, flat, flat), (own - own.amin((1, 2), True)) / (own - own.amin((1, 2), True)).amax((1, 2), True)
    )
    assert not scout(flat, other, certain).any(), "where the class comes from no place, none is shown"


def test_certainty_does_not_fade_where_the_classifier_is_certain():
    module = DeepHead()
    with torch.no_grad():
        module.head.bias.copy_(torch.tensor([0.0, 200.0, 0.0]))
    found = explain(classifier_of(module), noise(), "discriminant")["discriminant"][0]
    assert found.facts["label"] == "green"
    assert found.raw.max() > 0
