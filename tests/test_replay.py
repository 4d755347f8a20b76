"""The network from its target layer up, with other maps there: in every layout, also where no batch can grow inside."""

import pytest
import torch
from torch import nn
from toy_networks import SmallNet, TokenNet, Twice, classifier_of

from xaihub.passes import replay, tap
from xaihub.tracing import View, from_maps, to_maps

SIZE = (32, 48)


class ChannelsLast(nn.Module):
    """Its layer gives (N, h, w, K), and the next one asks for a view of that."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 10, 8, stride=8)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 3)

    def forward(self, pixels):
        maps = self.norm(self.embed(pixels).permute(0, 2, 3, 1).contiguous())
        return self.head(maps.view(-1).view(len(maps), -1, 10).mean(1).relu())


class ChannelsFirstTokens(nn.Module):
    """Its layer gives (N, K, L)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 16, 8, stride=8)
        self.mix = nn.Conv1d(16, 16, 1)
        self.head = nn.Linear(16, 3)

    def forward(self, pixels):
        return self.head(self.mix(self.embed(pixels).flatten(2)).relu().mean(-1))


class Remembers(SmallNet):
    """Below the layer it notes how many pictures there are, and relies on it above."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, pixels):
        count = len(pixels)
        maps = self.after(self.body(self.stem(pixels)))
        if self.how == "view":
            return self.head(maps.view(count, 16, -1).mean(-1))  # RuntimeError of another count
        if self.how == "silent":
            return self.head(maps.reshape(count, -1, 16, *maps.shape[2:]).mean((1, 3, 4)))  # one answer for all
        if self.how == "asserts":
            assert len(maps) == count
        if self.how == "checks" and len(maps) != count:
            raise ValueError(f"Expected {count} pictures.")
        if self.how == "beside":
            maps = torch.cat([maps, pixels[:, :1, ::4, ::4]], 1)[:, :16]
        return self.head(maps.mean((-2, -1)))


LAYOUTS = {
    "NCHW": (SmallNet, "body"),
    "NHWC": (ChannelsLast, "norm"),
    "NLC": (lambda: TokenNet(prefix=2), "blocks.1"),
    "NCL": (ChannelsFirstTokens, "mix"),
}


@pytest.fixture(params=LAYOUTS)
def classifier(request):
    make, layer = LAYOUTS[request.param]
    found = classifier_of(make(), size=SIZE, target_layer=layer)
    assert found.target_layer.layout == request.param
    return found


def picture(seed=0):
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def passed_by(classifier, pixels):
    with tap(classifier) as run:
        return run(pixels)


def test_the_same_maps_give_the_same_answer_in_every_layout(classifier):
    passed = passed_by(classifier, picture())
    logits = replay(classifier, passed, picture(), lambda _, maps: maps.repeat(3, 1, 1, 1))
    torch.testing.assert_close(logits, passed.logits.detach().expand(3, 3))


def test_another_pictures_maps_give_the_other_pictures_answer(classifier):
    """Of tokens only the patches change: the prefix tokens stay those of the first picture."""
    passed, other = passed_by(classifier, picture()), passed_by(classifier, picture(1))
    logits = replay(classifier, passed, picture(), lambda _, maps: other.activations)
    apart = (logits - other.logits.detach()).abs().max()
    assert (apart > 1e-4) == (classifier.target_layer.prefix_tokens > 0)
    assert (logits - passed.logits.detach()).abs().max() > 1e-4


def test_maps_go_where_they_came_from_when_rows_and_columns_differ(classifier):
    """One place at a time is silenced: the answer is that of the layer's output with that place at zero."""
    passed = passed_by(classifier, picture())
    rows, columns = passed.activations.shape[2:]
    assert rows != columns
    keep = torch.ones(3, 1, rows, columns)
    places = [(0, 0), (1, columns - 1), (rows - 1, 2)]
    for mask, (row, column) in zip(keep, places, strict=True):
        mask[0, row, column] = 0
    logits = replay(classifier, passed, picture(), lambda _, maps: maps * keep)

    layer = classifier.target_layer
    for logit, (row, column) in zip(logits, places, strict=True):

        def silence(_module, _inputs, output, row=row, column=column):
            output = output.clone()
            index = {
                "NCHW": (slice(None), slice(None), row, column),
                "NHWC": (slice(None), row, column),
                "NLC": (slice(None), layer.prefix_tokens + row * columns + column),
                "NCL": (slice(None), slice(None), row * columns + column),
            }[layer.layout]
            output[index] = 0
            return output

        handle = classifier.module.get_submodule(layer.name).register_forward_hook(silence)
        expected = classifier.logits(picture())[0]
        handle.remove()
        torch.testing.assert_close(logit, expected)
    assert (logits - passed.logits.detach()).abs().amax(1).min() > 0


@pytest.mark.parametrize(
    ("layout", "shape"), [("NCHW", (2, 10, 3, 4)), ("NHWC", (2, 3, 4, 10)), ("NLC", (2, 17, 10)), ("NCL", (2, 10, 12))]
)
def test_to_maps_and_back_is_the_same_output(layout, shape):
    prefix = 5 if layout == "NLC" else 0
    view = View(layout, (3, 4), prefix, 10, (24, 32))
    output = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    maps = to_maps(output, view, (24, 32))
    assert maps.shape == (2, 10, 3, 4)
    torch.testing.assert_close(from_maps(maps, output, view), output)
    doubled = from_maps(maps * 2, output, view)
    expected = output * 2
    expected[:, :prefix] = output[:, :prefix] if prefix else expected[:, :prefix]
    torch.testing.assert_close(doubled, expected)


def test_of_a_layer_that_runs_twice_only_the_last_call_is_exchanged():
    module = Twice()
    classifier = classifier_of(module, size=SIZE)
    assert classifier.target_layer.name == "block"
    passed = passed_by(classifier, picture())
    assert passed.calls == {"block": 2}
    seen = []

    def change(_index, maps):
        seen.append(maps)
        return torch.zeros(4, *maps.shape[1:])

    logits = replay(classifier, passed, picture(), change)
    torch.testing.assert_close(logits, module.head.bias.detach().expand(4, 3))
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], passed.activations)


@pytest.mark.parametrize("how", ["view", "silent", "asserts", "checks", "beside"])
def test_a_network_that_remembers_its_batch_from_below_runs_whole_and_gives_the_same(how):
    classifier = classifier_of(Remembers(how), size=SIZE, target_layer="body")
    passed = passed_by(classifier, picture())
    scales = torch.tensor([1.0, 0.5, 0.0, 2.0])[:, None, None, None]
    logits = replay(classifier, passed, picture(), lambda _, maps: maps * scales)
    torch.testing.assert_close(logits[0], passed.logits[0].detach())
    alone = torch.cat([replay(classifier, passed, picture(), lambda _, maps, s=s: maps * s) for s in scales])
    torch.testing.assert_close(logits, alone)
    assert (logits[1:] - logits[0]).abs().amax(1).min() > 1e-4


def test_an_error_that_has_nothing_to_do_with_the_batch_is_not_hidden():
    classifier = classifier_of(SmallNet(), size=SIZE, target_layer="body")
    passed = passed_by(classifier, picture())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        replay(classifier, passed, picture(), lambda _, maps: maps[:, :3, :, :, None, None])
