"""What an evaluation asks: which methods, which metrics of each, with which settings."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.errors import TargetLayerError, UnknownNameError, XaihubError
from xaihub.evaluating.pieces import code_of, key_of
from xaihub.methods import FEW_PASSES, METHODS
from xaihub.metrics import BASELINES, DEFAULT_SUITE, METRICS, SUITE_SETTINGS, Metric
from xaihub.metrics.table import Count
from xaihub.references import ReferenceSet
from xaihub.registry import nearest_name

__all__ = ["Metrics", "Plan", "map_methods", "metrics_named", "plan", "refuse_seed", "settings_of"]

Metrics = Sequence[str] | Mapping[str, Mapping[str, Any]] | None

_SEEDS = 2**63  # so many start torch's generators and numpy's

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
        UnknownNameError: there is no such method, metric or setting.
        TargetLayerError, XaihubError: one that was named cannot run here, or not with such a setting.
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


def metrics_named(texts: Sequence[str] | None) -> dict[str, Mapping[str, Any]] | None:
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
            _refuse_unknown(METRICS[name], setting)
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


def refuse_seed(seed: int) -> None:
    """Nothing, unless no random numbers can start from it.

    Raises:
        XaihubError: it is no whole number, negative, or too large.
    """
    if not _is_seed(seed):
        raise XaihubError(
            f"No random numbers start from the seed {seed!r}: it must be a whole number of 0 or more, below 2^63. Give"
            " another one, such as 0."
        )


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < _SEEDS


def _refuse_unknown(entry: Metric, setting: str) -> None:
    known = settings_of(entry, {})
    if setting not in known:
        raise UnknownNameError(
            f"{entry.name} has no setting {setting!r}.{nearest_name(setting, known)} It has:"
            f" {', '.join(known) or 'none'}."
        )


def _refuse_settings(entry: Metric, given: Mapping[str, Any]) -> None:
    """Nothing, unless a setting cannot be, as far as that is known before there is a picture."""
    options = inspect.signature(entry.run).parameters
    for setting, value in given.items():
        _refuse_unknown(entry, setting)
        if must := _must_be(setting, value, options[setting].annotation):
            raise XaihubError(f"{entry.name} cannot be measured with {setting}={value!r}: {setting} must be {must}.")


def _must_be(setting: str, value: Any, annotation: Any) -> str:
    """What a setting must be, by its annotation, where the value is not that; nothing where none tells."""
    kind, several = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return "" if value in several else f"one of: {', '.join(map(str, several))}"
    kinds = several if kind in (Union, UnionType) else (annotation,)
    if value is None and type(None) in kinds:
        return ""
    if setting == "seed":
        return "" if _is_seed(value) else "a whole number of 0 or more, below 2^63"
    if bool in kinds:
        return "" if value in (0, 1) else "0 or 1"
    if Count in kinds:
        return "" if isinstance(value, int) and value >= 1 else "a whole number of 1 or more"
    if int in kinds:
        return "" if isinstance(value, int) else "a whole number"
    if float in kinds:
        return "" if isinstance(value, (int, float)) and math.isfinite(value) else "a number"
    many = kind is Sequence or Tensor in kinds
    return "more than one number, which only Python can give" if many and isinstance(value, (int, float)) else ""


def _metrics(metrics: Metrics, masks: bool) -> dict[str, Mapping[str, Any]]:
    if isinstance(metrics, Mapping):
        named = dict(metrics)
    else:
        named = metrics_named(DEFAULT_SUITE if metrics is None else metrics) or {}
    for name, given in named.items():
        _refuse_settings(METRICS[name], given)
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
