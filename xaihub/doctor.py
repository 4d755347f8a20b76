"""What the page shows of a classifier, for a terminal: its target layer and the proof, and what can explain it."""

from typing import Any

from xaihub import METHODS
from xaihub.classifier import Classifier
from xaihub.families import adapter_of
from xaihub.target_layer import TargetLayer

__all__ = ["examine", "told"]


def examine(classifier: Classifier, download: int = 0) -> dict[str, Any]:
    """The report as values, for programs.

    Args:
        download: bytes that were, or would be, fetched for it.
    """
    layer, facts = classifier.target_layer, classifier.facts
    reasons = {name: METHODS[name].missing(classifier, None) for name in METHODS}
    return {
        "model": classifier.repo_id,
        "revision": classifier.revision,
        "task": facts.get("task") or "image classification",
        "library": facts.get("library"),
        "architecture": facts.get("architecture") or type(classifier.module).__name__,
        "adapter": adapter_of(classifier.module) or None,
        "parameters": sum(parameter.numel() for parameter in classifier.module.parameters()),
        "licence": facts.get("licence"),
        "download": download,
        "classes": len(classifier.labels),
        "first classes": list(classifier.labels[:5]),
        "probabilities": classifier.activation,
        "answers with": classifier.reading.in_words,
        "no gradient because": classifier.no_gradient or None,
        "input": list(classifier.input_size),
        "preprocessing": classifier.transform.description,
        "target layer": None if layer is None else _layer(layer),
        "no layer because": classifier.no_layer or None,
        "methods": [name for name, reason in reasons.items() if not reason],
        "methods that cannot run": {name: reason for name, reason in reasons.items() if reason},
        "notices": list(classifier.notices),
    }


def _layer(layer: TargetLayer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "in words": layer.in_words,
        "layout": layer.layout,
        "grid": list(layer.grid),
        "channels": layer.view.channels,
        "prefix tokens": layer.prefix_tokens,
        "parts": [part.name for part in layer.parts],
        "proof": layer.proof,
        "reason": layer.reason,
        "alternatives": [other.name for other in layer.alternatives],
    }


def told(report: dict[str, Any]) -> list[str]:
    """The report as lines; what a stranger named cannot move the cursor."""
    first, classes = ", ".join(report["first classes"]), report["classes"]
    lines = [
        f"{report['model']} at {report['revision'] or 'no revision'}",
        f"  {report['architecture']} ({report['library'] or 'your own module'}), {report['task']},"
        f" {_millions(report['parameters'])}, {report['licence'] or 'no licence stated'},"
        f" {_megabytes(report['download'])}",
        f"  {classes:,} classes ({first}{' ...' if classes > len(report['first classes']) else ''}),"
        f" {report['probabilities']}",
        f"  answers with: {report['answers with']}",
        f"  picture: {report['preprocessing']}",
        *([f"  adapter: {report['adapter']}"] if report["adapter"] else []),
        *_layer_told(report),
        f"  can be explained by: {', '.join(report['methods']) or 'no method'}",
    ]
    because: dict[str, list[str]] = {}
    for name, reason in report["methods that cannot run"].items():
        because.setdefault(reason, []).append(name)
    lines += [f"  not by {', '.join(names)}: {reason}" for reason, names in because.items()]
    lines += [f"  note: {notice}" for notice in report["notices"]]
    return [_printable(line) for line in lines]


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def _layer_told(report: dict[str, Any]) -> list[str]:
    layer = report["target layer"]
    if layer is None:
        return [f"  no target layer: {report['no layer because']}"]
    return [
        f"  target layer: {layer['in words']}, {layer['proof']}",
        f"    {layer['reason']}",
        f"    alternatives: {', '.join(layer['alternatives']) or 'none'}",
    ]


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M parameters" if parameters >= 1e5 else f"{parameters:,} parameters"


def _megabytes(download: int) -> str:
    return f"{download / 2**20:.0f} MB to fetch" if download else "nothing to fetch"
