"""From a repository's id, or a folder, to a Classifier."""

from pathlib import Path
from typing import Any

from xaihub import hub, kaggle
from xaihub.classifier import Classifier, StatedActivation
from xaihub.costs import PassLimits
from xaihub.downloads import cache_folder, fetch_checked
from xaihub.families import FAMILIES, from_torchvision, staged
from xaihub.planning import STARTER_FOLDER, Limits, Plan, preflight, refuse_parameters, refuse_stored
from xaihub.progress import Progress, silent

__all__ = [
    "STARTER_FOLDER",
    "Limits",
    "Plan",
    "cache_folder",
    "fetch_checked",
    "fetch_planned",
    "load_classifier",
    "preflight",
]


def load_classifier(
    repo_id_or_folder: str | Path | Plan,
    *,
    revision: str | None = None,
    token: hub.Token = None,
    device: str | None = None,
    target_layer: str | None = None,
    activation: StatedActivation | None = None,
    limits: Limits | None = None,
    local: bool = True,
    progress: Progress = silent,
) -> Classifier:
    """A classifier in float32 and eval mode, with its target layer proved: of the Hub, of Kaggle, or of a folder.

    Args:
        repo_id_or_folder: see `preflight`, or the plan that it made.
        target_layer: a module's name; None to let it be chosen.
        activation: "softmax", "sigmoid" or "none", as `Classifier.from_module` takes it; None for what its files say.
        local: as in `preflight`; for a visitor a pass that is beyond `PassLimits` is refused, else it is told.
        progress: is told how far the download is, and may stop it.

    Raises:
        HubError: the files cannot be had.
        UnsupportedModelError: it is not a classifier that can be explained here, and what would be.
        TooLargeError: a pass of it costs more than a visitor may spend.
        TargetLayerError: there is no layer of the name given.
    """
    plan = repo_id_or_folder
    if not isinstance(plan, Plan):
        progress(0.0, f"Looking at {plan}")
        plan = preflight(plan, revision=revision, token=token, limits=limits, local=local)
    details = {
        "repo_id": plan.repo_id,
        "revision": plan.revision,
        "device": device,
        "target_layer": target_layer,
        "activation": activation,
        "facts": {"licence": plan.licence, "task": plan.task},
        "limits": None if local else PassLimits.from_environment(),
    }
    folder = fetch_planned(plan, token=token, progress=progress)
    progress(1.0, "Choosing the target layer")
    if plan.repo_id.startswith("torchvision/"):
        return _load_published(plan, folder, details)
    family = FAMILIES[plan.family]
    with staged(folder, plan.files, plan.config, family, plan.repo_id) as (stage, config):
        return family.load(stage, config, details)


def fetch_planned(plan: Plan, *, token: hub.Token = None, progress: Progress = silent) -> Path:
    """The folder that now holds the planned files.

    Raises:
        TooLargeError: their headers, read only now, name more parameters than are allowed.
        UnsupportedModelError: the config counts beyond what they hold.
    """
    if plan.folder is not None:
        return plan.folder
    if plan.repo_id.startswith("torchvision/"):
        return fetch_checked(plan.files[0], cache_folder() / "torchvision", progress=progress).parent
    if plan.listing is None:
        assert plan.repo is not None  # noqa: S101  a folder, a listing or a repository, by construction
        return hub.fetch(plan.repo, plan.files, token=token, progress=progress)
    folder = kaggle.fetch(plan.listing, plan.files, cache_folder(), progress=progress)
    tensors = [folder / name for name in plan.files if name.endswith(".safetensors")]
    if plan.most_parameters is not None:
        refuse_parameters(plan.repo_id, refuse_stored(plan.repo_id, plan.config, tensors), plan.most_parameters)
    return folder


def _load_published(plan: Plan, folder: Path, details: dict[str, Any]) -> Classifier:
    name = plan.repo_id.removeprefix("torchvision/")
    url, weights = from_torchvision.torchvision_published(name)
    return from_torchvision.load_torchvision_published(name, weights, folder / url.rsplit("/", 1)[-1], details)
