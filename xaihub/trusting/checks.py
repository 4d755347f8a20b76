"""The questions that a trust card asks of a map; each gives an outcome and a sentence with its figures."""

from collections.abc import Mapping, Sequence
from statistics import median, pstdev

import numpy as np
import torch
from torch import Tensor

from xaihub.agreement import agreement
from xaihub.cams import CAMS
from xaihub.fidelity import of_class, too_few
from xaihub.maps import enlarged
from xaihub.methods import METHODS, Query
from xaihub.metrics.answering import answered, seed_of
from xaihub.passes import target_layer_of
from xaihub.trusting.faithfulness import VEILED, Faithfulness, in_parts, share_as_good
from xaihub.trusting.record import CHANCE, Check

__all__ = [
    "Findings", "agreeing", "at_an_edge", "by_lot", "depends_on_picture", "hardly_an_answer", "head_replaced",
    "twins_agree",
]  # fmt: skip

Findings = dict[str, float | str | bool | None]

LOST = 0.3  # of the probability must go with the picture: of networks with weights by lot it is 0.0 to 0.2
SCARCE = 0.05  # the least probability of a class that is not the answer
CLEAR = 1.64  # spreads of maps by lot: one in twenty of them reaches so far
HEADS, UNCHANGED = 5, 0.8  # heads by lot, and the mean rank correlation from which a map does not depend on them
AGREE = 0.5  # rank correlation
COMPARED = ("gradcam", "hirescam", "layercam", "gradcam++", "xgradcam")  # what other class maps the same pass gives
IDENTICAL = 0.9999  # where the head is a mean and a linear map, several methods are one
CORNER, EDGE, MOST = 0.25, 1 / 6, 0.5  # of a side; of the heat
FEWEST_TWINS = 0.8  # how often neighbours should be answered alike


def hardly_an_answer(query: Query) -> Check | None:
    """That a class that is not the answer has next to no probability, of which veiling could take nothing; or None."""
    share = float(query.prediction.probabilities[query.target])
    if share >= SCARCE or query.target == query.prediction.index:
        return None
    return Check(
        CHANCE,
        "care",
        f"The classifier gives {query.classifier.labels[query.target]!r} only {_p(share)} here. Veiling parts has next"
        " to nothing to take away, so whether the map is better than chance was not asked.",
    )


def depends_on_picture(found: Faithfulness, label: str, *, is_answer: bool = True) -> Check:
    """Whether there is anything to explain: the answer must go when the picture does, or when its hot parts do.

    Another class than the answer may also rise without the picture: then the picture speaks against it.
    """
    name, left = "Depends on the picture", max(found.veiled, found.blank)
    how = f"blurred to {VEILED} x {VEILED} colours" if found.veiled >= found.blank else "in its mean colour alone"
    nothing = f"ithout anything to recognise ({how})"
    if found.lost >= LOST:
        return Check(name, "good", f"W{nothing}, {label!r} falls from {_p(found.probability)} to {_p(left)}.")
    if not is_answer and left > found.probability:
        told = f"W{nothing}, {label!r} rises from {_p(found.probability)} to {_p(left)}: the picture speaks against it."
        return Check(name, "care", told)
    kept = f"w{nothing} {label!r} still has {_p(left)}, where it has {_p(found.probability)} with the picture"
    if found.deletion <= (1 - LOST) * found.probability:
        told = f"{kept[0].upper()}{kept[1:]}: it may be what is answered where nothing is known. The picture matters"
        return Check(name, "care", f"{told} all the same: with the hottest parts veiled it keeps {_p(found.deletion)}.")
    return Check(
        name,
        "bad",
        f"The answer hardly depends on the picture: {kept}, and {_p(found.deletion)} with the hottest parts veiled, so"
        " there is little that a map could explain.",
    )


def by_lot(found: Faithfulness) -> Check:
    """Whether the map knows better than maps by lot which parts matter: deletion and insertion."""
    fall = (
        f"with the hottest parts veiled the answer keeps {_p(found.deletion)} on average, with random parts veiled"
        f" {_p(found.by_lot)}; the hottest parts alone give {_p(found.insertion)}"
    )
    as_good = share_as_good(found)
    clear = found.gain >= CLEAR * found.spread and as_good == 0
    if found.deletion >= found.by_lot or found.gain <= 0:
        close = abs(found.deletion - found.by_lot) < pstdev(found.deletions_by_lot)
        doubt = ", though the difference is smaller than between random maps" if close else ""
        return Check(CHANCE, "bad", f"Deletion does no better than a random map{doubt}: {fall}.")
    if not clear:
        return Check(CHANCE, "care", f"Some random maps do nearly as well: {fall}.")
    return Check(CHANCE, "good", f"{fall[0].upper()}{fall[1:]}.")


def head_replaced(query: Query, method: str, findings: Findings) -> Check:
    """Whether the map changes when the network's last layer is replaced by lot: one step of Adebayo et al. (2018).

    The head reads the same vector as before, with weights by lot; nothing below it changes, and no weight of the
    classifier is touched. A map that stays the same shows what is in the picture, not what speaks for the class.
    """
    name = "Changes with the weights"
    if method not in CAMS:
        return Check(
            name, "unasked", "Whether it changes with the network's last layer is asked of gradient maps only."
        )
    own = CAMS[method](query.activations[None], query.gradients[None])[0]
    found = [_like(own, CAMS[method](query.activations[None], each[None])[0]) for each in _heads_by_lot(query)]
    if not found or not np.isfinite(found).any():
        return Check(
            name, "unasked", "Which part of the network is its last layer is not known, so it was not replaced."
        )
    alike = float(np.nanmean(found))
    findings["alike with the last layer replaced"] = alike
    if alike >= UNCHANGED:
        return Check(
            name,
            "care",
            "The map hardly changes when the network's last layer is replaced by a random one (rank correlation"
            f" {alike:.2f}): it shows what is in the picture more than what speaks for this class.",
        )
    told = f"With the network's last layer replaced by a random one it is another map (rank correlation {alike:.2f})."
    return Check(name, "good", told)


def _heads_by_lot(query: Query) -> list[Tensor]:
    """Gradients (K, h, w) of what heads with weights by lot give; none where no head is known."""
    target_layer_of(query.classifier)
    entered = query.passed.entered
    if entered is None or query.passed.penultimate is None:
        return []
    vector = entered.mean((2, 3)) if entered.ndim == 4 else entered
    generator = torch.Generator().manual_seed(seed_of(query.view.pixels[0]))
    weights = torch.randn(HEADS, vector.shape[1], generator=generator).to(vector)
    return [query.passed.gradients_of((vector * each).sum(1))[0] for each in weights]


def agreeing(query: Query, method: str, heat: Tensor, findings: Findings) -> Check:
    """Whether the maps that the same pass gives order the picture alike."""
    name = "Other methods agree"
    if query.classifier.target_layer is None:
        return Check(name, "unasked", "No other map is at hand: no layer of this network shows where.")
    size = (query.view.pixels.shape[2], query.view.pixels.shape[3])
    maps = {other: CAMS[other](query.activations[None], query.gradients[None]) for other in COMPARED if other != method}
    parts = in_parts(heat[None])[0]
    alike = {other: _like(parts, in_parts(enlarged(each, size))[0]) for other, each in maps.items()}
    others = {other: value for other, value in alike.items() if np.isfinite(value) and value < IDENTICAL}
    if not others:
        return Check(name, "unasked", "The other maps of the same pass are this one: here they are one formula.")
    middle, least = median(others.values()), min(others, key=lambda other: others[other])
    findings |= {"agreement": middle, "least agreement": others[least], "least agreement with": least}
    told = (
        f"rank correlation {middle:.2f} with {METHODS[least].title}"
        if len(others) == 1
        else f"rank correlation with {len(others)} others {middle:.2f} in the middle, least with"
        f" {METHODS[least].title} ({others[least]:.2f})"
    )
    if middle < AGREE:
        return Check(name, "care", f"Other methods show other places: {told}.")
    return Check(name, "good", f"{told[0].upper()}{told[1:]}.")


def at_an_edge(query: Query, heat: Tensor, findings: Findings) -> Check | None:
    """That the class rests on a corner or an edge, as on a mark or a frame; None where that was not measured.

    Heat that lies there is only the suspicion. The place is covered: the class must lose 30 % of its probability, and
    more than with another place of its kind covered alike (the other corners, or the opposite edge).
    """
    hot, margins = heat.clamp_min(0), _margins(heat)
    total = max(float(hot.sum()), 1e-30)
    shares = {where: float((hot * mask).sum()) / total for where, mask in margins.items()}
    where = next((where for where, share in shares.items() if share >= MOST), None)  # corners come first
    if where is None:
        return None
    alike = [where, *(other for other, mask in margins.items() if _beside(where, margins[where], other, mask))]
    before, label = float(query.prediction.probabilities[query.target]), query.classifier.labels[query.target]
    without, *controls = _without(query, [margins[each] for each in alike])
    findings |= {
        "heat at": where, "heat there": shares[where], "without that place": without,
        "without another place": min(controls),
    }  # fmt: skip
    if before - without < max(LOST * before, SCARCE) or min(controls) - without < SCARCE:
        return None
    return Check(
        "Not in a corner or at an edge",
        "care",
        f"{shares[where]:.0%} of the heat lies {_at(where)}, {float(margins[where].mean()):.0%} of the image: a mark or"
        " a frame there may decide rather than the object. With that place in the mean colour of the rest,"
        f" {label!r} goes from {_p(before)} to {_p(without)}; with another {where.split()[-1]} instead, to"
        f" {_p(min(controls))} at the least.",
    )


def _beside(where: str, mask: Tensor, other: str, others: Tensor) -> bool:
    """Return whether another place is of the same kind, a corner or an edge, and shares no pixel with this one."""
    return where.split()[-1] == other.split()[-1] and not bool((mask * others).any())


def _without(query: Query, masks: Sequence[Tensor]) -> list[float]:
    """The target's probability with each place (H, W) of 0 and 1 in the mean colour of the rest of the image."""
    pixels = query.view.pixels

    def make(numbers: Tensor) -> Tensor:
        return torch.cat([_covered(masks[int(number)].to(pixels)) for number in numbers])

    def _covered(mask: Tensor) -> Tensor:
        rest = (pixels * (1 - mask)).sum((2, 3), keepdim=True) / (1 - mask).sum()  # a veil would keep a mark's colour
        return torch.where(mask.bool(), rest, pixels)

    return answered(query.classifier, make, torch.full((len(masks),), query.target)).tolist()


def _margins(heat: Tensor) -> Mapping[str, Tensor]:
    """Name -> (H, W) of 0 and 1: the four corners, then the four edges."""
    height, width = heat.shape
    row, column = (torch.arange(length) + 0.5 for length in (height, width))
    top, left = (row < CORNER * height)[:, None], (column < CORNER * width)[None]
    bottom, right = (row > (1 - CORNER) * height)[:, None], (column > (1 - CORNER) * width)[None]
    corners = {
        "upper left corner": top & left, "upper right corner": top & right,
        "lower left corner": bottom & left, "lower right corner": bottom & right,
    }  # fmt: skip
    edges = {
        "upper edge": (row < EDGE * height)[:, None].expand(height, width),
        "lower edge": (row > (1 - EDGE) * height)[:, None].expand(height, width),
        "left edge": (column < EDGE * width)[None].expand(height, width),
        "right edge": (column > (1 - EDGE) * width)[None].expand(height, width),
    }
    return {where: mask.float() for where, mask in (corners | edges).items()}


def twins_agree(query: Query, findings: Findings) -> Check | None:
    """Return the neighbours' agreement with the classifier, said of them, not of the map; None where nobody asked.

    Of a class with few references nothing is said: among one image of each class no majority can be right.
    """
    references = query.references
    if references is None:
        return None
    count = of_class(references, query.prediction.index, np.zeros(0, dtype=np.int64))
    if why := too_few(count):
        return Check("Twins", "unasked", f"Whether neighbours agree was not asked: {why}.")
    measured = references.fidelity.get(references.space().name, {})
    value, low, high = measured.get("agreement@3") or (None, None, None)
    if value is None or measured.get("leak_free") is False:
        return None
    findings["twins agree"] = value
    asked = measured.get("n_of_enough", measured.get("n", 0))
    told = f"Of {asked} other images, {value:.0%} are answered as their three nearest references are"
    spread = f" ({low:.0%} to {high:.0%})" if low is not None and high is not None else ""
    return Check("Twins", "good" if value >= FEWEST_TWINS else "care", f"{told}{spread}.")


def _like(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation of two maps of the same places; nan where one is flat."""
    maps: Sequence[np.ndarray] = [each.detach().float().cpu().numpy() for each in (one, other)]
    return float(agreement(maps)[0, 1])


def _at(where: str) -> str:
    return f"{'in' if where.endswith('corner') else 'along'} the {where}"


def _p(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}" if share >= 0.0005 else "< 0.1%"
