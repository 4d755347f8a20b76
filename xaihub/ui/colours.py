"""Other colours for a heatmap, without another picture: an SVG filter turns the page's viridis into them.

Viridis' green rises from the coldest to the hottest, so it tells the heat of each pixel; a table gives its new colour.
"""

from html import escape

import numpy as np

from xaihub.images import colourise

__all__ = ["COLOURS", "ends", "filters", "table"]

STEPS = 33  # of a table: finer than the eye, and than JPEG

# every eighth of the way, coldest first: inferno (van der Walt & Smith, 2015), cividis (Nunez et al., 2018), plain grey
COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "inferno": (
        (0, 0, 4), (33, 12, 74), (87, 16, 110), (138, 34, 106), (188, 55, 84),
        (228, 90, 49), (249, 142, 9), (249, 203, 53), (252, 255, 164),
    ),
    "cividis": (
        (0, 34, 78), (26, 56, 111), (67, 78, 108), (97, 101, 111), (125, 124, 120),
        (155, 148, 118), (188, 174, 108), (222, 201, 88), (254, 232, 56),
    ),
    "grey": ((0, 0, 0), (255, 255, 255)),
}  # fmt: skip
_ENDS = {
    "viridis": ("Dark violet", "Yellow"), "inferno": ("Black", "Pale yellow"), "cividis": ("Dark blue", "Yellow"),
    "grey": ("Black", "White"),
}  # fmt: skip


def table(name: str) -> np.ndarray:
    """(STEPS, 3) in [0, 1]: the colour for each level of viridis' green, evenly from 0 to 255."""
    heat = np.linspace(0, 1, 256)
    green = colourise(heat[None])[0, :, 1].astype(float)
    place = np.interp(np.linspace(0, 255, STEPS), green, heat)
    stops = np.array(COLOURS[name], dtype=float)
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(place, at, stops[:, channel]) for channel in range(3)], axis=1) / 255


def filters() -> str:
    """The SVG that holds a filter for each choice of colours, named xh-inferno and so on; it takes no room."""
    drawn = []
    for name in COLOURS:
        values = table(name)
        parts = "".join(
            f'<feFunc{letter} type="table" tableValues="{" ".join(f"{value:.3f}" for value in values[:, channel])}"/>'
            for channel, letter in enumerate("RGB")
        )
        green = "0 1 0 0 0 " * 3 + "0 0 0 1 0"
        drawn.append(
            f'<filter id="xh-{escape(name)}" color-interpolation-filters="sRGB"><feColorMatrix type="matrix"'
            f' values="{green}"/><feComponentTransfer>{parts}</feComponentTransfer></filter>'
        )
    return f'<svg class="xh-filters" aria-hidden="true" focusable="false">{"".join(drawn)}</svg>'


def ends() -> str:
    """HTML: the coldest and the hottest colour in words, for the choice that the page shows."""
    return "".join(
        f'<span class="xh-in xh-in-{name}">{cold}: nothing. {hot}: the most on its map, for or against.</span>'
        for name, (cold, hot) in _ENDS.items()
    )
