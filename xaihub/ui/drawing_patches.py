"""Patches of pictures as HTML: the gallery of all prototypes with their health, and the nearest patches of one.

Everything that came from the Hub or a visitor is escaped here.
"""

from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from xaihub.errors import XaihubError
from xaihub.ui.asking_prototypes import Kept, Near
from xaihub.ui.drawing import boxes_in_words, boxes_over, picture_uri
from xaihub.ui.drawing_examples import link_to
from xaihub.ui.words import note

if TYPE_CHECKING:
    from xaihub.prototype_health import ClassHealth, Health, PrototypeHealth
    from xaihub.prototypes import Prototype, Prototypes

__all__ = ["Place", "boxed", "gallery_shown", "name_of", "near_shown", "own_picture", "patch", "window"]

MOST_CLASSES = 12  # whose prototypes are drawn at once: with ten each, about a megabyte
SMALL, PATCH = 176, 128  # pixels of a picture and of a patch: sharp on a telephone, and a sheet stays light

Place = tuple[tuple[int, int], tuple[int, int]]  # a cell, and the rows and columns of its grid


def gallery_shown(kept: Kept, target: int) -> str:
    """All prototypes, class by class, with their health; of many classes the one explained and the first ones."""
    made, health = kept.made, kept.health
    classes = list(range(len(made.labels)))
    shown = sorted({target, *classes[:MOST_CLASSES]}) if len(classes) > MOST_CLASSES else classes
    groups = "".join(_group(made, index, health, index == target) for index in shown)
    left = len(classes) - len(shown)
    more = note(f"And {left:,} more classes: choose one in the menu above to see its prototypes.") if left else ""
    return (
        f'<section class="xh-row xh-gallery" aria-label="All prototypes"><h3>All {len(made.gallery)} prototypes</h3>'
        f'<p class="xh-sub">{escape(_health_in_words(kept))}</p>{groups}{more}</section>'
    )


def near_shown(kept: Kept, near: Near) -> str:
    """The window with the places of the references that are most like a prototype, best first."""
    made, looked, place = kept.made, kept.looked, near.prototype
    assert looked is not None  # noqa: S101  there would be none near
    source, name = made.gallery[place], name_of(made, place)
    own, missing = own_picture(source)
    label = made.labels[source.owner]
    named = looked.predicted if made.fitted_to == "predictions" else looked.labels
    grid = looked.maps.shape[2], looked.maps.shape[3]
    tiles = [_near_tile(own, (source.cell, source.grid), f"{name} itself", source.key, missing, source.source)]
    for found, image in zip(near.patches, near.pictures, strict=True):
        if looked.digests[found.row] == source.digest:
            continue
        calls = named[found.row]
        verdict = "its class" if calls == label else f"not its class: {calls}" if calls else "of no known class"
        title = f"similarity {found.similarity:.3f}, {verdict}"
        tiles.append(
            _near_tile(image, (found.cell, grid), title, looked.keys[found.row], "", looked.addresses[found.row])
        )
    says = (
        f"The places of the {len(looked):,} references that are most like {name}, one of each picture. If it stands for"
        f" one thing, they show that thing, and are mostly of class {label}."
    )
    body = f'<p class="xh-sub">{escape(says)}</p><div class="xh-tiles">{"".join(tiles)}</div>'
    return window(f"Nearest patches of {name}", body)


def window(title: str, body: str) -> str:
    """A dialog that opens when it has come; the page's script closes it."""
    return (
        f'<dialog class="xh-dialog" aria-label="{escape(title)}"><h3>{escape(title)}</h3>{body}'
        '<button type="button" class="xh-close">Close</button></dialog>'
    )


def name_of(made: "Prototypes", place: int) -> str:
    """What a prototype is called on the page: its class, and its number among those of the class."""
    owner = made.gallery[place].owner
    return f"{made.labels[owner]} {made.of_class(owner).index(place) + 1}"


def own_picture(source: "Prototype") -> tuple[Image.Image | None, str]:
    """A prototype's training picture; where it is not here, why."""
    try:
        return source.picture, ""
    except XaihubError as error:  # what others published may be broken, or left out
        return None, str(error)


def boxed(image: Image.Image | None, box: Place, described: str) -> str:
    """A picture with a cell (and its grid) outlined; a grey tile where there is no picture."""
    if image is None:
        return f'<span class="xh-stack xh-grey" role="img" aria-label="{escape(described)}: not shown">not shown</span>'
    from xaihub.regions import cell_box

    outline = cell_box(*box, image.size)
    where = boxes_in_words([outline], image.size)
    return (
        f'<span class="xh-stack" style="aspect-ratio:{image.width}/{image.height}"><img alt="{escape(described)}.'
        f' {escape(where)}" src="{picture_uri(image, SMALL)}">{boxes_over([outline], image.size)}</span>'
    )


def patch(image: Image.Image | None, box: Place, described: str) -> str:
    """The cell itself with a margin, cut out."""
    if image is None:
        return f'<span class="xh-stack xh-grey" role="img" aria-label="{escape(described)}: not shown">not shown</span>'
    from xaihub.regions import cell_box

    left, upper, right, lower = cell_box(*box, image.size, 0.5)
    cut = image.crop((int(left), int(upper), max(int(left) + 1, round(right)), max(int(upper) + 1, round(lower))))
    large = cut.resize((PATCH, max(1, round(PATCH * cut.height / cut.width))), Image.Resampling.BICUBIC)
    return (
        f'<span class="xh-stack" style="aspect-ratio:{large.width}/{large.height}"><img alt="{escape(described)}"'
        f' src="{picture_uri(large, PATCH)}"></span>'
    )


def _group(made: "Prototypes", index: int, health: "Health | None", opened: bool) -> str:
    own = made.of_class(index)
    told = f": {_class_in_words(health.classes[index])}" if health is not None else f": {len(own)} prototypes"
    tiles = "".join(_tile(made, place, health.prototypes[place] if health else None) for place in own)
    return (
        f'<details class="xh-group"{" open" * opened}><summary><strong>{escape(made.labels[index])}</strong>'
        f'{escape(told)}</summary><div class="xh-protos">{tiles}</div></details>'
    )


def _tile(made: "Prototypes", place: int, health: "PrototypeHealth | None") -> str:
    source, name = made.gallery[place], name_of(made, place)
    image, missing = own_picture(source)
    words = _prototype_in_words(made, health) if health else ""
    doubt = ' data-doubt="yes"' if health and (not health.used or health.duplicates) else ""
    return (
        f'<button type="button" class="xh-proto" data-prototype="{place}" aria-haspopup="dialog"{doubt}'
        f' title="{escape(missing or source.key)}">{patch(image, (source.cell, source.grid), f"Prototype {name}")}'
        f'<span class="xh-caption"><strong>{escape(name)}</strong> {escape(words)}</span></button>'
    )


def _prototype_in_words(made: "Prototypes", health: "PrototypeHealth") -> str:
    told = ["" if health.used else "not used: its weight is 0"]
    if health.duplicates:
        told.append(f"duplicate of {', '.join(name_of(made, other) for other in health.duplicates[:3])}")
    if health.purity is not None:
        told.append(f"{health.purity:.0%} pure")
    if health.stability is not None:
        told.append(f"{health.stability:.0%} stable")
    return ", ".join(part for part in told if part)


def _class_in_words(health: "ClassHealth") -> str:
    covered = "" if health.coverage is None else f"; one is found in {health.coverage:.0%} of its pictures"
    from_those = f"{health.sources} picture{'s' * (health.sources != 1)}"
    return f"{health.used} of {health.prototypes} prototypes used, from {from_those}{covered}"


def _health_in_words(kept: Kept) -> str:
    """What the figures mean; or why there are none."""
    click = "Click one to see its nearest patches in the references."
    if kept.looked is None:
        return "Choose references and press Recognise again, to see how healthy they are and their nearest patches."
    if kept.health is None:
        return f"{click} Their health is being measured."
    said = kept.health.in_words.removeprefix(" ".join(kept.health.alarms)).strip()  # alarms stand at the top
    return (
        f"{click} {said} Pure: of its nearest patches in other pictures, the share of its own class. Stable:"
        " how often it stays in its place under a small shift and a little noise."
    )


def _near_tile(image: Image.Image | None, box: Place, title: str, key: str, missing: str, address: str | None) -> str:
    drawn = boxed(image, box, key)
    return (
        f'<figure class="xh-tile">{drawn}<figcaption><strong class="xh-name">{escape(title)}</strong>{escape(key)}'
        f"</figcaption>{note(missing)}{link_to(address) if image is None else ''}</figure>"
    )
