"""The house stands: imports point down, each outside library has one owner, files stay small, nothing is unpickled."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "xaihub"

FLOORS = {
    "errors": 0, "curated": 0, "folders": 0, "levels": 0,
    "registry": 1, "progress": 1, "untrusted": 1, "images": 1, "agreement": 1, "intervals": 1, "separability": 1,
    "class_names": 1, "wrappers": 1,
    "duplicates": 2, "fairness": 2, "splitting": 2, "figures": 2, "same_content": 3,
    "index": 2, "projections": 2, "notebook": 2, "downloads": 2, "tensor_headers": 2,
    "kaggle_worker": 2,
    "records": 3, "spaces": 3, "heads": 3, "hooks": 3, "calls": 3, "cuts": 3, "quadrants": 3, "placement": 3,
    "hub": 3, "kaggle_task": 3, "kaggle": 4, "synthetic": 3, "training": 3,
    "outputs": 4, "costs": 4,
    "preprocessing": 4, "tracing": 4, "datasets": 4, "reference_files": 4, "reference_card": 4, "generation": 4,
    "probe_images": 5, "soundness": 5, "target_layer": 5, "curation": 5, "prototypes": 5,
    "classifier": 6,
    "passes": 7, "families": 7,
    "embedders": 8, "planning": 8,
    "loading": 9,
    "references": 10, "hub_embedders": 10,
    "methods": 11, "shards": 11, "layer_embeddings": 11, "word_search": 11,
    "maps": 12, "regions": 12, "swaps": 12, "fidelity": 12, "found": 12,
    "cams": 13, "attention": 13, "perturbations": 13, "building": 13, "discriminant": 13,
    "quality": 13, "unlike": 13, "prototype_firing": 13,
    "prototype_sheet": 14, "prototype_maps": 14, "prototype_fitting": 15, "prototype_health": 15,
    "attributions": 14, "neighbours": 14, "counterfactuals": 14, "lookalikes": 14, "stages": 14, "ray_building": 14,
    "explaining": 15,
    "cards": 16, "quiz": 16, "metrics": 16,
    "trusting": 17, "measuring": 17, "evaluating": 17, "auditing": 17,
    "finetuning": 18,
    "prototype_training": 19,
    "": 20,  # xaihub itself: the public names
    # neither pages nor own_module can reach the other: no page runs a file of anybody's
    "ui": 21, "own_module": 21, "doctor": 21, "terminal": 21,
    "__main__": 22,
}  # fmt: skip

OWNERS = {
    "huggingface_hub": {"hub"},
    "gradio": {"ui"},
    "transformers": {
        "families.from_transformers",
        "families.backbones",
        "families.protopnet_model",
        "families.cleaning",
    },
    "timm": {"families.from_timm"},
    "torchvision": {"families.from_torchvision"},
    "datasets": {"datasets"},
    "pyarrow": {"reference_files", "datasets", "index", "prototypes.files", "evaluating.tables", "quiz.storing"},
    "diffusers": {"generation"},
    "umap": {"projections"},
    "sklearn": {"projections"},
    "kagglehub": {"kaggle_worker"},
    "kagglesdk": {"kaggle_worker"},
    "faiss": {"index"},
    "lancedb": {"index"},
    "ray": {"ray_building"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> Iterator[str]:
    """Every absolute module a file imports, also inside functions and behind TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            if node.module in ("xaihub", "xaihub.families", "xaihub.ui", "xaihub.synthetic"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def room(module: str) -> str:
    return module.removeprefix("xaihub").removeprefix(".").split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path):
    mine = room(name_of(path))
    if mine == "":  # the package names its rooms lazily, and knows them all
        return
    for module in imports(path):
        if not module.startswith("xaihub"):
            continue
        theirs = room(module)
        if theirs not in FLOORS:  # "xaihub.load_classifier" is the package's own public name
            theirs = ""
        assert theirs == mine or FLOORS[theirs] < FLOORS[mine], (
            f"{name_of(path)} imports {module}, which is not below it"
        )


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_each_outside_library_has_one_owner(path):
    name = name_of(path)
    for module in imports(path):
        library = module.split(".")[0]
        if library in OWNERS:
            assert name in OWNERS[library] or room(name) in OWNERS[library], f"{name} imports {library}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_files_stay_small(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400, "split it by theme"


@pytest.mark.parametrize("path", [*modules(), ROOT / "app.py"], ids=lambda path: path.name)
def test_nothing_is_unpickled_and_no_stranger_code_is_run(path):
    tree = ast.parse(path.read_text("utf-8"))
    loaded = {module.split(".")[0] for module in imports(path)}
    assert not loaded & {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.load":
            assert options.get("weights_only") == "True"
        if name == "np.load":
            assert options.get("allow_pickle") == "False"
        if name.endswith("AutoModelForImageClassification.from_pretrained"):
            assert options.get("use_safetensors") == "True"
        if "from_pretrained" in name and "Auto" in name:
            assert options.get("trust_remote_code") == "False"
        assert name not in ("eval", "exec"), f"{path} calls {name}"


def test_hooks_are_registered_in_one_place_only():
    using = {name_of(path) for path in modules() if "register_forward" in path.read_text("utf-8")}
    assert using == {"hooks"}
