"""Which place of an image each token shows: measured, token by token, whatever order the network keeps them in.

Strips and combs of the image are changed one after the other, and the change of every token is recorded. A token
that shows a place changes most when its own row and its own column change; a class token or a register does not.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["token_places"]

FAINT = 1e-3  # of the largest change: below this a change counts as none
MORE_OFTEN = 0.25  # by how much more often than by chance tokens must change most with their own digit
SURE = 3.0  # standard errors by which one order of tokens must be ahead of another
FEWEST_PLACES = (
    9  # so that four tokens are not taken to have another order by chance: 4! / 4**4 is 9 %, 9! / 9**9 0.1 %
)
NEARLY_ALL = 0.9  # of the tokens; where so many answer to their own place, grids of four places are judged as well


class _Strips(NamedTuple):
    """One digit of the numbers of rows (axis 0) or columns (axis 1), and the centred log-change of each token.

    Attributes:
        digits: (n,), the digit of each row or column.
        change: (values of the digit, L), zero mean over either.
    """

    axis: int
    digits: Tensor
    change: Tensor


class _Order(NamedTuple):
    """An order of the tokens, and how well it fits.

    Attributes:
        tokens: (h * w,), the token that shows each place, row by row.
        fit: (h * w,), the score of that token at that place.
    """

    tokens: Tensor
    fit: Tensor


def token_places(
    tokens_of: Callable[[Tensor], Tensor], pixels: Tensor, grid: tuple[int, int], in_front: int
) -> tuple[int, ...] | None:
    """The place, counted row by row, that each of L tokens shows, -1 for those that show none; None if unconfirmed.

    Of an image's h rows every digit of their numbers is asked about, in a base of at most 4: for 16 rows the four
    strips of four rows, and the four combs of every fourth row; of columns likewise. Together 16 forward passes.
    The usual order (tokens at no place in front, then row by row) is kept unless another one fits significantly
    better: row by row or column by column, from any corner, back and forth (serpentine), the tokens at no place
    anywhere between; or any order at all, if every token's own answer says so and no two say the same.

    Args:
        tokens_of: pixels (1, C, H, W) -> tokens (L, K), L >= h * w.
        pixels: (1, C, H, W), normalised to about zero mean.
        grid: (h, w).
        in_front: how many tokens stand before the first place in the usual order.
    """
    strips = list[_Strips]()
    for given in (pixels, pixels.flip(-2, -1)):  # the second, turned by 180 degrees, if the first is not clear
        measured = list(_measure(tokens_of, given, grid))
        both = zip(strips or measured, measured, strict=True)
        strips = [old._replace(change=old.change + new.change) for old, new in both]
        order = _confirmed_order(strips, grid, in_front)
        if order is not None:
            places = torch.full((strips[0].change.shape[1],), -1)
            places[order.tokens] = torch.arange(len(order.tokens))
            return tuple(places.tolist())
    return None


def _measure(tokens_of: Callable[[Tensor], Tensor], pixels: Tensor, grid: tuple[int, int]) -> Iterator[_Strips]:
    """Each digit of the rows' numbers, then of the columns', and how much every token changes with its values."""
    before = tokens_of(pixels)
    for axis, count in enumerate(grid):
        lines = torch.arange(pixels.shape[2 + axis], device=pixels.device) * count // pixels.shape[2 + axis]
        changed = -pixels.flip(3 - axis)  # its own negative, mirrored along the strip: mean and contrast stay
        for digits in _digits(count):
            rows = []
            for value in range(int(digits.max()) + 1):
                inside = (digits.to(lines.device)[lines] == value).unsqueeze(1 - axis)  # (H, 1) or (1, W)
                difference = tokens_of(torch.where(inside, changed, pixels)) - before
                rows.append(difference.abs().float().mean(-1).cpu().double())  # not every device has doubles
            change = torch.stack(rows)
            change = (change + FAINT * change.max() + torch.finfo(torch.float64).tiny).log()
            change = change - change.mean(0, keepdim=True)  # some tokens change more whatever happens,
            yield _Strips(axis, digits, change - change.mean(1, keepdim=True))  # and some strips hold more


def _digits(count: int) -> list[Tensor]:
    """The digits of 0 ... count - 1, (count,) each, in the smallest base of which few are enough."""
    length = max(1, math.ceil(math.log(count, 4) - 1e-9))
    base = math.ceil(count ** (1 / length) - 1e-9)
    return [torch.arange(count) // base**place % base for place in range(length)]


def _confirmed_order(strips: Sequence[_Strips], grid: tuple[int, int], in_front: int) -> _Order | None:
    """The order that fits, or None where none does clearly."""
    rows, columns = (  # (h, L) and (w, L)
        torch.stack([each.change[each.digits] for each in strips if each.axis == axis]).sum(0) for axis in (0, 1)
    )
    best = _scored(torch.arange(in_front, in_front + grid[0] * grid[1]), rows, columns)
    scans = _best_scans(rows, columns)
    fitting = max(scans, key=lambda order: float(order.fit.sum()))
    if math.prod(grid) >= FEWEST_PLACES:
        for other in filter(None, (fitting, _own_answers(rows, columns))):
            best = other if _is_better(other, best) else best
    hits = [_hits(each, best, grid) for each in strips]
    if any(hit < MORE_OFTEN + 1 / len(each.change) for hit, each in zip(hits, strips, strict=True)):
        return None
    rivals = [_ahead(best, other) for other in scans if float((other.tokens == best.tokens).float().mean()) < 0.5]
    return best if min(hits) >= NEARLY_ALL or min(rivals, default=0.0) > SURE else None


def _scored(tokens: Tensor, rows: Tensor, columns: Tensor) -> _Order:
    places = torch.arange(len(tokens))
    width = columns.shape[0]
    return _Order(tokens, rows[places // width, tokens] + columns[places % width, tokens])


def _is_better(other: _Order, best: _Order) -> bool:
    """Return whether another order fits significantly better, or twice as well where they differ at many places.

    In trained transformers a few tokens carry what belongs to no place (Darcet et al., 2023, arXiv:2309.16588): that
    two of these would fit each other's places better says nothing.
    """
    differ = other.tokens != best.tokens
    twice = float(other.fit[differ].sum()) > max(2 * float(best.fit[differ].sum()), 0.0)
    return _ahead(other, best) > SURE or (twice and int(differ.sum()) > max(3, len(differ) // 8))


def _ahead(order: _Order, other: _Order) -> float:
    """By how many standard errors an order fits better than another: of n places that differ at most by sqrt(n)."""
    gain = order.fit - other.fit
    return float(gain.mean() / (gain.std() + 1e-12) * math.sqrt(len(gain)))


def _hits(strips: _Strips, order: _Order, grid: tuple[int, int]) -> float:
    """The share of places whose token changes most with the place's own digit."""
    places = torch.arange(len(order.tokens))
    line = places // grid[1] if strips.axis == 0 else places % grid[1]
    return float((strips.change.argmax(0)[order.tokens] == strips.digits[line]).double().mean())


def _best_scans(rows: Tensor, columns: Tensor) -> list[_Order]:
    """For each of sixteen scans of the grid: the tokens, in their order, that fit it best, the others left out.

    Those stand in front, in the middle or at the end; or anywhere, where that fits better: the largest sum over
    placements that keep the order, by dynamic programming over the tokens that are left out.
    """
    scans = _scans(rows.shape[0], columns.shape[0])  # (S, n)
    count, width = scans.shape[1], columns.shape[0]
    spare = rows.shape[1] - count + 1
    tokens = torch.arange(count)[:, None] + torch.arange(spare)  # (n, spare): place k holds token k + e
    score = rows[scans[..., None] // width, tokens] + columns[scans[..., None] % width, tokens]  # (S, n, spare)
    total, came = score[:, 0], torch.zeros_like(score, dtype=torch.long)
    for place in range(1, count):
        so_far, came[:, place] = total.cummax(1)
        total = so_far + score[:, place]
    left_out = total.argmax(1)
    found = torch.empty_like(scans)
    each = torch.arange(len(scans))
    for place in range(count - 1, -1, -1):
        found[each, scans[:, place]] = place + left_out
        left_out = came[each, place, left_out]
    best = []
    for scan, anywhere in zip(scans, found, strict=True):
        together = [_scored(_with_gap(scan, spare - 1, before), rows, columns) for before in (0, count // 2, count)]
        plain, free = max(together, key=lambda order: float(order.fit.sum())), _scored(anywhere, rows, columns)
        best.append(free if _is_better(free, plain) else plain)
    return best


def _with_gap(scan: Tensor, gap: int, before: int) -> Tensor:
    """(n,), the token at each place of a scan where so many others stand together before its k-th."""
    tokens = torch.empty_like(scan)
    tokens[scan] = torch.arange(len(scan)) + gap * (torch.arange(len(scan)) >= before)
    return tokens


def _scans(height: int, width: int) -> Tensor:
    """(16, h * w), places in the order of a scan: by rows or columns, from each corner, straight or back and forth."""
    places = torch.arange(height * width).view(height, width)
    scans = []
    for along, down, across, serpentine in product((places, places.T), (False, True), (False, True), (False, True)):
        scan = along.flip([axis for axis, flipped in enumerate((down, across)) if flipped]).clone()
        if serpentine:
            scan[1::2] = scan[1::2].flip(1)
        scans.append(scan.flatten())
    return torch.stack(scans)


def _own_answers(rows: Tensor, columns: Tensor) -> _Order | None:
    """The order in which each token lies where it changes most itself, if no two lie together; else None."""
    height, width = rows.shape[0], columns.shape[0]
    clearest = (rows.amax(0) + columns.amax(0)).argsort(descending=True)[: height * width]
    places = rows.argmax(0)[clearest] * width + columns.argmax(0)[clearest]
    if len(places.unique()) < height * width:
        return None
    return _scored(clearest[places.argsort()], rows, columns)
