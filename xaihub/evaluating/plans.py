"""What an evaluation asks: which methods, which metrics of each, with which settings."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xaihub.classifier import Classifier
from xaihub.errors import TargetLayerError, UnknownNameError, XaihubError
from xaihub.evaluating.pieces import code_of, key_of
from xaihub.methods import FEW_PASSES, METHODS
from xaihub.metrics import BASELINES, DEFAULT_SUITE, METRICS, SUITE_SETTINGS, Metric
from xaihub.references import ReferenceSet
from xaihub.registry import nearest_name

__all__ = ["Metrics", "Plan", "map_methods", "metrics_named", "plan", "settings_of"]

Metrics = Sequence[str] | Mapping[str, Mapping[str, Any]] | None

_SHOW = {"twins": ("twins",), "counterfactuals": ("counterfactuals", "swap"), "prototypes": ("prototypes",)}


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        methods: whose maps are judged, beside those of `BASELINES`. `metrics`: of maps.
        examples: method that shows pictures -> metrics of what it shows.
        settings: metric -> keywords for it.
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    examples: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Whose maps are judged, the baselines last."""
        return (*self.methods, *BASELINES) if self.metrics else ()

    @property
    def measured(self) -> tuple[str, ...]:
        """Metrics that are asked of the classifier; the others follow from these."""
        return tuple(name for name in self.metrics if not self.follows(name))

    def follows(self, name: str) -> bool:
        """Whether a metric's parts are measured anyway, in the same way."""
        return METRICS[name].follows(self.metrics, self.settings)

    def key(self, name: str, masks: str = "") -> str:
        """What a metric's values are kept under: its name, and digits that change with its settings and its code."""
        entry = METRICS[name]
        facts = [settings_of(entry, self.settings.get(name, {})), code_of(entry.run), masks * ("masks" in entry.needs)]
        return f"{name} {key_of(facts)[:16]}"


def plan(
    classifier: Classifier,
    methods: Sequence[str] | None,
    metrics: Metrics,
    *,
    masks: bool = False,
    references: ReferenceSet | None = None,
) -> Plan:
    """What is asked of a classifier; see `evaluate`.

    Raises:
        UnknownNameError: there is no such method or metric.
        TargetLayerError, XaihubError: one that was named cannot run here.
    """
    wanted = _metrics(metrics, masks)
    usual = [name for name in wanted if METRICS[name].of == "maps"]
    shown = _examples(classifier, methods, metrics, wanted, references)
    named = map_methods(classifier) if methods is None else [n for n in methods if not METHODS[n].shows_pictures]
    for name in named:
        if missing := METHODS[name].missing(classifier, references):
            raise TargetLayerError(f"{name} cannot run here. {missing}")
    if not named and not shown:
        raise XaihubError("There is nothing to evaluate: no method is left whose maps or pictures a metric asks about.")
    return Plan(tuple(named), tuple(usual) if named else (), shown, wanted)


def map_methods(classifier: Classifier) -> list[str]:
    """The methods that show a map of the picture, can run here, and cost a few passes at most."""
    return [
        name
        for name, method in METHODS.items()
        if not method.shows_pictures
        and not method.compares
        and not method.missing(classifier, None)
        and method.cost(classifier) <= FEW_PASSES
    ]


def metrics_named(texts: Sequence[str] | None) -> Metrics:
    """Metrics as somebody types them: a name alone has the suite's settings, "deletion:steps=224" others.

    Raises:
        UnknownNameError: there is no such metric, or it has no such setting.
    """
    if texts is None:
        return None
    found: dict[str, Mapping[str, Any]] = {}
    for text in texts:
        name, _, given = text.partition(":")
        known = settings_of(METRICS[name], {})
        settings = dict(SUITE_SETTINGS.get(name, {}))
        for each in filter(None, given.split(",")):
            setting, _, value = each.partition("=")
            if setting not in known:
                raise UnknownNameError(
                    f"{name} has no setting {setting!r}.{nearest_name(setting, known)} It has:"
                    f" {', '.join(known) or 'none'}."
                )
            settings[setting] = value if isinstance(known[setting], str) else _value(value, text)
        found[name] = settings
    return found


def _value(text: str, whole: str) -> int | float | None:
    try:
        return None if text == "none" else int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise XaihubError(f"{whole!r}: {text!r} is no number. Write a setting as in deletion:steps=224.") from None


def settings_of(entry: Metric, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a metric by name, also those that nobody gave."""
    options = inspect.signature(entry.run).parameters.values()
    usual = {
        each.name: each.default
        for each in options
        if each.kind is each.KEYWORD_ONLY and each.default is not each.empty and each.name not in entry.needs
    }
    return {name: value for name, value in (usual | dict(given)).items() if name != "progress"}


def _metrics(metrics: Metrics, masks: bool) -> dict[str, Mapping[str, Any]]:
    if isinstance(metrics, Mapping):
        named = dict(metrics)
    else:
        named = {name: SUITE_SETTINGS.get(name, {}) for name in (DEFAULT_SUITE if metrics is None else metrics)}
    lacking = [name for name in named if "masks" in METRICS[name].needs and not masks]
    if lacking and metrics is not None:
        raise XaihubError(f"{lacking[0]} asks whether a map finds a thing, and nobody said where it is. Give `masks=`.")
    return {name: given for name, given in named.items() if name not in lacking}


def _examples(
    classifier: Classifier,
    methods: Sequence[str] | None,
    metrics: Metrics,
    wanted: dict[str, Mapping[str, Any]],
    references: ReferenceSet | None,
) -> dict[str, tuple[str, ...]]:
    """Of the methods that show pictures, what is asked; where no metric is named, all that fit."""
    asked: dict[str, tuple[str, ...]] = {}
    for name in methods if methods is not None else ("twins", "counterfactuals", "prototypes"):
        if not METHODS[name].shows_pictures:
            continue
        if missing := METHODS[name].missing(classifier, references):
            if methods is not None:
                raise XaihubError(f"{name} cannot run here. {missing}")
            continue
        fitting = [n for n, entry in METRICS.items() if name in _SHOW.get(entry.of, ())]
        chosen = tuple(n for n in fitting if metrics is None or n in wanted)
        if chosen:
            asked[name] = chosen
    return asked
