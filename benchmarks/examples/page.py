"""docs/EXAMPLES.md: what is shown, how it was measured, and the figures."""
# ruff: noqa: E501  rows of its tables are one line each

from datetime import date
from typing import Any

import torch

from benchmarks.examples import twins
from benchmarks.examples.settings import Setting

__all__ = ["page"]

_COSINE, _OURS = "cosine (the student project's)", "**query-conditional contribution, cosine** (ours)"


def page(measured: list[tuple[Setting, dict[str, Any], dict[str, Any]]], pets: dict[str, Any], every: int) -> str:
    """The whole text.

    Args:
        measured: of each setting, the figures of its twins and of its counterfactuals.
        pets: of the paper pets.
        every: counterfactuals and swaps were asked for every so manieth picture.
    """
    tables = "\n\n".join(_twins(setting, figures) for setting, figures, _ in measured)
    return TEXT.format(
        today=date.today().isoformat(),
        torch=torch.__version__.split("+")[0],
        threads=torch.get_num_threads(),
        twins=tables,
        counterfactuals=_counterfactuals(measured),
        every="every picture" if every == 1 else f"every {every}th picture",
        pets=_pets(pets),
    )


def _twins(setting: Setting, figures: dict[str, Any]) -> str:
    mean, low, high = twins.paired_gain(setting, _COSINE, _OURS)
    return (
        f"### {setting.name}\n\n{setting.words[0].upper()}{setting.words[1:]}.\n\n{twins.table(figures)}\n\n"
        f"Picture by picture, the probability error of ours is smaller than plain cosine's by {mean:.3f}"
        f" (95 % interval {low:.3f} to {high:.3f})."
    )


_ROWS = {
    "pictures asked about": lambda f: f"{f['pictures']:,}",
    "counterfactuals that the classifier calls their target": lambda f: f"{f['valid']:.1%}",
    "… of the runner-up": lambda f: f"{f['of the runner-up']:.1%}",
    "… whose label agrees": lambda f: f"{f['label agrees']:.1%}",
    "for comparison: nearest picture of another *label* that the classifier calls another class": (
        lambda f: f"{f['by label']:.1%}"
    ),
    "swaps verified on pixels": lambda f: "{:.1%} ({:.1%}–{:.1%})".format(*f["verified"]),
    "no pixel counterfactual found": lambda f: f"{1 - f['verified'][0]:.1%}",
    "cells swapped, median (quarters)": (
        lambda f: f"{f['cells']:.0f} of {f['of']} ({f['quarters'][0]:.0f}–{f['quarters'][1]:.0f})"
    ),
    "pictures the classifier was asked about for a swap, median": lambda f: f"{f['forwards']:.0f}",
}


def _counterfactuals(measured: list[tuple[Setting, dict[str, Any], dict[str, Any]]]) -> str:
    names = [setting.name for setting, _, _ in measured]
    head = f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
    rows = [f"| {row} | {' | '.join(words(figures) for _, _, figures in measured)} |" for row, words in _ROWS.items()]
    return "\n".join([head, *rows])


def _pets(figures: dict[str, Any]) -> str:
    return (
        f"Of {figures['asked']} drawn pets that were asked about, {figures['swaps']} had a verified swap. The swapped"
        f" cells lie on the deciding parts (ears, tail) of either picture {figures['lift']:.1f} times as often as"
        f" cells drawn at random do. Of {figures['pairs']} pairs of region twins, {figures['same']:.1%} lie on the same"
        " part of both pets."
    )


TEXT = """# Examples one can reason with

What the methods that search references show, and what they are worth. Every figure here is written by one command,

```bash
python -m benchmarks.examples --to docs/EXAMPLES.md
```

last on {today} (torch {torch}, {threads} threads). It reads CIFAR-10 test pictures, a ResNet-20, the student project's
cats and a MobileNetV2 from a folder `--shared`; the paper pets are drawn.

## What is shown

| method | question | answer |
|---|---|---|
| `twins` | which pictures did it decide alike? | the nearest references of the same **predicted** class, weighed by what your picture's class takes of each feature, with the cells that carry the shared evidence |
| `lookalikes` | which pictures look alike? | the nearest of the same predicted class to another pair of eyes: CLIP, SigLIP, DINOv2, any vision backbone of the Hub, or the colours alone |
| `counterfactuals` | what would it call something else? | the nearest references that the **classifier** calls the runner-up (or a class of your choice, or any), with what speaks for that class |
| `semifactuals` | what could change without changing the answer? | references of the same predicted class that lie towards the counterfactual: even if it looked like this |
| `swap` | what must change? | your own picture with a few cells of a counterfactual, the smallest number found, that make the classifier change its mind, asked about on real pixels |
| `discriminant` | why this class and not that one? | the lead of one class over the other, place by place |

**Decided alike.** z is what the classifier's head reads of a picture, w the gradient to z of the logit of *your
picture's* class less the mean of all logits (of a linear head: the row of its class less the mean row). Similarity is
cos(z w, z' w), with your picture's w on both sides. The published form, C-HP (Kenny & Keane, 2021), multiplies each
picture with the weights of *its own* predicted class; that leaks the class: of two classes one has the negative of the
other's weights, so pictures of different predicted classes lie in opposite orthants and neighbours agree by construction.
It is here as `c-hp`, for comparison, and its agreement is not quoted.

**Agreement@k**: how often the majority of the k nearest references (of all classes) is predicted as the picture is.
**Probability error@3**: half the sum of differences between the picture's probabilities and the mean of its three
nearest; 0 is the same, 1 shares no class. **Margin correlation**: Spearman's between a picture's lead over its
runner-up and that of its nearest neighbour in its own predicted class. Leave-one-out: each picture asks, and the others
answer, its near copies left out. In brackets are 95 % intervals (Wilson's for shares, else the bootstrap's).

## Twins

{twins}

The classifier knows these cats from fitting its head: how sure it is of them is not how sure it would be of others.

## Counterfactuals and swaps

Asked about {every}; five candidates each; a swap takes cells in their place and never all of them.

{counterfactuals}

A counterfactual is chosen by what the classifier says, never by the dataset's label alone: the row "for comparison"
says how often the latter would have shown a picture that the classifier calls the very same. "Verified" means that the
classifier was asked about the very picture that is shown, eight bits a channel, and called it the target, while it
called yours something else. It does not mean that the change is a natural one: seams are feathered, and a composite can
be unlike any photograph, so each comes with its plausibility (its distance to the five nearest of its new class, over
what is usual within that class).

## Where the truth is known

{pets}

## What to keep in mind

- Features of a network that was trained to the end collapse within a class: then every twin stands for its class, and
  all measures agree. The margin correlation says so; an earlier layer tells more.
- A marked region is a cell of the last map with a margin, where evidence is centred, and not all that the cell can see.
- Cells add up to the logit, with the head's bias, only where nothing but a mean lies between the map and a linear head;
  the caption says when they do.
- References that are few in a class have neighbours that are far away: the similarity says so.
"""
