"""Prototype networks as transformers knows models: saved, loaded and pushed as any other.

Imports transformers at once, so it is imported only where one is loaded or saved; `AutoConfig` and
`AutoModelForImageClassification` know the type "protopnet" from then on.
"""

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import cached_file

from xaihub.errors import UnsupportedModelError
from xaihub.families.from_protopnet import settings_of, views_of
from xaihub.families.from_transformers import read_settings
from xaihub.families.naflex import Naflex
from xaihub.prototypes import Prototype, PrototypeLayer, PrototypeNetwork, Prototypes
from xaihub.prototypes.files import GALLERY, read_gallery, write_gallery

__all__ = ["ProtoPNetConfig", "ProtoPNetForImageClassification", "of_prototypes"]

_TIMM = "TimmWrapperImageProcessor"


class ProtoPNetConfig(PreTrainedConfig):
    """What the weights of a prototype network do not say.

    Attributes:
        black_box: the configuration of the network below the prototypes.
        layers: its layers that are read as maps: name, layout, grid, prefix_tokens, channels, input_size, places.
        prototypes: the fields of `PrototypeSettings`.
        kind, fitted_to, made: as `Prototypes` has them.
        black_box_id: what the prototypes were made from; `black_box_labels` its classes.
    """

    model_type = "protopnet"

    black_box: dict[str, Any] | None = None
    layers: list[dict[str, Any]] | None = None
    prototypes: dict[str, Any] | None = None
    kind: str = "head"
    fitted_to: str = "predictions"
    black_box_id: str = "your own network"
    black_box_labels: list[str] | None = None
    made: dict[str, Any] | None = None


class ProtoPNetForImageClassification(PreTrainedModel):
    """A classifier whose answer is a sum of similarities to prototypes (Chen et al., 2019, arXiv:1806.10574).

    Attributes:
        network: pixels (N, 3, H, W) -> logits (N, C).
        gallery: (P,), where the prototypes come from; () while nobody has said.
    """

    config_class = ProtoPNetConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"

    def __init__(self, config: ProtoPNetConfig) -> None:
        super().__init__(config)
        self.network = _network(config)
        self.gallery: tuple[Prototype, ...] = ()
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool | None = None, **_: Any
    ) -> Any:
        """Logits (N, C) and, for labels (N,), the cross-entropy."""
        logits = self.network(pixel_values)
        loss = None if labels is None else cross_entropy(logits, labels)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return ImageClassifierOutput(loss=loss, logits=logits)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As every model of transformers, and its gallery along with it.

        Raises:
            UnsupportedModelError: the gallery is missing, or belongs to another network.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **{"use_safetensors": True, **kwargs})
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        named = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder")
        options = {name: kwargs[name] for name in named if kwargs.get(name) is not None}
        where = str(pretrained_model_name_or_path)
        file = cached_file(where, GALLERY, _raise_exceptions_for_missing_entries=False, **options)
        model.gallery = read_gallery(Path(file or GALLERY), model.network.head.settings.owners, where)
        return loaded

    def save_pretrained(self, save_directory: Any, *args: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """As every model of transformers, and its gallery along with it; `push_to_hub` comes here, too."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self.gallery:
            labels = [str(self.config.id2label[index]) for index in sorted(self.config.id2label)]
            head = self.network.head
            weights = head.weights.detach()[head.owners, range(len(self.gallery))].tolist()
            write_gallery(folder / GALLERY, self.gallery, labels, weights)
        super().save_pretrained(save_directory, *args, push_to_hub=push_to_hub, **kwargs)
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors writes for its owner alone

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """As every model of transformers; that a table goes along is meant, so the client's warning is left out."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            return super().push_to_hub(*args, **kwargs)


AutoConfig.register("protopnet", ProtoPNetConfig)
AutoModelForImageClassification.register(ProtoPNetConfig, ProtoPNetForImageClassification)


def _network(config: ProtoPNetConfig) -> PrototypeNetwork:
    """The network that a configuration describes, with weights that mean nothing yet."""
    held = config.to_dict()
    inner = dict(held["black_box"])
    kind = str(inner.get("model_type"))
    black_box = AutoModelForImageClassification.from_config(
        CONFIG_MAPPING[kind].from_dict(inner), trust_remote_code=False
    )
    module = Naflex(black_box) if kind == "siglip2" else black_box
    return PrototypeNetwork(module, views_of(held), PrototypeLayer(settings_of(held)))


def of_prototypes(
    prototypes: Prototypes, like: Path, *, several: bool = False, pictures: bool = True
) -> ProtoPNetForImageClassification:
    """The model that saves a classifier's prototypes; it shares their network.

    Args:
        like: the folder that the black box came from.
        several: whether classes do not exclude each other.

    Raises:
        UnsupportedModelError: its black box is of a library whose networks transformers cannot build.
    """
    network = _of_transformers(prototypes.network, like)
    inner: Any = network.black_box.config
    timm = getattr(inner, "pretrained_cfg", None)  # its processor reads that in the same file
    config = ProtoPNetConfig(
        black_box=inner.to_diff_dict(),
        layers=[{"name": name, **view._asdict()} for name, view in network.views.items()],
        prototypes=asdict(network.head.settings),
        kind=prototypes.kind,
        fitted_to=prototypes.fitted_to,
        black_box_id=prototypes.black_box,
        black_box_labels=list(prototypes.black_box_labels),
        made=dict(prototypes.made),
        id2label=dict(enumerate(prototypes.labels)),
        label2id={label: index for index, label in enumerate(prototypes.labels)},
        problem_type="multi_label_classification" if several else None,
        **({"pretrained_cfg": timm, "image_processor_type": _TIMM} if timm else {}),
    )
    with torch.device("meta"):  # a new one draws its weights; ours must not be drawn anew
        model = ProtoPNetForImageClassification(config)
    model.network = network
    model.gallery = tuple(each if pictures else replace(each, data=None) for each in prototypes.gallery)
    return model


def _of_transformers(network: PrototypeNetwork, like: Path) -> PrototypeNetwork:
    """The same network, its black box one that transformers builds; timm's own gets transformers' wrapper."""
    black_box: nn.Module = network.black_box
    if isinstance(black_box, PreTrainedModel | Naflex):
        return network
    if not hasattr(black_box, "pretrained_cfg"):
        raise UnsupportedModelError(
            f"The prototypes rest on a {type(black_box).__name__}, which transformers cannot build, so they cannot be"
            " saved as one of its models. Prototypes on classifiers of transformers and timm can."
        )
    wrapper = AutoModelForImageClassification.from_config(read_settings(like), trust_remote_code=False)
    wrapper.timm_model = black_box
    views = {f"timm_model.{name}": view for name, view in network.views.items()}
    return PrototypeNetwork(wrapper, views, network.head)
