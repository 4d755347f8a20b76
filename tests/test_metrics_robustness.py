"""Max-sensitivity, model randomisation, random logit: captum, equations in plain loops, and answers on paper."""

import copy

import numpy as np
import pytest
import torch
from metric_networks import lot_maps, pictures, red_sum, sharp

from xaihub.agreement import agreement
from xaihub.cams import several
from xaihub.errors import UnknownNameError, XaihubError
from xaihub.explaining import METHODS
from xaihub.metrics import METRICS, baseline_explainer, explainer_of
from xaihub.metrics.likeness import spearman, structural
from xaihub.metrics.randomisation import layers_with_weights, other_classes, randomised, similarities
from xaihub.metrics.robustness import noisy_copies

pytestmark = pytest.mark.agreement

TARGETS = torch.tensor([0, 1, 2])


def input_gradients(classifier, pixels, targets):
    """(N, H, W), the gradient's red: captum explains with it too."""
    leaf = pixels.clone().requires_grad_()
    with torch.enable_grad():  # captum asks without
        (found,) = torch.autograd.grad(classifier.score(leaf, targets).sum(), [leaf])
    return found[:, 0]


def constant(maps):
    return lambda _classifier, pixels, _targets: maps[:1].expand(len(pixels), -1, -1)


def test_max_sensitivity_equals_its_equation_in_plain_loops():
    classifier, pixels, explainer = sharp(), pictures(), explainer_of("gradcam")
    found = METRICS["max-sensitivity"].run(classifier, pixels, lot_maps(), TARGETS, explainer=explainer, copies=4)
    for i in range(3):
        first = explainer(classifier, pixels[i : i + 1], TARGETS[i : i + 1])[0]
        changes = []
        for copied in noisy_copies(pixels[i], 0.02, 4):
            assert 0.015 < float((copied - pixels[i]).abs().max()) <= 0.02 + 1e-6
            again = explainer(classifier, copied[None], TARGETS[i : i + 1])[0]
            changes.append(float((again - first).norm() / first.norm()))
        assert float(found[i]) == pytest.approx(max(changes), rel=1e-3)


def test_max_sensitivity_agrees_with_captum():
    metrics = pytest.importorskip("captum.metrics")
    classifier, pixels = sharp(), pictures()
    copies = torch.stack([noisy_copies(picture, 0.05, 6) for picture in pixels])  # (N, 6, 3, H, W)

    def explained(given):
        given = given[0] if isinstance(given, tuple) else given
        return (input_gradients(classifier, given, TARGETS.repeat_interleave(len(given) // 3)),)

    theirs = metrics.sensitivity_max(
        explained, pixels, perturb_func=lambda inputs, radius: copies[:, : len(inputs) // 3].flatten(0, 1),
        n_perturb_samples=6,
    )  # fmt: skip
    ours = METRICS["max-sensitivity"].run(
        classifier, pixels, lot_maps(), TARGETS, explainer=input_gradients, radius=0.05, copies=6
    )
    assert float(ours.min()) > 1e-3
    torch.testing.assert_close(ours, theirs.detach().float(), atol=1e-4, rtol=1e-3)


def test_a_map_that_never_looks_does_not_move_and_an_empty_one_says_nothing():
    run = METRICS["max-sensitivity"].run
    never = run(sharp(), pictures(), lot_maps(), TARGETS, explainer=baseline_explainer("centre"))
    assert never.tolist() == [0.0] * 3
    by_lot = run(sharp(), pictures(), lot_maps(), TARGETS, explainer=baseline_explainer("random"))
    assert float(by_lot.min()) > 0.3, "another picture, another lot"
    empty = run(sharp(), pictures(), lot_maps(), TARGETS, explainer=constant(torch.zeros(1, 6, 8)))
    assert bool(empty.isnan().all())


def test_max_sensitivity_of_a_linear_network_is_known_on_paper():
    """The map is the red itself: what the noise adds to it, over its size."""
    pixels = pictures(2)
    found = METRICS["max-sensitivity"].run(
        red_sum(), pixels, lot_maps(2), TARGETS[:2], explainer=lambda _c, given, _t: given[:, 0], copies=3
    )
    for i in range(2):
        noise = noisy_copies(pixels[i], 0.02, 3)[:, 0] - pixels[i, 0]
        assert float(found[i]) == pytest.approx(float(noise.norm(dim=(1, 2)).max() / pixels[i, 0].norm()), rel=1e-4)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_randomisation_equals_its_equation_in_plain_loops(order):
    classifier, pixels, explainer = sharp(), pictures(), explainer_of("gradcam")
    found = similarities(classifier, pixels, TARGETS, explainer, order, stages=None, seed=3)
    first = explainer(classifier, pixels, TARGETS).numpy()
    names = [name for name, _ in layers_with_weights(classifier.module)]
    assert names == ["net.head", "net.body", "net.stem.1", "net.stem.0"], "from the top down"
    module = copy.deepcopy(classifier.module)
    for stage, name in enumerate(names):
        if order == "independent":
            module = copy.deepcopy(classifier.module)
        with torch.random.fork_rng():
            torch.manual_seed(4)
            module.get_submodule(name).reset_parameters()
        again = explainer(sharp_with(module), pixels, TARGETS).numpy()
        expected = [agreement([one, two])[0, 1] for one, two in zip(first, again, strict=True)]
        assert found[:, stage].tolist() == pytest.approx(expected, abs=1e-4)
    mean = METRICS[f"{order}-randomisation"].run(
        classifier, pixels, lot_maps(), TARGETS, explainer=explainer, stages=None, seed=3
    )
    torch.testing.assert_close(mean, found.mean(1))


def sharp_with(module):
    from dataclasses import replace

    return replace(sharp(), module=module)


def test_randomisation_leaves_the_network_and_the_lots_of_others_as_they_were():
    classifier = sharp()
    before = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    for order in ("cascading", "independent"):
        names = [name for name, state in randomised(classifier, order) if state.module is not classifier.module]
        assert len(names) == 4
    assert torch.equal(torch.rand(3), expected), "the generator of everybody is where it was"
    for name, tensor in classifier.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_one_stage_is_the_network_without_any_of_its_weights():
    classifier = sharp()
    ((name, state),) = randomised(classifier, "cascading", stages=1)
    assert name == "net.stem.0"
    for key, tensor in state.module.state_dict().items():
        if key.endswith("weight") and not key.startswith("net.stem.1"):
            assert not torch.equal(tensor, classifier.module.state_dict()[key]), key


def test_a_map_that_does_not_depend_on_the_network_is_found_out():
    """What the paper is about: such a map passes for an explanation; its likeness is 1 at every stage."""
    classifier, pixels = sharp(), pictures()
    for name in ("cascading-randomisation", "independent-randomisation"):
        run = METRICS[name].run
        edges = run(classifier, pixels, lot_maps(), TARGETS, explainer=baseline_explainer("edges", grid=(6, 8)))
        assert edges.tolist() == pytest.approx([1.0] * 3)
    cascading = METRICS["cascading-randomisation"].run
    assert float(cascading(classifier, pixels, lot_maps(), TARGETS, explainer=explainer_of("gradcam")).mean()) < 0.6


def loops_structural(one, other):
    """Equation 13 of Wang et al. (2004), window by window."""
    one, other = one.double().numpy(), other.double().numpy()
    span = max(one.max(), other.max()) - min(one.min(), other.min())
    c1, c2, found = (0.01 * span) ** 2, (0.03 * span) ** 2, []
    for top in range(one.shape[0] - 6):
        for left in range(one.shape[1] - 6):
            a, b = (each[top : top + 7, left : left + 7].ravel() for each in (one, other))
            (va, vab), (_, vb) = np.cov(a, b)
            found.append(
                (2 * a.mean() * b.mean() + c1)
                * (2 * vab + c2)
                / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2))
            )
    return np.mean(found)


def test_structural_similarity_is_what_loops_find():
    first, second = lot_maps(4, seed=1) - 0.3, lot_maps(4, seed=2) - 0.5
    second[0], second[1], second[2] = first[0], 0.4 - first[1], 0.9 * first[2]
    found = structural(first, second)
    expected = [loops_structural(one, other) for one, other in zip(first, second, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert float(found[0]) == pytest.approx(1.0)
    assert float(found[1]) < 0
    assert structural(torch.ones(1, 8, 8), first[:1, :8, :8]).isnan().all()
    assert float(structural(first[:1], torch.zeros_like(first[:1]))) < 0.1
    with pytest.raises(XaihubError, match="smaller than a window"):
        structural(torch.ones(1, 6, 9), torch.ones(1, 6, 9))


def test_maps_are_compared_by_structure_whatever_their_grid_and_scale():
    classifier, pixels = sharp(), pictures()

    def explainer(_classifier, pixels, targets):
        coarse = torch.nn.functional.avg_pool2d(pixels[:, 0], 8)
        return coarse * (1 + 10 * (targets % 2))[:, None, None]  # another class's is the same, ten times as hot

    run = METRICS["random-logit"].run
    found = run(classifier, pixels, lot_maps(), torch.tensor([0, 1, 2]), explainer=explainer, likeness="ssim")
    assert found.tolist() == pytest.approx([1.0] * 3)
    for name in ("random-logit", "cascading-randomisation", "independent-randomisation"):
        with pytest.raises(UnknownNameError, match=r"'mse'.*spearman, ssim"):
            METRICS[name].run(classifier, pixels, lot_maps(), TARGETS, explainer=explainer, likeness="mse")


def test_random_logit_finds_the_map_that_is_the_same_for_every_class():
    classifier, pixels = sharp(), pictures()
    run = METRICS["random-logit"].run
    assert run(classifier, pixels, lot_maps(), TARGETS, explainer=explainer_of("eigencam")).tolist() == pytest.approx(
        [1.0] * 3, abs=1e-5
    )
    assert float(run(classifier, pixels, lot_maps(), TARGETS, explainer=explainer_of("gradcam")).mean()) < 0.9


def test_random_logit_of_two_classes_that_are_opposites_is_known_on_paper():
    """With two classes the other one is certain, and its map here is the reverse."""

    def explainer(_classifier, pixels, targets):
        return pixels[:, 0] * (1 - 2 * targets)[:, None, None]

    found = METRICS["random-logit"].run(red_sum(), pictures(2), lot_maps(2), torch.tensor([0, 1]), explainer=explainer)
    assert found.tolist() == pytest.approx([-1.0, -1.0])


def test_random_logit_equals_its_equation_in_plain_loops():
    classifier, pixels, explainer = sharp(), pictures(), explainer_of("gradcam")
    found = METRICS["random-logit"].run(classifier, pixels, lot_maps(), TARGETS, explainer=explainer, seed=4)
    for i, other in enumerate(other_classes(pixels, TARGETS, 3, seed=4)):
        maps = [explainer(classifier, pixels[i : i + 1], torch.tensor([int(c)]))[0] for c in (TARGETS[i], other)]
        assert float(found[i]) == pytest.approx(agreement([one.numpy() for one in maps])[0, 1], abs=1e-5)


def test_the_other_class_is_never_the_target_and_is_the_pictures_own():
    pixels = pictures(40)
    targets = torch.arange(40) % 3
    others = other_classes(pixels, targets, 3)
    assert bool((others != targets).all())
    assert set(others.tolist()) == {0, 1, 2}
    assert torch.equal(other_classes(pixels[7:9], targets[7:9], 3), others[7:9])
    with pytest.raises(XaihubError, match="has no other class"):
        other_classes(pixels, targets, 1)


def test_spearman_of_flat_maps():
    maps, flat = lot_maps(2), torch.zeros(2, 24, 32)
    assert spearman(maps, flat).tolist() == [0, 0], "nothing of the order is left"
    assert bool(spearman(flat, maps).isnan().all()), "there was none"
    assert spearman(maps, maps.exp()).tolist() == pytest.approx([1, 1])


def test_explainers_give_the_raw_maps_of_the_methods():
    """Of a gradient CAM in batches, of any other method picture by picture; also on pixels that no picture gives."""
    classifier, pixels = sharp(), pictures(9) * 3
    targets = torch.arange(9) % 3
    batched = explainer_of("hirescam")(classifier, pixels, targets)
    assert batched.shape == (9, 6, 8)
    for i in (0, 8):
        alone = several(classifier, pixels[i : i + 1], [int(targets[i])], ["hirescam"])["hirescam"]
        torch.testing.assert_close(batched[i], alone[0], atol=1e-4, rtol=1e-4)
    assert "input-x-gradient" in METHODS
    found = explainer_of("input-x-gradient")(classifier, pixels[:2], targets[:2])
    leaf = pixels[:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.score(leaf, targets[:2]).sum(), [leaf])
    torch.testing.assert_close(found, (gradient * pixels[:2]).sum(1), atol=1e-4, rtol=1e-3)
