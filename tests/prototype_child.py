"""A tiny classifier that tells red pictures from blue ones, and prototypes made from it by the script."""

from pathlib import Path

import torch
from training_child import backbone, class_folders, train

from scripts import train_protopnet

torch.set_num_threads(1)


def black_box(folder: Path) -> tuple[Path, Path]:
    """The folders of a classifier and of the pictures that it was trained on, twelve of each of its two classes."""
    data = class_folders(folder / "pets", 12)
    assert train(data, backbone(folder / "network"), folder / "classifier", "--epochs", "0") == 0
    return folder / "classifier", data


def prototypes(data: Path, network: Path, to: Path, *options: str, kind: str = "protopnet") -> int:
    """The exit code of the script, few epochs."""
    few = ["--per-class", "3"] + (["--epochs", "2", "--warm-up", "1"] if kind == "protopnet" else [])
    given = ["--data", str(data), "--backbone", str(network), "--to", str(to), "--kind", kind]
    return train_protopnet.main([*given, *few, *options])
