"""Why did an image classifier answer as it did?

    from xaihub import explain, load_classifier, load_references

    classifier = load_classifier("microsoft/resnet-18")
    explanation = explain(classifier, "cat.jpg")
    explanation["gradcam"][0].heatmap

Names are imported when they are first used: `import xaihub` takes no time, and torch comes with the first name that
needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaihub.auditing import AuditReport as AuditReport
    from xaihub.auditing import audit as audit
    from xaihub.building import build_references as build_references
    from xaihub.building import reference_pictures as reference_pictures
    from xaihub.cams import cam as cam
    from xaihub.classifier import Classifier as Classifier
    from xaihub.datasets import open_dataset as open_dataset
    from xaihub.embedders import EMBEDDERS as EMBEDDERS
    from xaihub.embedders import embedder as embedder
    from xaihub.errors import XaihubError as XaihubError
    from xaihub.evaluating import evaluate as evaluate
    from xaihub.explaining import explain as explain
    from xaihub.explaining import explain_query as explain_query
    from xaihub.families import FAMILIES as FAMILIES
    from xaihub.families import family as family
    from xaihub.families.protopnet_model import ProtoPNetForImageClassification as ProtoPNetForImageClassification
    from xaihub.hub_embedders import load_embedder as load_embedder
    from xaihub.images import open_picture as open_picture
    from xaihub.loading import Limits as Limits
    from xaihub.loading import load_classifier as load_classifier
    from xaihub.loading import preflight as preflight
    from xaihub.methods import METHODS as METHODS
    from xaihub.methods import Query as Query
    from xaihub.methods import method as method
    from xaihub.metrics import METRICS as METRICS
    from xaihub.metrics import metric as metric
    from xaihub.passes import tap as tap
    from xaihub.prototype_fitting import fit_prototypes as fit_prototypes
    from xaihub.prototypes import HeadSettings as HeadSettings
    from xaihub.records import Evidence as Evidence
    from xaihub.records import Explanation as Explanation
    from xaihub.records import Prediction as Prediction
    from xaihub.records import Score as Score
    from xaihub.references import ReferenceSet as ReferenceSet
    from xaihub.references import load_references as load_references
    from xaihub.trusting import Trust as Trust
    from xaihub.trusting import trust as trust
    from xaihub.word_search import search_words as search_words

__version__ = "0.1.0"

_HOMES = {
    "AuditReport": "auditing",
    "EMBEDDERS": "embedders",
    "FAMILIES": "families",
    "METHODS": "explaining",  # where every method has been registered
    "METRICS": "metrics",
    "Classifier": "classifier",
    "Evidence": "records",
    "Explanation": "records",
    "HeadSettings": "prototypes",
    "Limits": "loading",
    "Prediction": "records",
    "ProtoPNetForImageClassification": "families.protopnet_model",
    "Query": "methods",
    "ReferenceSet": "references",
    "Score": "records",
    "Trust": "trusting",
    "XaihubError": "errors",
    "audit": "auditing",
    "build_references": "building",
    "cam": "cams",
    "embedder": "embedders",
    "evaluate": "evaluating",
    "explain": "explaining",
    "explain_query": "explaining",
    "family": "families",
    "fit_prototypes": "prototype_fitting",
    "load_classifier": "loading",
    "load_embedder": "hub_embedders",
    "load_references": "references",
    "method": "methods",
    "metric": "metrics",
    "open_dataset": "datasets",
    "open_picture": "images",
    "preflight": "loading",
    "reference_pictures": "building",
    "search_words": "word_search",
    "tap": "passes",
    "trust": "trusting",
}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605  a list, computed so that it cannot fall behind


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xaihub' has no attribute {name!r}")
    value = getattr(import_module(f"xaihub.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
