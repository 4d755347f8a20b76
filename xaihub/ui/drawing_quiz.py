"""What the Quiz page shows, as HTML: a question without its answer, the answer, and what the answers come to.

Everything that came from the Hub or a visitor is escaped here.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from xaihub.curated import STARTER
from xaihub.ui.desk_quiz import Round
from xaihub.ui.drawing import heat_words, legend, picture_uri, stack, tools
from xaihub.ui.words import note, percent

if TYPE_CHECKING:
    from xaihub.quiz import Answer, Figures

__all__ = ["METHODS", "answer_shown", "figures_shown", "place_shown", "question_shown"]

METHODS = {"gradcam": "a Grad-CAM map", "twins": "twins", "counterfactuals": "counterfactuals"}
HINTS = {
    "gradcam": "Where the model's answer comes from, by Grad-CAM. Which answer that is, is for you to guess.",
    "twins": "The pictures that the model decides most like this one: it gives them the same answer.",
    "counterfactuals": "The nearest pictures that the model answers otherwise than this one.",
}
NOTHING = "There is nothing to show for this picture, so guess without."


def place_shown(going: Round) -> str:
    """Which question it is, and a bar of how many are done."""
    count, done = len(going.asked), len(going.answers)
    return (
        f'<div class="xh-place"><h2 tabindex="-1">Question {going.place + 1} of {count}</h2>'
        f'<progress max="{count}" value="{done}" aria-label="{done} of {count} guessed"></progress></div>'
    )


def question_shown(going: Round) -> str:
    """The picture and its explanation. Nothing in it tells the answer: no name, no label, no probability, no file."""
    model, method = escape(going.plan.repo_id), going.now.method
    picture = _figure(going.shown.image, "The picture of this question.", "The picture")
    if not method:
        drawn, says = _alone(picture), "This time without an explanation."
    elif not going.shown.evidence:
        drawn, says = _alone(picture), NOTHING
    else:
        drawn, says = _explained(going, picture), HINTS[method]
    return (
        f'<section class="xh-question"><p>What does <strong>{model}</strong> answer for this picture? Guess the'
        f' model, also where you know better.</p><p class="xh-sub">{escape(says)}</p>{drawn}</section>'
    )


def _explained(going: Round, picture: str) -> str:
    """The picture with what the method found: its own captions name classes, so they stay away."""
    evidence = going.shown.evidence
    if going.now.method == "gradcam":
        where = heat_words(evidence[0])
        mapped = stack(evidence[0], f"The same under its map: {where}.", boxes=())
        signed = evidence[0].signed is not None
        return (
            f'<div class="xh-pair">{picture}<figure>{mapped}<figcaption>Its map: {escape(where)}.</figcaption></figure>'
            f"</div>{tools(signed)}{legend(signed)}"
        )
    others = "".join(
        f"<figure>{stack(one, f'Picture {i} of {len(evidence)}.', boxes=(), heat=False)}"
        f"<figcaption>Picture {i} of {len(evidence)}</figcaption></figure>"
        for i, one in enumerate(evidence, 1)
    )
    return f'<div class="xh-beside-others">{picture}<div class="xh-others">{others}</div></div>'


def _alone(picture: str) -> str:
    return f'<div class="xh-alone">{picture}</div>'


def _figure(image: object, described: str, caption: str) -> str:
    width, height = image.size  # type: ignore[attr-defined]
    return (
        f'<figure><span class="xh-stack" style="aspect-ratio:{width}/{height}">'
        f'<img alt="{escape(described)}" src="{picture_uri(image)}"></span>'  # type: ignore[arg-type]
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def answer_shown(going: Round) -> str:
    """What the model said, whether the guess was right, and whether the model was."""
    answer, said = going.answers[-1], going.shown.prediction
    hit = "You knew." if answer.hit else f"You guessed {answer.guess!r}."
    truth = "What is right is not known here."
    if answer.label:
        truth = f"The dataset says {answer.label!r}: the model is {'wrong' if answer.wrong else 'right'}."
    rows = "".join(
        f'<li{" class=xh-target" if going.names[index] == answer.said else ""}><span class="xh-class">'
        f"{escape(going.names[index])}{_marks(going.names[index], answer)}</span>"
        f'<span class="xh-share">{percent(float(said.probabilities[index]))}</span><span class="xh-bar"'
        f' aria-hidden="true"><i style="width:{said.probabilities[index] * 100:.1f}%"></i></span></li>'
        for index in sorted(going.now.choices, key=lambda index: -said.probabilities[index])
    )
    kept = "" if going.closed == "" else note(going.closed)
    return (
        f'<section class="xh-told xh-{"hit" if answer.hit else "miss"}" role="status"><p><strong>'
        f"{'✓' if answer.hit else '✗'} The model says {escape(repr(answer.said))}.</strong> {escape(hit)}"
        f' {escape(truth)}</p><div class="xh-bars"><ol>{rows}</ol></div>{kept}</section>'
    )


def _marks(name: str, answer: "Answer") -> str:
    told = ["the model's answer"] * (name == answer.said) + ["your guess"] * (name == answer.guess)
    told += ["the dataset's label"] * (name == answer.label)
    return f" <em>{', '.join(told)}</em>" if told else ""


def figures_shown(mine: "Sequence[Answer]", everybody: "Sequence[Answer]", *, over: bool) -> str:
    """What the answers come to, of this visitor, and of all who agreed to store theirs; meanwhile, only how many."""
    if not over:
        return note(f"So far you knew {sum(each.hit for each in mine)} of {len(mine)}.") if mine else ""
    drawn = note(_chosen(mine)) + _group(mine, "How you did", "you")
    rounds = len({each.round for each in everybody})
    if rounds > 1:
        drawn += _group(
            everybody, f"All {rounds:,} rounds that are stored of this model and these references", "people"
        )
    return f'<section class="xh-figures-shown" aria-label="Figures">{drawn}</section>'


def _chosen(answers: "Sequence[Answer]") -> str:
    """That the model was wrong so often because the questions were chosen so."""
    wrong = sum(each.wrong for each in answers)
    small = any((each.model, each.references) == (STARTER, STARTER) for each in answers)
    return (
        f"The model was wrong in {wrong} of these {len(answers)} questions. They were chosen: up to half are about"
        f" pictures that it gets wrong{', and some pets were drawn small on purpose' * small}. So this says nothing of"
        " how often it is wrong as a rule."
    )


def _group(answers: "Sequence[Answer]", title: str, who: str) -> str:
    from xaihub.quiz import figures, in_words

    sentences = "".join(f"<li>{escape(line)}</li>" for line in in_words(answers, METHODS, who))
    known = figures(answers)
    several = sum(name not in ("with", "without") for name in known) > 1
    shown = [name for name in ("without", "with", *METHODS) if name in known and (several or name not in METHODS)]
    rows = "".join(f"<tr><th scope=row>{_named(name)}</th>{_cells(known[name])}</tr>" for name in shown)
    heads = "".join(
        f"<th scope=col>{name}</th>" for name in ("", "Guessed", "Sure", "Too sure by", "Brier", "Over-trust")
    )
    return (
        f'<h3>{escape(title)}</h3><ul class="xh-sentences">{sentences}</ul>'
        f'<div class="xh-scroll"><table class="xh-numbers"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        '</div><details class="xh-table"><summary>What the columns mean</summary><p class="xh-note">In brackets 95 %'
        " intervals. Guessed: how often the model's answer was known. Sure: mean confidence. Too sure by: confidence"
        " minus what was guessed. Brier: the mean square between confidence and what came of it; 0 is best, and 0.25 is"
        " saying 50 % always. Over-trust: of the questions where the model was wrong, how often the guess was the"
        " dataset's label, so that the model was taken to be right.</p></details>"
    )


def _named(name: str) -> str:
    return {"without": "no explanation", "with": "any explanation"}.get(name, METHODS.get(name, name))


def _cells(one: "Figures") -> str:
    cells = [
        f"{one.hits} of {one.count} <small>({_span(*one.accuracy)})</small>",
        f"{one.confidence:.0%}",
        f"{one.over[0]:+.0%} <small>({_span(*one.over[1:])})</small>",
        f"{one.brier[0]:.2f} <small>({_span(*one.brier[1:], figures='{:.2f}')})</small>",
        f"{one.trusted} of {one.wrong} <small>({_span(*one.overtrust)})</small>" if one.wrong else "no mistake asked",
    ]
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _span(low: float, high: float, figures: str = "{:.0%}") -> str:
    return "too few" if math.isnan(low) else f"{figures.format(low)} to {figures.format(high)}"
