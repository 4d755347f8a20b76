"""Calls seen on the way: every way to write a ReLU, a bias or an attention, on this thread only, and no trace after."""

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from xaihub.calls import attending, biasing, rectifying

RELUS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
}


def positive(gradient: Tensor) -> Tensor:
    return gradient.clamp_min(0)


def gradient_through(function, x: Tensor, weights: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad((function(leaf * 1) * weights).sum(), leaf)[0]


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_hands_down_a_gradient_where_it_is_on_and_the_gradient_is_positive(name):
    x, weights = torch.tensor([-2.0, 3.0, 4.0, -5.0]), torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert gradient_through(RELUS[name], x, weights).tolist() == [0, 1, -1, 0]
    with rectifying(positive) as ran:
        assert gradient_through(RELUS[name], x, weights).tolist() == [0, 1, 0, 0]
    assert len(ran) == 1
    assert gradient_through(RELUS[name], x, weights).tolist() == [0, 1, -1, 0]


@pytest.mark.parametrize("function", [nn.Hardtanh(), nn.LeakyReLU(), nn.GELU(), torch.sigmoid])
def test_what_is_no_relu_keeps_its_negative_gradients(function):
    with rectifying(positive) as ran:
        assert gradient_through(function, torch.tensor([0.5]), torch.tensor([-1.0])).item() < 0
    assert ran == []


def layers_with_biases():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    bare, plain = nn.BatchNorm2d(4, affine=False), nn.Conv2d(3, 4, 1, bias=False)
    for part in (norm, bare):
        nn.init.normal_(part.running_mean)
        nn.init.uniform_(part.running_var, 0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return conv.eval(), norm.eval(), bare.eval(), plain.eval()


def test_a_bias_is_what_a_layer_answers_to_nothing_but_zeros():
    seen = []
    conv, norm, bare, plain = layers_with_biases()
    with biasing(lambda output, bias: seen.append((output, bias)) or output), torch.no_grad():
        conv(torch.zeros(1, 3, 5, 5))
        norm(torch.zeros(1, 4, 2, 2))
        bare(torch.zeros(1, 4, 2, 2))
        plain(torch.zeros(1, 3, 5, 5))
    assert len(seen) == 3
    for output, bias in seen:
        torch.testing.assert_close(output, bias[None, :, None, None].expand_as(output))


def test_a_batch_norm_that_counts_its_own_batch_has_no_bias_of_its_own():
    with biasing(lambda output, bias: pytest.fail("it was read")):
        nn.BatchNorm2d(4, track_running_stats=False).eval()(torch.rand(2, 4, 3, 3))
        nn.BatchNorm1d(4).eval()(torch.rand(2, 4))


def plain_attention(q, k, v, mask=0.0, scale=None):
    weights = (q @ k.transpose(-2, -1) * (scale or q.shape[-1] ** -0.5) + mask).softmax(-1)
    return weights, weights @ v


@pytest.mark.parametrize("masked", ["no mask", "a bias", "true and false"])
def test_fused_attention_gives_its_weights_and_the_same_answer(masked):
    q, k, v = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    bias = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(2))
    allowed = (bias > -0.5) | torch.eye(5, dtype=torch.bool)
    given = {"no mask": None, "a bias": bias, "true and false": allowed}[masked]
    added = {"no mask": 0.0, "a bias": bias, "true and false": torch.zeros(5, 5).masked_fill(~allowed, -torch.inf)}
    weights, answer = plain_attention(q, k, v, added[masked], 0.3)
    seen = []
    with attending(seen.append):
        got = F.scaled_dot_product_attention(q, k, v, attn_mask=given, scale=0.3)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, k, v, attn_mask=given, scale=0.3))
    torch.testing.assert_close(got, answer)
    torch.testing.assert_close(seen[0], weights)


@pytest.mark.parametrize(
    "options", [{"is_causal": True}, {"enable_gqa": True}], ids=["causal", "heads that share their keys"]
)
def test_attention_that_cannot_be_taken_apart_goes_on_as_it_was_and_is_announced(options):
    q, k, v = torch.randn(1, 4, 5, 6), torch.randn(1, 2, 5, 6), torch.randn(1, 2, 5, 6)
    k, v = (k, v) if "enable_gqa" in options else (torch.cat([k, k], 1), torch.cat([v, v], 1))
    expected, seen = F.scaled_dot_product_attention(q, k, v, **options), []
    with attending(lambda weights: seen.append(tuple(weights.shape))):
        torch.testing.assert_close(F.scaled_dot_product_attention(q, k, v, **options), expected)
    assert seen == [(0,)]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_attention_of_torch_gives_its_weights_and_the_same_answer(batch_first, bias):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(12, 3, batch_first=batch_first, bias=bias).eval()
    tokens = torch.randn(2, 5, 12) if batch_first else torch.randn(5, 2, 12)
    expected, shares = attention(tokens, tokens, tokens, average_attn_weights=False)
    seen = []
    with torch.no_grad(), attending(seen.append):
        alone, none = attention(tokens, tokens, tokens, need_weights=False)
        both, mean = attention(tokens, tokens, tokens)
    torch.testing.assert_close(alone, expected)
    torch.testing.assert_close(both, expected)
    torch.testing.assert_close(seen[0], shares)
    torch.testing.assert_close(mean, shares.mean(1))
    assert none is None


def test_the_attention_of_torch_that_pools_tokens_is_seen_too():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    probe, tokens, seen = torch.randn(2, 1, 12), torch.randn(2, 5, 12), []
    expected, shares = attention(probe, tokens, tokens, average_attn_weights=False)
    with torch.no_grad(), attending(seen.append):
        torch.testing.assert_close(attention(probe, tokens, tokens)[0], expected)
    torch.testing.assert_close(seen[0], shares)


def test_masked_attention_of_torch_goes_on_as_it_was_and_is_announced():
    torch.manual_seed(0)
    attention, tokens = nn.MultiheadAttention(12, 3, batch_first=True).eval(), torch.randn(2, 5, 12)
    hidden = torch.tensor([[False, False, False, True, True]] * 2)
    for masks in ({"key_padding_mask": hidden}, {"attn_mask": torch.ones(5, 5).triu(1).bool()}):
        expected = attention(tokens, tokens, tokens, **masks)[0]
        seen = []
        with attending(seen.append):
            torch.testing.assert_close(attention(tokens, tokens, tokens, **masks)[0], expected)
        assert seen[0].numel() == 0


def test_weights_that_were_changed_are_the_ones_that_are_used():
    swap = torch.eye(2).flip(0).expand(1, 1, 2, 2)
    tokens = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    with attending(lambda weights: swap):
        assert F.scaled_dot_product_attention(tokens, tokens, tokens)[0, 0].tolist() == [[3, 4], [1, 2]]
        assert torch.equal(torch.softmax(tokens, -1), swap)


def test_attention_in_windows_is_seen_with_its_windows():
    seen, q = [], torch.randn(1, 6, 2, 4, 8)  # (N, windows, heads, T, E), as timm's Twins
    with attending(lambda weights: seen.append(tuple(weights.shape))):
        got = F.scaled_dot_product_attention(q, q, q)
        (q @ q.transpose(-2, -1)).softmax(dim=-1)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, q, q))
    assert seen == [(1, 6, 2, 4, 4), (1, 6, 2, 4, 4)]


def test_a_softmax_over_channels_is_no_attention():
    maps, seen = torch.rand(1, 6, 4, 4), []
    with attending(lambda weights: seen.append(weights)):
        F.softmax(maps, 1)
        F.softmax(maps, dim=1)
        nn.Softmax2d()(maps)
        maps.softmax(1)
    assert seen == []


def test_what_one_thread_watches_no_other_sees():
    opened, done, other = threading.Event(), threading.Event(), []

    def elsewhere():
        opened.wait(10)
        tokens = torch.randn(1, 2, 3, 4)
        other.append(gradient_through(F.relu, torch.tensor([1.0]), torch.tensor([-1.0])).item())
        F.scaled_dot_product_attention(tokens, tokens, tokens)
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    with rectifying(positive) as ran, attending(lambda weights: pytest.fail("another thread's was seen")):
        opened.set()
        assert done.wait(10)
    thread.join()
    assert other == [-1.0]
    assert ran == []


def test_an_exception_in_the_middle_ends_the_watching():
    tokens = torch.randn(1, 2, 3, 4)

    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), attending(fail):
        F.scaled_dot_product_attention(tokens, tokens, tokens)
    with pytest.raises(ZeroDivisionError), biasing(fail):
        nn.Conv2d(2, 2, 1)(tokens)
    with rectifying(positive) as ran:
        pass
    F.scaled_dot_product_attention(tokens, tokens, tokens)
    nn.Conv2d(2, 2, 1)(tokens)
    F.relu(tokens)
    assert ran == []
