"""The table of twins: how far neighbours by each measure agree with the classifier, leave-one-out."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.examples.settings import Setting
from xaihub.fidelity import Found, sides, summary

Similarity = Callable[[Setting], Tensor]  # (N, N), row i: of query i to each reference


def _euclidean(a: Tensor, b: Tensor) -> Tensor:
    return -torch.cdist(a[None], b[None])[0]


def _weighted(setting: Setting, weights: Tensor, alike: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Both sides times the query's weights."""
    z = setting.z.double()
    return torch.stack([alike((q * w)[None], z * w)[0] for q, w in zip(z, weights.double(), strict=True)])


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return normalize(a.double(), dim=1) @ normalize(b.double(), dim=1).T


def _centred(setting: Setting) -> Tensor:
    z = setting.z - setting.z.mean(0)
    return _cosine(z, z)


def _published(setting: Setting) -> Tensor:
    return setting.z.double() * setting.own.double()


MEASURES: dict[str, tuple[Similarity, bool]] = {  # whether it knows each reference's class, which leaks the label
    "Euclidean": (lambda s: _euclidean(s.z.double(), s.z.double()), False),
    "cosine (the student project's)": (lambda s: _cosine(s.z, s.z), False),
    "centred cosine": (_centred, False),
    "C-HP, Euclidean (published)": (lambda s: _euclidean(_published(s), _published(s)), True),
    "C-HP, cosine": (lambda s: _cosine(_published(s), _published(s)), True),
    "query-conditional contribution, Euclidean": (lambda s: _weighted(s, s.own, _euclidean), False),
    "**query-conditional contribution, cosine** (ours)": (lambda s: _weighted(s, s.own, _cosine), False),
    "lead over the runner-up, Euclidean": (lambda s: _weighted(s, s.margin, _euclidean), False),
}


def found(setting: Setting, similarity: Tensor) -> Found:
    """The neighbours of each picture without itself and its near copies."""
    values = similarity.numpy().copy()
    references = setting.references
    for row, digest in enumerate(references.digests):
        vector = references.index().vectors([row])[0]
        values[row, references.duplicates(vector, digest, int(references.hashes[row]))] = -np.inf
    nearest = np.argsort(-values, axis=1, kind="stable")[:, :5]
    unlike = setting.predicted[None, :] != setting.predicted[:, None]
    within = np.where(unlike, -np.inf, values)
    like = within.argmax(1)
    best = within[np.arange(len(like)), like]
    return Found(nearest, np.where(np.isfinite(best), like, -1), np.nan_to_num(best, neginf=0).astype(np.float32))


def figures(setting: Setting) -> dict[str, dict]:
    """Measure -> its figures."""
    answers = sides(setting.classifier, setting.logits, setting.predicted)
    return {
        name: summary(found(setting, similarity(setting)), answers, answers) | {"leak_free": not leaks}
        for name, (similarity, leaks) in MEASURES.items()
    }


def table(measured: dict[str, dict]) -> str:
    """Markdown, one row for each measure."""
    head = "| measure | agree@1 | @3 | @5 | probability error@3 | margin correlation |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(_row(name, values) for name, values in measured.items())])


def _row(name: str, values: dict) -> str:
    agree = [_in_words(values[f"agreement@{k}"]) if values["leak_free"] else "leaks" for k in (1, 3, 5)]
    others = [_in_words(values[of]) for of in ("probability_error@3", "margin_correlation")]
    return f"| {name} | {' | '.join([*agree, *others])} |"


def _in_words(value: list[float]) -> str:
    middle, low, high = value
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


def paired_gain(setting: Setting, worse: str, better: str) -> NDArray[np.float64]:
    """[mean, low, high] of how much smaller the probability error is, picture by picture (bootstrap)."""
    errors = []
    answers = sides(setting.classifier, setting.logits, setting.predicted)
    for name in (worse, better):
        nearest = found(setting, MEASURES[name][0](setting)).nearest[:, :3]
        errors.append(np.abs(answers.probabilities - answers.probabilities[nearest].mean(1)).sum(1) / 2)
    gain = errors[0] - errors[1]
    generator = np.random.default_rng(0)
    means = [gain[generator.integers(0, len(gain), len(gain))].mean() for _ in range(1000)]
    return np.r_[gain.mean(), np.percentile(means, [2.5, 97.5])]
