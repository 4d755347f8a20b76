"""`fit` on problems whose answer is known on paper."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from xaihub.training import Course, TrainingSettings, fit, reestimate_batch_norm

BRISK = TrainingSettings(epochs=30, batch_size=8, learning_rate=0.1, weight_decay=0.0)


class ColourScale(nn.Module):
    """Weighs the mean of each colour channel: a picture's class is its brightest channel."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(pixels.mean((-2, -1)))


class WithDropout(ColourScale):
    """The same behind dropout, in an object that holds its logits as the models of transformers do."""

    def forward(self, pixels: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=super().forward(nn.functional.dropout(pixels, 0.2, self.training)))


@pytest.fixture
def coloured() -> tuple[Tensor, Tensor]:
    """Noisy bytes `(48, 3, 4, 4)` in which channel k is the brightest when the label is k."""
    random = torch.Generator().manual_seed(7)
    labels = torch.arange(48) % 3
    pixels = torch.randint(0, 80, (48, 3, 4, 4), generator=random, dtype=torch.uint8)
    pixels[torch.arange(48), labels] += 120
    return pixels, labels


def test_fit_learns_that_a_picture_belongs_to_its_brightest_channel(coloured):
    pixels, labels = coloured
    module = ColourScale()

    losses = fit(module, pixels, labels, BRISK)

    assert losses[0] == pytest.approx(1.0986, abs=0.15)  # ln 3, what zero weights answer
    assert losses[-1] < 0.1
    assert torch.equal(module(pixels / 255).argmax(1), labels)
    assert torch.equal(module.head.weight.argmax(1), torch.arange(3))  # each class looks at its own channel
    assert not module.training


def test_the_same_seed_gives_equal_weights_and_another_seed_does_not(coloured):
    def weights(seed: int) -> Tensor:
        module = WithDropout()
        fit(module, *coloured, TrainingSettings(seed=seed, epochs=2, batch_size=8), augment=_jitter)
        return module.head.weight

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_fit_leaves_the_global_random_numbers_as_they_were(coloured):
    module = WithDropout()
    before = torch.get_rng_state()

    fit(module, *coloured, TrainingSettings(epochs=1))

    assert torch.equal(torch.get_rng_state(), before)


def test_every_step_is_reported_with_the_total_and_its_loss(coloured):
    reports = []

    fit(
        ColourScale(), *coloured, TrainingSettings(epochs=2, batch_size=20),
        on_step=lambda done, total, loss: reports.append((done, total, loss)),
    )  # fmt: skip

    assert [(done, total) for done, total, _ in reports] == [(step, 6) for step in range(1, 7)]  # 48 in batches of 20
    assert reports[0][2] == pytest.approx(1.0986, abs=1e-4)


def test_the_first_step_is_adamws_first_step_at_the_foot_of_the_warm_up():
    """Adam's first step moves each weight by the learning rate against its gradient's sign, whatever its size."""
    module = ColourScale()
    white = torch.ones(1, 3, 2, 2)
    settings = TrainingSettings(epochs=1, batch_size=1, learning_rate=0.4, weight_decay=0.0, warm_up=0.0)

    fit(module, white, torch.tensor([1]), settings)

    expected = torch.tensor([-0.4, 0.4, -0.4])
    torch.testing.assert_close(module.head.bias.detach(), expected)
    torch.testing.assert_close(module.head.weight.detach(), expected[:, None].expand(3, 3))


def test_bytes_are_scaled_to_one_before_augment_and_floats_are_left_alone(coloured):
    pixels, labels = coloured
    seen = []

    def spy(batch: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(batch.max().item())
        return batch

    fit(ColourScale(), torch.full_like(pixels, 255), labels, TrainingSettings(epochs=1, batch_size=48), augment=spy)
    fit(ColourScale(), torch.full(pixels.shape, 2.5), labels, TrainingSettings(epochs=1, batch_size=48), augment=spy)

    assert seen == [1.0, 2.5]


def test_pictures_without_labels_are_refused():
    with pytest.raises(ValueError, match="2 pictures and 3 labels"):
        fit(ColourScale(), torch.zeros(2, 3, 4, 4), torch.zeros(3, dtype=torch.long))


def _jitter(batch: Tensor, generator: torch.Generator) -> Tensor:
    return batch + 0.1 * torch.rand(len(batch), 1, 1, 1, generator=generator)


def test_epochs_in_another_process_give_the_same_weights(coloured):
    """What `state` carries over is all that an epoch depends on: dropout and augmentation draw by its number."""
    settings = TrainingSettings(epochs=4, batch_size=8, learning_rate=0.01)
    whole = WithDropout()
    fit(whole, *coloured, settings, augment=_jitter)

    first, second = WithDropout(), WithDropout()
    begun = Course(first, *coloured, settings, augment=_jitter)
    begun.epoch(0)
    begun.epoch(1)
    torch.rand(3)  # whatever else a process draws
    resumed = Course(second, *coloured, settings, augment=_jitter)
    resumed.restore({name: tensor.clone() for name, tensor in begun.state().items()})
    resumed.epoch(2)
    resumed.epoch(3)

    assert torch.equal(second.head.weight, whole.head.weight)


def test_batch_norm_keeps_its_statistics_only_where_it_is_told_to(coloured):
    def statistics(freeze: bool) -> Tensor:
        module = nn.Sequential(nn.BatchNorm2d(3), ColourScale())
        fit(module, *coloured, TrainingSettings(epochs=1, batch_size=8, freeze_batch_norm=freeze))
        return module[0].running_mean

    assert torch.equal(statistics(True), torch.zeros(3))
    assert not torch.equal(statistics(False), torch.zeros(3))


def test_reestimated_statistics_are_the_mean_over_all_batches_whatever_the_momentum():
    norm = nn.BatchNorm2d(3, momentum=0.997)
    norm.running_mean.fill_(50)
    batches = torch.randn(4, 8, 3, 5, 5, generator=torch.Generator().manual_seed(0)) + 2

    reestimate_batch_norm(norm, iter(batches))

    torch.testing.assert_close(norm.running_mean, batches.mean((0, 1, 3, 4)))
    torch.testing.assert_close(norm.running_var, batches.var((1, 3, 4)).mean(0), rtol=2e-2, atol=0)
    assert norm.momentum == 0.997
    assert not norm.training


def test_only_what_requires_a_gradient_is_trained(coloured):
    module = nn.Sequential(nn.Conv2d(3, 3, 1), ColourScale())
    module[0].requires_grad_(False)
    before = module[0].weight.clone()

    fit(module, *coloured, TrainingSettings(epochs=1, learning_rate=0.1))

    assert torch.equal(module[0].weight, before)
    assert module[1].head.weight.abs().sum() > 0


def test_mixup_gives_each_image_a_share_of_another_and_the_loss_that_share_of_its_label():
    module = nn.Linear(4, 3)
    inputs, truth = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 2, 1, 0])
    course = Course(module, inputs, truth, TrainingSettings(mixup=0.5))
    chosen = torch.tensor([5, 2, 0, 3])

    loss = course.loss(chosen, torch.Generator().manual_seed(7))

    drawn = torch.Generator().manual_seed(7)
    share, others = 0.5 * float(torch.rand((), generator=drawn)), torch.randperm(4, generator=drawn)
    expected = 0.0
    for place, other in enumerate(others.tolist()):
        mine, theirs = int(chosen[place]), int(chosen[other])
        chances = module((1 - share) * inputs[mine] + share * inputs[theirs]).softmax(0)
        expected -= (1 - share) * chances[truth[mine]].log() + share * chances[truth[theirs]].log()
    assert 0 < share < 0.5
    torch.testing.assert_close(loss, expected / 4)
