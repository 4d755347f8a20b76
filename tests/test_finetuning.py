"""The parts of fine-tuning on problems whose answer is known, and a run that is left and taken up again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny_models import TINY, build
from torch import nn
from training_child import RESNET, backbone, class_folders

from xaihub.datasets import from_pairs, open_dataset
from xaihub.errors import CancelledError, DatasetError, UnsupportedModelError
from xaihub.families.from_transformers import load_backbone
from xaihub.finetuning.augmentation import vary
from xaihub.finetuning.checkpoints import read_checkpoint, write_checkpoint
from xaihub.finetuning.fitting import fine_tune, run_key
from xaihub.finetuning.pixel_store import network_inputs, read_pixels
from xaihub.finetuning.probing import features_below, fit_head
from xaihub.finetuning.settings import FineTuning, Kept

LABELS = ("real", "fake")
QUICK = FineTuning(epochs=3, batch_size=4, averaged=2)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return backbone(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return open_dataset(class_folders(tmp_path_factory.mktemp("data") / "pets"))


@pytest.fixture
def opened(network, rows):
    """A backbone and the store of its training pictures."""
    held = load_backbone(network, LABELS, "tiny")
    return held, read_pixels(rows, held.transform, LABELS)


def random(seed=0):
    return torch.Generator().manual_seed(seed)


# What pictures may go through


def test_a_varied_picture_is_its_own_neighbours_mirrored_moved_and_lit():
    """Without light it is cut out of the mirrored picture, pixel for pixel: nothing was resampled."""
    levels = torch.rand(8, 3, 20, 30, generator=random(1))

    varied = vary(levels, random(), shift=0.1, light=0.0)

    wide = nn.functional.pad(levels, (3, 3, 2, 2), mode="reflect")
    for place, picture in enumerate(varied):
        both = [wide[place], nn.functional.pad(levels[place : place + 1].flip(-1), (3, 3, 2, 2), mode="reflect")[0]]
        cuts = [each[:, y : y + 20, x : x + 30] for each in both for y in range(5) for x in range(7)]
        assert any(torch.equal(picture, cut) for cut in cuts)


def test_light_keeps_the_differences_between_pixels_in_proportion():
    levels = 0.3 + 0.4 * torch.rand(6, 3, 4, 5, generator=random(1))

    lit = vary(levels, random(3), shift=0.0, light=0.1)

    for before, after in zip(levels, lit, strict=True):
        straight = min((before, before.flip(-1)), key=lambda way: float((way - after).abs().sum()))
        slope = (after - after.mean()).norm() / (straight - straight.mean()).norm()
        assert 0.9 <= slope <= 1.1
        torch.testing.assert_close(after - after.mean(), slope * (straight - straight.mean()), atol=1e-5, rtol=1e-4)


def test_a_seed_means_the_same_variation():
    levels = torch.rand(4, 3, 16, 16)

    assert torch.equal(vary(levels, random(5)), vary(levels, random(5)))
    assert not torch.equal(vary(levels, random(5)), vary(levels, random(6)))


# The head


def test_the_head_is_scikit_learns_logistic_regression():
    features = torch.randn(60, 5, generator=random(0)) * torch.tensor([1.0, 10.0, 0.1, 1.0, 3.0])
    labels = (features[:, 0] + torch.randn(60, generator=random(1)) > 0).long() + (features[:, 3] > 1).long()
    head = nn.Linear(5, 3)

    fit_head(head, features, labels, strength=0.5)

    spread, middle = features.std(0), features.mean(0)
    theirs = LogisticRegression(C=0.5, tol=1e-8, max_iter=2000).fit(((features - middle) / spread).numpy(), labels)
    ours = head(features).softmax(1).detach().numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(((features - middle) / spread).numpy()), atol=2e-3)


def test_features_are_what_reaches_the_head_and_the_network_is_whole_again():
    network = build(RESNET)
    pixels = torch.randn(5, 3, 32, 32)

    features = features_below(network, "classifier.1", [pixels[:3], pixels[3:]])

    assert features.shape == (5, 12)
    torch.testing.assert_close(network.classifier[1](features), network(pixels).logits)


def test_where_the_answer_is_not_one_layers_there_are_no_features():
    network = build(TINY["levit"])  # the mean of two heads

    assert features_below(network, "classifier.linear", [torch.randn(2, 3, 96, 96)]) is None
    assert isinstance(network.classifier.linear, nn.Linear)


# Backbones


@pytest.mark.parametrize("name", ["resnet", "vit", "levit", "beit", "swin", "segformer", "clip"])
def test_only_the_head_of_a_backbone_is_new(name, tmp_path):
    folder = backbone(tmp_path, TINY[name])
    before = build(TINY[name]).state_dict()

    held = load_backbone(folder, ["a", "b", "c", "d", "e"], "tiny")

    after = held.module.state_dict()
    changed = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])} if len(before) else set()
    assert changed == {key for key in after if key.rpartition(".")[0] in held.heads}
    assert all(after[f"{head}.weight"].shape[0] == 5 for head in held.heads)
    assert len(held.heads) == (2 if name == "levit" else 1)


def test_a_head_of_the_same_size_is_drawn_anew_too(network):
    held, again = (load_backbone(network, ["x", "y", "z"], "tiny", seed=4) for _ in range(2))

    weight = held.module.classifier[1].weight
    assert not torch.equal(weight, build(RESNET).classifier[1].weight)
    assert torch.equal(weight, again.module.classifier[1].weight)


def test_weights_that_lack_more_than_a_head_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = backbone(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(key for key in weights if key.endswith("convolution.weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(UnsupportedModelError, match="weights that do not fill its network"):
        load_backbone(folder, LABELS, "tiny")


# Pixels


def test_bytes_normalised_again_are_what_the_transform_gives(opened, rows):
    held, store = opened

    for place, row in enumerate(rows):
        given = network_inputs(store[torch.tensor([place])], held.transform)[0]
        torch.testing.assert_close(given, held.transform(row.picture), atol=1e-5, rtol=1e-5)


def test_beyond_the_budget_pictures_are_read_again_and_are_the_same(opened, rows):
    held, store = opened

    poor = read_pixels(rows, held.transform, LABELS, budget=0)

    assert poor.held is None
    assert poor.fingerprint == store.fingerprint
    chosen = torch.tensor([7, 0, 3])
    assert torch.equal(poor[chosen], store[chosen])


def test_the_fingerprint_changes_with_a_pixel_a_label_and_the_classes_order(opened):
    held, _ = opened
    pictures = [("a", "real", next(iter(held_pictures()))), ("b", "fake", held_pictures()[1])]
    base = read_pixels(from_pairs("d", pictures), held.transform, LABELS).fingerprint
    dot = pictures[0][2].copy()
    dot.paste((255, 0, 0), (10, 10, 16, 16))

    others = [
        read_pixels(from_pairs("d", [("a", "real", dot), pictures[1]]), held.transform, LABELS),
        read_pixels(from_pairs("d", [("a", "fake", pictures[0][2]), pictures[1]]), held.transform, LABELS),
        read_pixels(from_pairs("d", pictures), held.transform, LABELS[::-1]),
    ]

    assert len({base, *(other.fingerprint for other in others)}) == 4


def held_pictures():
    from training_child import tinted

    return [tinted(1, "red"), tinted(2, "blue")]


def test_a_split_with_another_class_is_refused(opened, rows):
    held, _ = opened

    with pytest.raises(
        DatasetError, match="pictures of the class 'real', but those to learn from are of 'ant', 'fake'"
    ):
        read_pixels(rows, held.transform, ("ant", "fake"))


# Runs


def tuned(opened, work, settings=QUICK, validation=None, **options):
    held, store = opened
    found = fine_tune(held, store, validation, settings, work=work, **options)
    return found, {name: tensor.clone() for name, tensor in held.module.state_dict().items()}


def test_the_classes_are_learned_and_the_last_epochs_are_averaged(opened, tmp_path):
    found, _ = tuned(opened, tmp_path)

    held, store = opened
    with torch.no_grad():
        answers = held.module(network_inputs(store.held, held.transform)).logits.argmax(1)
    assert (answers == store.truth).float().mean() > 0.9
    assert found.kept == "the mean of the last 2 of 3 epochs"
    assert [row["epoch"] for row in found.history] == [1, 2, 3]


@pytest.mark.parametrize("batch_norm", ["frozen", "reestimated"])
@pytest.mark.parametrize("judged", [False, True])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(opened, tmp_path, network, rows, batch_norm, judged):
    settings = replace(QUICK, batch_norm=batch_norm, folds=2)
    validation = opened[1] if judged else None
    folds = torch.arange(12) % 2
    whole, expected = tuned(opened, tmp_path / "whole", settings, validation, folds=folds)

    calls = []

    def stop(share, stage):
        calls.append(stage)
        if len(calls) in (7, 16, 29):
            raise CancelledError("stopped")

    for _ in range(3):
        fresh = load_backbone(network, LABELS, "tiny")
        with pytest.raises(CancelledError):
            fine_tune(fresh, opened[1], validation, settings, work=tmp_path / "part", folds=folds, progress=stop)
    found, weights = tuned(
        (load_backbone(network, LABELS, "tiny"), opened[1]), tmp_path / "part", settings, validation, folds=folds
    )

    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert torch.equal(found.out_of_fold, whole.out_of_fold)
    assert found.history == whole.history


def test_frozen_batch_norm_keeps_its_statistics_and_reestimated_has_those_of_the_pictures(opened, tmp_path):
    held, store = opened
    norms = [part for part in held.module.modules() if isinstance(part, nn.BatchNorm2d)]
    before = [(norm.running_mean.clone(), norm.momentum) for norm in norms]

    tuned(opened, tmp_path / "a")
    assert all(torch.equal(norm.running_mean, mean) for norm, (mean, _) in zip(norms, before, strict=True))

    norms[0].momentum = 0.997  # as a checkpoint may have it: the last batch would be nearly all
    tuned(opened, tmp_path / "b", replace(QUICK, batch_norm="reestimated", epochs=1, averaged=1))
    with torch.no_grad():
        maps = held.module.resnet.embedder.embedder.convolution(network_inputs(store.held, held.transform))
    torch.testing.assert_close(norms[0].running_mean, maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert norms[0].momentum == 0.997


def test_the_epoch_with_the_lowest_validation_loss_is_kept_and_patience_ends_the_run():
    kept = Kept(replace(QUICK, epochs=9, patience=2), judged=True)
    for number, loss in enumerate([0.5, 0.3, 0.4, 0.35]):
        assert not kept.ended
        kept.add({"epoch": number + 1, "validation_loss": loss}, {"w": torch.tensor([float(number)])})

    assert kept.ended
    assert kept.weights["w"].item() == 1.0
    assert kept.in_words == "epoch 2 of 4, which had the lowest loss on the validation split"


def test_the_mean_of_the_last_epochs_is_their_mean():
    kept = Kept(replace(QUICK, epochs=4, averaged=3), judged=False)
    for number in range(4):
        kept.add({"epoch": number}, {"w": torch.tensor([10.0**number]), "seen": torch.tensor(number)})

    assert kept.weights["w"].item() == pytest.approx((10 + 100 + 1000) / 3)
    assert kept.weights["seen"].item() == 3


def test_without_epochs_only_the_head_changes(opened, tmp_path):
    held, _ = opened
    before = {name: tensor.clone() for name, tensor in held.module.state_dict().items()}

    found, after = tuned(opened, tmp_path, replace(QUICK, epochs=0))

    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        "classifier.1.weight", "classifier.1.bias",
    }  # fmt: skip
    assert found.kept == "the head alone was trained"


def test_a_head_of_two_layers_is_trained_by_gradient_with_all_else_held_still(tmp_path, rows):
    held = load_backbone(backbone(tmp_path / "levit", TINY["levit"]), LABELS, "tiny")
    before = {name: tensor.clone() for name, tensor in held.module.state_dict().items()}

    _, after = tuned((held, read_pixels(rows, held.transform, LABELS)), tmp_path / "work", replace(QUICK, epochs=0))

    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {name.rpartition(".")[0] for name in changed} == set(held.heads)
    assert all(parameter.requires_grad for parameter in held.module.parameters())


def test_no_picture_is_judged_by_a_network_that_saw_it(opened, tmp_path):
    """Labels that are noise cannot be known of unseen pictures, while a network that saw them may know them."""
    held, store = opened
    folds = torch.arange(12) % 3
    noise = replace(store, truth=torch.randint(0, 2, (12,), generator=random(2)))

    found, _ = tuned((held, noise), tmp_path, replace(QUICK, folds=3, epochs=0), folds=folds)

    for fold in range(3):
        fresh = load_backbone_again(held, tmp_path / f"{fold}")
        inside = folds == fold
        alone = replace(noise, truth=torch.where(inside, 1 - noise.truth, noise.truth))
        again, _ = tuned((fresh, alone), tmp_path / f"work {fold}", replace(QUICK, folds=3, epochs=0), folds=folds)
        odds, others = (each.out_of_fold[inside].logit()[:, 0] for each in (found, again))
        ratio = odds[0] / others[0]  # of two temperatures, which are the other folds' business
        torch.testing.assert_close(odds, ratio * others, atol=1e-4, rtol=1e-3)  # its own labels do not matter


def load_backbone_again(held, folder):
    return load_backbone(backbone(folder), LABELS, "tiny")


def test_the_key_of_a_run_changes_with_whatever_would_change_the_result(opened):
    _, store = opened
    keys = {
        run_key(QUICK, "a@1", store, None),
        run_key(replace(QUICK, seed=1), "a@1", store, None),
        run_key(QUICK, "a@2", store, None),
        run_key(QUICK, "a@1", replace(store, fingerprint="0"), None),
        run_key(QUICK, "a@1", store, store),
    }
    assert len(keys) == 5


def test_a_checkpoint_is_read_back_and_a_broken_one_is_none(tmp_path):
    file = tmp_path / "deep" / "state.safetensors"
    tied = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)

    write_checkpoint(file, {"a": tied, "b": tied, "step": torch.tensor(3.0)}, {"history": [{"loss": 0.5}]})

    tensors, facts = read_checkpoint(file)
    assert torch.equal(tensors["a"], tied)
    assert tensors["step"].item() == 3
    assert facts == {"history": [{"loss": 0.5}]}
    file.write_bytes(file.read_bytes()[:50])
    assert read_checkpoint(file) is None
    assert read_checkpoint(tmp_path / "none") is None
