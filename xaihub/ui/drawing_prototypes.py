"""What the Prototypes page shows, as HTML: what answers, the scoring sheet, its total, and where a prototype fires.

Everything that came from the Hub or a visitor is escaped here.
"""

from html import escape
from time import monotonic_ns
from typing import TYPE_CHECKING

import numpy as np

from xaihub.ui.asking_prototypes import Account, Fired, Kept, Recognised
from xaihub.ui.drawing import bars, heat_words, legend, stack, tools
from xaihub.ui.drawing_examples import link_to
from xaihub.ui.drawing_patches import boxed, name_of, own_picture, patch, window
from xaihub.ui.words import note, percent

if TYPE_CHECKING:
    from xaihub.prototype_sheet import Sheet
    from xaihub.prototypes import Prototypes

__all__ = ["account_shown", "fired_shown", "made_shown", "said_shown", "sheet_shown"]

MOST_LINES = 20  # what a person reads; a network of a thousand classes may have more
FEW = 3  # prototypes, with which a class is no more than single pictures
MOST_NAMED = 4  # prototypes or classes in one sentence
TITLES = {"smoothgrad": "By gradients (SmoothGrad)", "upsampled": "Similarity map, enlarged", "cells": "Counted places"}
SAME, LUCK = 0.01, 0.03  # deletion scores that differ by less say nothing; and from one order by lot


def said_shown(kept: Kept, recognised: Recognised, target: int) -> str:
    """What the prototypes say, and beside it what the network says without them."""
    model = recognised.plan.repo_id
    mine = bars(recognised.said, target, "The prototype head", count=3)
    if recognised.black_box is None:
        return bars(recognised.said, target, model, count=3)
    black_box = f"{kept.made.black_box if kept.own else model} itself"
    other = bars(recognised.black_box, recognised.black_box.index, black_box, count=3)
    other = other.replace(" <em>explained below</em>", "")
    return f'<div class="xh-beside xh-answers">{mine}{other}</div>{_differing(recognised, black_box)}'


def made_shown(kept: Kept, recognised: Recognised) -> str:
    """What the prototypes are, how far they can be trusted, and what is alarming about them."""
    from xaihub.prototypes.alarms import collapse

    alarms = "".join(f'<div class="xh-alarm"><p>{escape(line)}</p></div>' for line in collapse(kept.made))
    items = "".join(f"<li>{escape(line)}</li>" for line in _in_words(kept, recognised.plan.repo_id))
    return (
        f'{alarms}<section class="xh-trust" aria-label="What these prototypes are"><h3>What these prototypes are</h3>'
        f"<ul>{items}</ul></section>"
    )


def sheet_shown(kept: Kept, recognised: Recognised, account: Account) -> str:
    """The scoring sheet of a class: a line for each prototype that the picture has, with its switch.

    No two are equal letter by letter: so the page's script learns that the switches stand as they are drawn again.
    """
    made, sheet = kept.made, account.whole
    label = escape(made.labels[sheet.target])
    shown, rest = sheet.lines[:MOST_LINES], sheet.lines[MOST_LINES:]
    here = {line.prototype for line in shown}
    others = " ".join(str(place) for place in recognised.without if place not in here)
    body = "".join(_line(kept, recognised, number, sheet) for number in range(1, len(shown) + 1))
    more = f'<p class="xh-note">And {len(rest)} more, together {_signed(sum(line.points for line in rest))} points.</p>'
    switches = (
        '<div class="xh-tools"><button type="button" class="xh-small xh-all" data-on="">Switch all of these off: only'
        ' the bias is left</button><button type="button" class="xh-small xh-all" data-on="yes">Switch all on</button>'
        "</div>"
    )
    return (
        f'<section class="xh-sheet" data-drawn="{monotonic_ns()}" data-others="{others}" aria-label="Scoring sheet">'
        f'<h3>Why <strong>{label}</strong>: this looks like that</h3><p class="xh-sub">{_how_to_read(made)}</p>'
        f'{_none(made, sheet)}<ol class="xh-lines">{body}</ol>{more if rest else ""}'
        f"{switches if shown else ''}</section>"
    )


def account_shown(kept: Kept, recognised: Recognised, account: Account) -> str:
    """The total line, and what is said before and after prototypes were switched off."""
    made, left = kept.made, account.left
    count = len(left.lines)
    total = (
        f'<p class="xh-total"><span>{_signed(left.points)} <small>points of {count or "no"}'
        f" prototype{'s' * (count != 1)}</small></span> <span>{_signed(left.bias)} <small>bias of"
        f" {escape(made.labels[left.target])}</small></span> <span>= <strong>{_signed(left.logit)}</strong>"
        f" <small>logit, which makes {percent(left.probability)}</small></span></p>"
    )
    shift = _before_and_after(kept, recognised, account)
    return f'<section class="xh-account" aria-live="polite">{total}{shift}</section>'


def fired_shown(kept: Kept, recognised: Recognised, fired: Fired) -> str:
    """The window with both maps of where a prototype fires, and which of them is the more faithful."""
    from xaihub.records import Evidence

    made, image = kept.made, recognised.view.image
    name = name_of(made, fired.prototype)
    figures = ""
    for how, firing in fired.maps.items():
        title = TITLES[how]
        evidence = Evidence(image, "", heatmap=firing.heatmaps[0].numpy(), raw=firing.raw[0].numpy())
        where = heat_words(evidence)
        figures += (
            f"<figure>{stack(evidence, f'{title}: {where}')}<figcaption><strong>{title}</strong>: {escape(where)}."
            f" Deletion score {fired.deletion[how]:.3f}.</figcaption></figure>"
        )
    return window(
        f"Where {name} fires in your picture",
        f'<div class="xh-pair">{figures}</div>{tools(False)}{legend()}'
        f'<p class="xh-caption">{escape(_faithful(fired))}</p>',
    )


def _line(kept: Kept, recognised: Recognised, number: int, sheet: "Sheet") -> str:
    made, line = kept.made, sheet.lines[number - 1]
    source, name = made.gallery[line.prototype], name_of(made, line.prototype)
    image, missing = own_picture(source)
    grid = recognised.reading.similarities.shape[2], recognised.reading.similarities.shape[3]
    home, here = (source.cell, source.grid), (line.cell, grid)
    said = f"{source.key} (a patch for {made.labels[source.owner]})"
    off = line.prototype in recognised.without
    return (
        f'<li class="xh-line"><h4>{escape(name)}</h4><div class="xh-looks">'
        f"<figure>{boxed(recognised.view.image, here, 'Your picture')}"
        "<figcaption>in your picture</figcaption></figure>"
        f"<figure>{patch(recognised.view.image, here, 'The place of your picture')}"
        "<figcaption>this place of yours</figcaption></figure>"
        f"<figure>{patch(image, home, f'Prototype {name}')}<figcaption>looks like this</figcaption></figure>"
        f"<figure>{boxed(image, home, said)}<figcaption>from {escape(said)}</figcaption></figure></div>"
        f'<div class="xh-sum"><p class="xh-points"><span>similarity {line.similarity:.3f}</span>'
        f" <span>× weight {line.weight:.3f}</span> <span>= <strong>{_signed(line.points)}</strong> points</span>"
        ' <em class="xh-if-off">switched off: 0 points</em></p>'
        f'<label class="xh-counts"><input type="checkbox" class="xh-switch" data-prototype="{line.prototype}"'
        f'{"" if off else " checked"} aria-label="{escape(name)} counts"> counts</label>'
        f'<button type="button" class="xh-small xh-fire" data-prototype="{line.prototype}" aria-haspopup="dialog"'
        f' aria-label="Where it fires: {escape(name)}">Where it fires</button>'
        f"{note(missing)}{link_to(source.source) if missing else ''}</div></li>"
    )


def _how_to_read(made: "Prototypes") -> str:
    pooled = made.network.head.settings.pooled
    over = f" (the mean over its {pooled} most similar places; the best is outlined)" if pooled > 1 else ""
    return (
        f"Each line is a patch of a known picture that is found in yours: similarity{over} times weight gives"
        " points. Points and bias add up to the logit, with nothing else in it. Take a tick away, and that prototype"
        " counts no more: the total below changes at once."
    )


def _none(made: "Prototypes", sheet: "Sheet") -> str:
    """That nothing was recognised, in words; "" where something is."""
    if not sheet.recognised:
        return (
            '<div class="xh-alarm"><p><strong>Nothing here is recognised.</strong> No place of this picture is like any'
            f" of the {len(made.gallery)} prototypes, of any class. The answer rests on the bias alone, which is the"
            " same for every picture: do not rely on it.</p></div>"
        )
    if not sheet.lines:
        return note(f"No prototype of {made.labels[sheet.target]!r} is recognised here: its logit is only the bias.")
    return ""


def _before_and_after(kept: Kept, recognised: Recognised, account: Account) -> str:
    if not recognised.without:
        return ""
    made, before, after = kept.made, recognised.said, account.after
    gone = [name_of(made, place) for place in recognised.without]
    named = ", ".join(gone) if len(gone) <= MOST_NAMED else f"{len(gone)} prototypes"
    turned = before.index != after.index
    verdict = (
        f"Without {named} the answer changes from {before.label!r} ({percent(before.probability)}) to {after.label!r}"
        f" ({percent(after.probability)})."
        if turned
        else f"Without {named} the answer stays {after.label!r}."
    )
    order = np.argsort(-np.maximum(before.probabilities, after.probabilities), kind="stable").tolist()
    shown = list(dict.fromkeys([*order[:MOST_NAMED], account.left.target]))
    items = "".join(
        f"<li>{escape(before.labels[i])} <strong>{percent(float(before.probabilities[i]))}"
        f" → {percent(float(after.probabilities[i]))}</strong></li>"
        for i in shown
    )
    return (
        f'<p class="xh-verdict{" xh-turned" * turned}">{escape(verdict)}</p>'
        f'<ul class="xh-shift" aria-label="Each class before and after">{items}</ul>'
    )


def _differing(recognised: Recognised, black_box: str) -> str:
    mine, other = recognised.said, recognised.black_box
    assert other is not None  # noqa: S101  who calls this has looked
    if mine.label == other.label:
        return ""
    unknown = other.label not in mine.labels
    why = (
        f" No prototype speaks for {other.label!r}, since none of the pictures they were fitted to is called so."
        if unknown
        else ""
    )
    return (
        f'<div class="xh-alarm"><p>They differ: the prototypes say {escape(repr(mine.label))}, {escape(black_box)} says'
        f" {escape(repr(other.label))}.{escape(why)} What follows explains the prototypes' answer, so do not take it"
        " for that one's reason.</p></div>"
    )


def _in_words(kept: Kept, model: str) -> list[str]:
    made, facts = kept.made, kept.made.made
    count, data = len(made.gallery), facts.get("dataset", "pictures that it does not name")
    layer = facts.get("layer") or (kept.classifier.target_layer.name if kept.classifier.target_layer else "")
    at = f" Places are compared at layer {layer}." if layer else ""
    if made.kind == "protopnet":
        first = (
            f"{model} was trained together with its {count} prototypes, patches of {data}: they are the way it answers,"
            f" not a guess at another model's reasons.{at}"
        )
    else:
        to = "what the model predicts" if made.fitted_to == "predictions" else "the labels of the pictures"
        when = "came with the model" if kept.own else "were fitted here"
        first = (
            f"These {count} prototypes {when}. They are patches of {data}, put on {made.black_box} and fitted to {to}"
            f" of {facts.get('pictures', 'some')} pictures; the network below stayed as it is.{at}"
        )
    lines = [first]
    agreement = facts.get("agreement on these")
    if isinstance(agreement, int | float):
        lines.append(
            f"On those pictures they say what the model says in {agreement:.1%}. They were fitted on the same pictures,"
            " so on others expect less."
        )
    few = sum(len(made.of_class(index)) < FEW for index in range(len(made.labels)))
    if few:
        lines.append(
            f"{few} of its {len(made.labels)} classes have fewer than {FEW} prototypes, since so few of those pictures"
            " are called so. Such a class is recognised by little more than single pictures; give more of it."
        )
    lines.append("A box is a cell of the layer with its margin, not all that the cell can see.")
    return lines


def _faithful(fired: Fired) -> str:
    """Which map to believe, in words."""
    (best, low), (_, high) = sorted(fired.deletion.items(), key=lambda pair: pair[1])[:2]
    said = (
        "The deletion score greys out the hottest parts of a map first and watches this prototype's similarity fall:"
        f" lower is more faithful. Parts taken by lot score {fired.by_lot:.3f}."
    )
    if low > fired.by_lot - LUCK:
        return f"{said} Neither map is better than that, so neither says much of where this prototype looks."
    if high - low < SAME:
        return f"{said} The two maps are as faithful as each other."
    beaten = " The other is no better than lots: do not read it." if high > fired.by_lot - LUCK else ""
    return f"{said} The more faithful one here is: {TITLES[best]} ({low:.3f} against {high:.3f}).{beaten}"


def _signed(points: float) -> str:
    return f"{points:+.3f}".replace("-", "−") if points else "0"
