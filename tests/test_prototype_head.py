"""The maths of a PrototypeHead: real cells, chosen by a convex problem, whose points add up."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from xaihub.errors import CancelledError
from xaihub.prototypes import HeadSettings, PrototypeLayer, PrototypeSettings, fit_head, fit_weights, project

torch.set_num_threads(1)

PLANTED = (2, 1)  # row 2, column 1: where the only thing is that tells the classes apart


def planted(count: int = 24, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps (N, 8, 4, 5) of noise, in which class c lights channel c of one known cell; and the classes."""
    labels = torch.arange(count) % classes
    maps = torch.rand(count, 8, 4, 5, generator=torch.Generator().manual_seed(seed))
    maps[torch.arange(count), labels, PLANTED[0], PLANTED[1]] += 6
    return maps, labels


def blobs(count: int = 30, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps (N, 8, 4, 5) whose classes overlap."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return torch.randn(count, 8, 4, 5, generator=generator) + one_hot(labels, 8)[:, :, None, None], labels


class TestTheConvexHead:
    def problem(self) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        labels = torch.arange(40) % 3
        owners = torch.tensor([0, 0, 1, 1, 1, 2])
        scores = torch.rand(40, 6, generator=generator) + 0.4 * (owners == labels[:, None])
        return scores, labels, owners

    def test_weights_are_not_negative_and_speak_for_their_own_class_only(self):
        scores, labels, owners = self.problem()
        weights, bias = fit_weights(scores, labels, owners, 3, 1e-3)
        assert weights.shape == (3, 6)
        assert bias.shape == (3,)
        assert (weights >= 0).all()
        assert (weights[one_hot(owners, 3).T == 0] == 0).all()
        assert (weights.sum(0) > 0).sum() >= 3

    @pytest.mark.parametrize("sparsity", [1e-4, 1e-2])
    def test_the_answer_is_optimal_in_every_direction(self, sparsity):
        scores, labels, owners = self.problem()
        weights, bias = fit_weights(scores, labels, owners, 3, sparsity)
        own = weights.double().requires_grad_()
        offset = bias.double().requires_grad_()
        at_rest = own @ scores.double().mean(0) + offset
        ridge = 1e-4 / 2 * (own.square().sum() + at_rest.square().sum())
        (cross_entropy(scores.double() @ own.T + offset, labels) + ridge).backward()
        slope = own.grad[owners, torch.arange(6)]
        used = weights.sum(0) > 0
        # Karush, Kuhn and Tucker: at a weight above 0 the slope is the price, at 0 it is not worth the price
        assert torch.allclose(slope[used], torch.full((int(used.sum()),), -sparsity, dtype=slope.dtype), atol=3e-6)
        assert (slope[~used] >= -sparsity - 3e-6).all()
        assert offset.grad.abs().max() < 3e-6

    def test_a_high_price_leaves_the_shares_of_the_classes(self):
        scores, labels, owners = self.problem()
        weights, bias = fit_weights(scores, labels, owners, 3, 10.0)
        assert not weights.any()
        assert (bias.softmax(0) - torch.bincount(labels) / 40).abs().max() < 1e-3

    def test_probabilities_can_be_targets(self):
        scores, labels, owners = self.problem()
        hard = fit_weights(scores, labels, owners, 3, 1e-3)
        same = fit_weights(scores, one_hot(labels, 3).float(), owners, 3, 1e-3)
        assert all(torch.equal(one, other) for one, other in zip(hard, same, strict=True))
        _, bias = fit_weights(scores, torch.tensor([0.5, 0.3, 0.2]).expand(40, 3), owners, 3, 10.0)
        assert (bias.softmax(0) - torch.tensor([0.5, 0.3, 0.2])).abs().max() < 1e-3

    def test_a_class_without_pictures_gets_a_finite_bias(self):
        scores, labels, owners = self.problem()
        weights, bias = fit_weights(scores, labels, owners, 4, 1e-3)
        assert not weights[3].any()
        at_rest = weights @ scores.mean(0) + bias
        assert -20 < at_rest[3] - at_rest[:3].max() < -5


class TestProjecting:
    def layer(self, per_class: int = 3, similarity: str = "cosine") -> PrototypeLayer:
        torch.manual_seed(0)
        layer = PrototypeLayer(
            PrototypeSettings(8, 5, 2, (0,) * per_class + (1,) * per_class, similarity=similarity, pooled=1)
        )
        torch.nn.init.normal_(layer.vectors)
        return layer

    @pytest.mark.parametrize("similarity", ["cosine", "log-distance"])
    def test_a_prototype_is_its_cell(self, similarity):
        maps, labels = blobs(12, 2)
        layer = self.layer(similarity=similarity)
        sources = project(layer, maps, labels)
        cells = layer.embed(maps)
        for owner, vector, (row, (y, x)) in zip(layer.owners, layer.vectors, sources, strict=True):
            assert labels[row] == owner
            assert (vector - cells[row, :, y, x]).abs().max() <= 1e-6

    def test_it_is_the_most_similar_cell_of_the_class(self):
        maps, labels = blobs(12, 2)
        layer = self.layer(per_class=1)
        alike = layer.similarities(layer.embed(maps))  # (N, 2, 4, 5)
        for place, (row, (y, x)) in enumerate(project(layer, maps, labels)):
            assert alike[row, place, y, x] == alike[labels == place, place].max()

    def test_the_prototypes_of_a_class_come_from_different_pictures_while_there_are_enough(self):
        maps, labels = blobs(12, 2)
        maps[4] = maps[2] = maps[0]  # three copies of the first picture
        groups = [0, 1, 0, 3, 0, *range(5, 12)]
        layer = self.layer(per_class=4)
        with torch.no_grad():
            layer.vectors[:4] = layer.vectors[0]  # all want the same cell
        sources = project(layer, maps, labels, groups)
        assert len({groups[source.row] for source in sources[:4]}) == 4
        layer = self.layer(per_class=6)
        sources = project(layer, maps, labels, groups)
        assert len({groups[source.row] for source in sources[:6]}) == 4  # there are no more

    def test_a_class_without_pictures_is_a_mistake(self):
        maps, labels = blobs(6, 1)
        with pytest.raises(ValueError, match="no picture of class 1"):
            project(self.layer(), maps, labels)


class TestTheHead:
    def test_the_deciding_cell_is_found(self):
        maps, labels = planted()
        head = fit_head(maps, labels, 3, settings=HeadSettings(per_class=1, pooled=1))
        assert [source.cell for source in head.sources] == [PLANTED] * 3
        other, theirs = planted(seed=5)
        assert (head.layer(other).argmax(1) == theirs).all()

    def test_with_the_defaults_every_prototype_that_counts_lies_on_a_deciding_part(self):
        maps, labels = planted(60)
        maps[torch.arange(60), labels, :, :2] += 3  # the left two columns
        head = fit_head(maps, labels, 3)
        counting = head.layer.weights.sum(0) > 0
        assert counting.sum() >= 3
        assert all(source.cell[1] < 2 for source, counts in zip(head.sources, counting, strict=True) if counts)

    def test_the_same_twice_bit_for_bit(self):
        maps, labels = blobs()
        one, two = (fit_head(maps, labels, 3) for _ in range(2))
        assert one.sources == two.sources
        for name, tensor in one.layer.state_dict().items():
            assert torch.equal(tensor, two.layer.state_dict()[name]), name

    def test_prototypes_are_real_cells_of_different_pictures_of_their_class(self):
        maps, labels = blobs(60)
        groups = [row // 6 for row in range(60)]  # each picture of a class has one copy
        head = fit_head(maps, labels, 3, groups=groups, settings=HeadSettings(per_class=8))
        cells = head.layer.embed(maps)
        assert head.layer.settings.owners == (0,) * 8 + (1,) * 8 + (2,) * 8
        pairs = set()
        for owner, vector, source in zip(head.layer.settings.owners, head.layer.vectors, head.sources, strict=True):
            row, (y, x) = source
            assert labels[row] == owner
            assert (vector - cells[row, :, y, x]).abs().max() <= 1e-6
            pairs.add((owner, groups[row]))
        assert len(pairs) == 24

    def test_points_add_up_and_without_its_prototypes_a_class_has_its_bias(self):
        maps, labels = blobs()
        layer = fit_head(maps, labels, 3).layer
        with torch.no_grad():
            scores = layer.scores(layer.similarities(layer.embed(maps)))
            assert (layer.points(scores).sum(2) + layer.bias - layer(maps)).abs().max() <= 1e-4
            off = torch.nonzero(layer.owners == 1)[:, 0].tolist()
            logits = layer.logits(scores, without=off)
        assert (logits[:, 1] == layer.bias[1]).all()
        assert torch.equal(logits[:, 0], layer.logits(scores)[:, 0])

    def test_one_vector_added_to_all_directions_changes_nothing(self):
        maps, labels = blobs()
        directions = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
        one = fit_head(maps, labels, 3, directions=directions)
        two = fit_head(maps, labels, 3, directions=directions + torch.arange(8.0))
        assert one.sources == two.sources
        assert (one.layer(maps) - two.layer(maps)).abs().max() < 1e-3

    def test_directions_decide_which_cells_are_alike(self):
        maps, labels = blobs()
        directions = torch.zeros(3, 8)
        directions[:, 7] = torch.tensor([-1.0, 0.0, 1.0])
        layer = fit_head(maps, labels, 3, directions=directions, settings=HeadSettings(boost=50.0)).layer
        vectors = layer.embed(maps).detach().movedim(1, -1).flatten(0, 2)
        alike = vectors @ vectors.T
        channel = maps[:, 7].flatten() - maps[:, 7].mean()
        assert torch.corrcoef(torch.stack([alike[0], channel * channel[0].sign()]))[0, 1] > 0.8

    def test_classes_with_few_pictures_or_none(self):
        maps, labels = blobs(30, 2)
        labels[:3] = 3  # three of class 3, none of class 2
        head = fit_head(maps, labels, 4, settings=HeadSettings(per_class=5))
        assert head.layer.settings.owners == (0,) * 5 + (1,) * 5 + (3,) * 3
        assert not head.layer.weights[2].any()
        assert all(math.isfinite(value) for value in head.layer.bias.tolist())
        assert not (head.layer(maps).argmax(1) == 2).any()

    def test_flat_maps_give_a_head_that_knows_nothing(self):
        labels = torch.arange(8) % 2
        head = fit_head(torch.ones(8, 4, 3, 3), labels, 2)
        assert torch.isfinite(head.layer(torch.ones(2, 4, 3, 3))).all()

    def test_it_says_how_far_it_is_and_can_be_stopped(self):
        maps, labels = blobs()
        shares = []

        def stop(share: float, _stage: str) -> None:
            shares.append(share)
            if share >= 0.6:
                raise CancelledError("Stopped.")

        with pytest.raises(CancelledError):
            fit_head(maps, labels, 3, progress=stop)
        assert shares == sorted(shares)
        assert shares[0] == 0
