"""Repositories that mean harm, or look as if they did: each small, made by code, and refused or answered in words."""

import io
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save
from tiny_datasets import class_folders
from tiny_models import TINY, build, changed, files_of, processor_of

CONFIG, PROCESSOR, WEIGHTS, INDEX = (
    "config.json", "preprocessor_config.json", "model.safetensors", "model.safetensors.index.json",
)  # fmt: skip
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9000000\n"
DEEP = b'{"a":' * 400 + b"1" + b"}" * 400

KINDS = ("json", "counts", "places", "headers", "programs", "numbers", "closed", "passes")


class Hostile(NamedTuple):
    """A repository, how it is asked about, and what the answer says.

    Attributes:
        files: path -> content; none for a repository that is not there.
        words: what the refusal, or the sentence in place of an answer, matches; "" where anything in words will do.
        refused: whether it must be refused; else it must be answered.
        ask: "explain", "audit", "references" or "eye".
        name: of the repository, where it is not the usual one.
        settings: of the repository, such as `private`.
        picture: that is asked about, as (width, height); None for the usual one.
    """

    files: Mapping[str, bytes]
    words: str = ""
    refused: bool = True
    ask: str = "explain"
    name: str = ""
    settings: Mapping[str, Any] = {}
    picture: tuple[int, int] | None = None


def hostile_repositories(folder: Path) -> dict[str, dict[str, Hostile]]:
    """Kind of harm, one of `KINDS` -> what each is -> the repository."""
    vit = files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=folder / "vit")
    kinds = (_json, _counts, _places, _headers, _programs, _numbers, _closed, _passes)
    return {kind: dict(make(vit, folder)) for kind, make in zip(KINDS, kinds, strict=True)}


Made = Iterator[tuple[str, Hostile]]


def _with(vit: Mapping[str, bytes], name: str, content: bytes, words: str = "", **how: Any) -> Hostile:
    return Hostile({**vit, name: content}, words, **how)


def _json(vit: dict[str, bytes], _folder: Path) -> Made:
    beyond = {
        "5 MB of white space": (b" " * (5 * 2**20), "has 5 MB; that is no configuration"),
        "400 nested objects": (DEEP, "nested more than 32 deep"),
        "100,000 nested lists": (b'{"a":' + b"[" * 100_000, "nested more than 32 deep"),
        "a million values": (b'{"a": [' + b"0," * 1_000_001 + b"0]}", "more than 1,000,000 values"),
        "a key of 90,000 letters": (b'{"' + b"k" * 90_000 + b'": {"size": {"size": 1}}}', "a key of 90,000 letters"),
        "a number of 5,000 digits": (b'{"hidden_size": ' + b"9" * 5_000 + b"}", "a number of 5,000 digits"),
        "a number that is none": (b'{"hidden_size": NaN}', "NaN in place of a number"),
        "1e400": (b'{"hidden_size": 1e400}', "beyond all bounds"),
        "half an object": (vit[CONFIG][:100], "is not valid JSON"),
        "a list": (b"[1, 2]", "holds a list"),
        "zero bytes": (bytes(500), "only zero bytes"),
        "a pointer": (POINTER, "git-LFS pointer"),
        "half a surrogate pair": (b'{"id2label": {"0": "\\ud800"}}', "is not valid JSON"),
        "other letters": (vit[CONFIG].decode().encode("utf-16"), ""),
    }
    for what, (content, words) in beyond.items():
        yield f"a config.json of {what}", _with(vit, CONFIG, content, words)
    processors = {
        "one key of 8 MB": (b'{"' + b"k" * 8_000_000 + b'": {"size": 1}}', "has 8 MB; that is no configuration"),
        "400 nested keys": (DEEP, "nested more than 32 deep"),
        "nested keys of 900 letters": (
            b"".join(b'{"' + b"k" * 900 + b'":' for _ in range(30)) + b"[" + b"9," * 50_000 + b"9]" + b"}" * 30, "",
        ),
        "zero bytes": (bytes(500), "only zero bytes"),
        "a pointer": (POINTER, "git-LFS pointer"),
    }  # fmt: skip
    for what, (content, words) in processors.items():
        yield f"a preprocessor_config.json of {what}", _with(vit, PROCESSOR, content, words)
    adapter = {CONFIG: vit[CONFIG], "adapter_config.json": DEEP, "adapter_model.safetensors": b"x"}
    yield "an adapter whose config is nested 400 deep", Hostile(adapter)
    large = {**adapter, "adapter_config.json": b'{"peft_type": "' + b"L" * 5_000_000 + b'"}'}
    yield "an adapter whose config has 5 MB", Hostile(large, "adapter")


def _counts(vit: dict[str, bytes], _folder: Path) -> Made:
    beyond = "describes a network of more than"
    for what, settings, words in (
        ("a billion labels", {"num_labels": 10**9, "id2label": None}, beyond),
        ("90,000 labels", {"num_labels": 90_000, "id2label": None}, "has 90,000 classes"),
        ("50,000 named labels", {"id2label": {str(i): f"label {i}" for i in range(50_000)}}, "has 50,000 classes"),
        ("a billion layers", {"num_hidden_layers": 10**9}, beyond),
        ("a million layers", {"num_hidden_layers": 10**6}, beyond),
        ("a width of a billion", {"hidden_size": 10**9}, beyond),
        ("a width of a million", {"hidden_size": 10**6}, beyond),
        ("an inner width of a billion", {"intermediate_size": 10**9}, beyond),
        ("images of 100,000 pixels", {"image_size": 100_000}, "asks for pictures of 100000 pixels"),
        ("patches of one pixel at 2,048", {"image_size": 2048, "patch_size": 1}, ""),
        ("a billion channels", {"num_channels": 10**9}, beyond),
        ("a width of 1e30", {"hidden_size": 1e30}, beyond),
        ("words in place of widths", {"hidden_size": "wide" * 50_000}, ""),
    ):
        yield f"a config of {what}", Hostile(changed(vit, **settings), words)
    same = {str(i): "crane" for i in range(8_000)}
    net = build(TINY["vit"], labels={int(key): label for key, label in same.items()})
    equal = {**vit, WEIGHTS: save({key: value.contiguous() for key, value in net.state_dict().items()})}
    yield "8,000 equal labels", Hostile(changed(equal, id2label=same, label2id={"crane": 0}), refused=False)
    timm = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    swin, small = "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"
    for what, settings in (
        ("100 M classes", {"num_classes": 10**8}),
        ("100,000 blocks", {"architecture": small, "model_args": {"depth": 10**5}}),
        ("windows of 30,000", {"architecture": swin, "model_args": {"window_size": 30_000, "img_size": 2048}}),
        ("a width of 10 M", {"architecture": small, "model_args": {"embed_dim": 10**7}}),
        ("a million stages", {"architecture": swin, "model_args": {"depths": [10**6] * 4}}),
    ):
        yield f"a timm config of {what}", _with(vit, CONFIG, json.dumps({**timm, **settings}).encode())
    for what, settings in (
        ("10 M classes", {"architecture": "torchvision.models.squeezenet1_1", "num_classes": 10**7}),
        ("a network of others", {"architecture": "torchvision.models.vgg19", "num_classes": 3}),
    ):
        yield f"a torchvision config of {what}", _with(vit, CONFIG, json.dumps(settings).encode(), beyond)


def _places(vit: dict[str, bytes], _folder: Path) -> Made:
    shards = {"model-00001-of-00002.safetensors": vit[WEIGHTS], "model-00002-of-00002.safetensors": vit[WEIGHTS]}
    beside = {name: content for name, content in vit.items() if name != WEIGHTS}
    for what, place in (
        ("another repository", "../../../models--bob--secret/snapshots/0/model.safetensors"),
        ("a file of the machine", "/etc/passwd"),
        ("a file beyond backslashes", "..\\..\\model.safetensors"),
        ("a file behind an escape", "%2e%2e/model.safetensors"),
        ("no text", 7),
        ("a list", ["model-00001-of-00002.safetensors"]),
        ("a file that is not there", "model-00003-of-00002.safetensors"),
        ("a config", CONFIG),
    ):
        index = json.dumps({"metadata": {}, "weight_map": {"vit.x": place}}).encode()
        yield f"an index that points to {what}", Hostile({**beside, **shards, INDEX: index}, "none of its own files")
    for what, index in (
        ("400 nested objects", DEEP),
        ("5 MB", b" " * 5_000_000),
        ("a list", b"[1]"),
        ("nothing", b"{}"),
    ):
        yield f"an index of {what}", Hostile({**beside, **shards, INDEX: index})
    many = {f"model-{i:05}-of-00300.safetensors": b"x" for i in range(300)}
    yield "weights in 300 files", Hostile({**beside, **many}, "in 300 files; at most 64")


def _header(tensors: Mapping[str, Any], tail: int) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + bytes(tail)


def _headers(vit: dict[str, bytes], _folder: Path) -> Made:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for what, weights, words in (
        ("9 exabytes", struct.pack("<Q", 2**63) + b"{}", "header is too large"),
        ("99 MB", struct.pack("<Q", 99 * 2**20) + b"{}", "header is too large"),
        ("more than the file", struct.pack("<Q", 50_000) + b"{}", "was cut short"),
        ("nothing", bytes(5_000), "only zero bytes"),
        ("an empty file", b"", "is empty"),
        ("a pointer", POINTER, "git-LFS pointer"),
        ("half the tensors", vit[WEIGHTS][: len(vit[WEIGHTS]) // 2], "was cut short"),
        ("tensors that overlap", _header({"a": entry, "b": entry}, 8), "overlap"),
        ("negative sizes", _header({"a": {**entry, "shape": [-1, -2]}}, 8), "no whole number"),
        ("sizes that overflow", _header({"a": {**entry, "shape": [2**40, 2**40]}}, 8), "of shape"),
        ("a billion rows of nothing", _header({"a": {**entry, "shape": [10**9, 0], "data_offsets": [0, 0]}}, 0), ""),
        ("50,000 nested lists", struct.pack("<Q", 50_000) + b"[" * 50_000, "nested more than 32 deep"),
        ("other bytes", bytes(range(1, 256)) * 40, "header is too large"),
    ):
        yield f"weights with a header of {what}", _with(vit, WEIGHTS, weights, words)


def _programs(vit: dict[str, bytes], _folder: Path) -> Made:
    elsewhere = "asks for further files by itself"
    for what, settings, words in (
        ("code of its own", {"auto_map": {"AutoModelForImageClassification": "evil.Net"}}, "code of its own"),
        ("a kernel of the Hub", {"attn_implementation": "mallory/kernel"}, elsewhere),
        ("a private kernel of the Hub", {"_attn_implementation": "mallory/kernel"}, elsewhere),
        ("a kernel in a list", {"x": [{"y": {"_attn_implementation": {"": "mallory/kernel"}}}]}, elsewhere),
        ("experts of the Hub", {"_experts_implementation": "mallory/kernel"}, elsewhere),
        ("kernels by layer", {"kernel_config": {"kernel_mapping": {"RMSNorm": "mallory/k:RMSNorm"}}}, elsewhere),
        ("a pretrained backbone", {"backbone": "mallory/x", "use_pretrained_backbone": True}, elsewhere),
        ("other weights", {"transformers_weights": "../other.safetensors"}, elsewhere),
        ("quantised weights", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
        ("an architecture of 200,000 letters", {"architectures": ["A" * 200_000]}, "is not an image classifier but A"),
        ("a type of 200,000 letters", {"model_type": "T" * 200_000, "architectures": None}, "not an image classifier"),
        ("a language model", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM"),
    ):
        yield f"a config that names {what}", Hostile(changed(vit, **settings), words)
    pipelines = changed(vit, custom_pipelines={"x": {"impl": "evil.P"}}, _name_or_path="../../x", dtype="load")
    yield "a config that names pipelines and paths", Hostile(pipelines, refused=False)
    evil = {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Evil"}}
    yield "a processor of its own", Hostile(changed({**vit, PROCESSOR: b"{}"}, PROCESSOR, **evil), "code of its own")
    timm = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    wrapper = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
    for what, settings in (
        ("another repository", {"architecture": "hf-hub:mallory/x"}),
        ("a folder", {"architecture": "local-dir:/etc"}),
        ("a checkpoint", {"model_args": {"checkpoint_path": "/etc/passwd"}}),
        ("another repository in a wrapper", {**wrapper, "architecture": "hf-hub:mallory/x"}),
        ("an address", {"model_args": {"pretrained_cfg_overlay": {"url": "http://evil/x"}}}),
    ):
        yield f"a timm config that names {what}", _with(vit, CONFIG, json.dumps({**timm, **settings}).encode())
    for name, words in (
        ("pytorch_model.bin", "can run programs"), ("tf_model.h5", "of Keras"), ("model.gguf", "of llama.cpp"),
        ("model.zip", "an archive"), ("model.pkl", "can run programs"),
    ):  # fmt: skip
        yield f"weights only as {name}", Hostile({CONFIG: vit[CONFIG], name: b"\x80\x04evil"}, words)
    yield "nothing but a card", Hostile({"README.md": b"# Hello"}, "has no weights")
    yield "an eye with weights only as a pickle", Hostile({CONFIG: vit[CONFIG], "pytorch_model.bin": b"x"}, ask="eye")
    yield "an eye whose processor is nested 400 deep", _with(vit, PROCESSOR, DEEP, "nested more than", ask="eye")
    yield "an eye of a billion layers", Hostile(changed(vit, num_hidden_layers=10**9), ask="eye")


def _numbers(vit: dict[str, bytes], _folder: Path) -> Made:
    for what, settings in (
        ("a deviation of 0", {"image_std": [0, 1, 1]}),
        ("a rescaling of 1e308", {"rescale_factor": 1e308}),
        ("a rescaling of 0", {"rescale_factor": 0}),
        ("five means", {"image_mean": [0.5] * 5}),
        ("a deviation in 200,000 letters", {"image_std": "9" * 200_000}),
        ("negative sizes", {"size": {"height": -64, "width": 64}}),
        ("a crop of nothing", {"crop_pct": 0}),
        ("a crop of next to nothing", {"crop_pct": 1e-4}),
        ("sizes of 100,000", {"size": {"height": 100_000, "width": 100_000}}),
        ("a mean of 1e300", {"image_mean": 1e300}),
        ("a billion patches", {"max_num_patches": 10**9, "patch_size": 16}),
    ):
        yield f"preprocessing with {what}", Hostile(changed(vit, PROCESSOR, **settings))
    vision = {"architecture": "torchvision.models.squeezenet1_1", "num_classes": 3, "std": [0, 0, 0]}
    yield "a torchvision config with a deviation of 0", _with(vit, CONFIG, json.dumps(vision).encode())
    cfg = {"input_size": [3, 64, 64], "std": [0, 0, 0]}
    timm = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": cfg}
    yield "a timm config with a deviation of 0", _with(vit, CONFIG, json.dumps(timm).encode())


def _closed(vit: dict[str, bytes], _folder: Path) -> Made:
    yield "a private model", Hostile(vit, "private and not open", settings={"private": True})
    yield "a gated model", Hostile(vit, "is gated", settings={"gated": "manual"})
    yield "a model that is not there", Hostile({}, "There is no model", name="mallory/nothing")
    yield "a path in place of a name", Hostile({}, "is not the id of a repository", name="../../etc/passwd")
    yield "a name of 200,000 letters", Hostile({}, "is not the id of a repository", name="m" * 200_000)
    colours = class_folders(red=3, green=3)
    private = Hostile(colours, "private and not open", ask="references", settings={"private": True}, refused=False)
    yield "private references", private
    for what, content in (
        ("another folder", json.dumps({"format": 2, "made": {}, "rows": 1, "spaces": [{"file": "../x"}]}).encode()),
        ("400 nested objects", DEEP),
        ("5 MB", b" " * 5_000_000),
        ("another format", json.dumps({"format": 99, "made": {}, "rows": 1}).encode()),
    ):
        files = {"references.json": content, "embeddings.safetensors": b"x", "rows.parquet": b"x"}
        yield f"references with a record of {what}", Hostile(files, ask="references", refused=False)
    card = b"---\nconfigs:\n- config_name: default\n  data_files: /etc/*\n---\n"
    yield "a dataset that names files of the machine", Hostile({"README.md": card, **colours}, ask="audit")
    script = {"mallory.py": b"raise SystemExit('this was run')"}
    yield "a dataset that is a program", Hostile(script, ask="audit")
    yield "a dataset of texts", Hostile({"data.csv": b"text,label\nhello,1\n"}, ask="audit")
    yield "a private dataset", Hostile(colours, "private and not open", ask="audit", settings={"private": True})
    yield "a README of 48 MB beside a dataset", Hostile({"README.md": b"# x\n" * (12 * 2**20), **colours}, ask="audit")
    bomb = {"data/train.parquet": _unpacking_parquet()}
    yield "a parquet file of some kilobytes that unpacks to gigabytes", Hostile(bomb, ask="audit")


def _unpacking_parquet() -> bytes:
    """One text of a megabyte, repeated in 2,000 rows, and an image in each: some kilobytes that unpack to 2 GB."""
    stream, png = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    rows = 2_000
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 2**20]))
    images = pa.array([{"bytes": png.getvalue(), "path": None}] * rows)
    features = {"note": {"dtype": "string", "_type": "Value"}, "image": {"_type": "Image"}}
    table = pa.table({"note": texts, "image": images})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}),
        stream, compression="zstd",
    )  # fmt: skip
    return stream.getvalue()


def _passes(vit: dict[str, bytes], folder: Path) -> Made:
    tiny = TINY["convnext"]
    convnext = files_of(build(tiny), processor_of(tiny), folder=folder / "convnext")
    edge = {"size": {"shortest_edge": 2048}, "do_center_crop": False, "crop_pct": None}
    cropped = changed(convnext, PROCESSOR, size={"shortest_edge": 383}, crop_pct=0.1)
    # 3,830 pixels a side are made of an image, which is within bounds
    yield "crop_pct 0.1 at 383 pixels", Hostile(cropped, refused=False)
    thin = changed(convnext, PROCESSOR, **edge)
    thin_words = "an image of 1000 x 5 pixels enlarged to a shortest edge of 2,048"
    yield thin_words, Hostile(thin, picture=(1000, 5))
    for what, patch, blocks, width in (("150 blocks at 2,048 pixels", 16, 150, 16), ("262,144 tokens", 4, 1, 4)):
        settings = {
            "image_size": 2048, "patch_size": patch, "hidden_size": width, "num_hidden_layers": blocks,
            "num_attention_heads": 1, "intermediate_size": width,
        }  # fmt: skip
        files = files_of(build(TINY["vit"], **settings), folder=folder / what.replace(",", "").replace(" ", "-"))
        yield (
            what,
            Hostile({**files, PROCESSOR: changed(vit, PROCESSOR, size={"height": 2048, "width": 2048})[PROCESSOR]}),
        )


torch.set_num_threads(1)
