"""JSON, headers and counts of strangers: bounded in time and memory by their bytes, and refused in words."""

import json
import logging
import math
import struct
import tracemalloc

import pytest
import torch
from safetensors.torch import save
from tiny_models import TINY, build, changed, files_of, processor_of

from xaihub import load_classifier, preflight
from xaihub.errors import (
    DamagedFileError,
    DownloadError,
    UnsafeFileError,
    UnsupportedModelError,
    XaihubError,
    log_failure,
    shorten,
)
from xaihub.families.base import huge_pictures
from xaihub.families.bounds import Allowance, faulty_numbers, refuse_counts
from xaihub.registry import nearest_name
from xaihub.tensor_headers import Header, parsed_header, read_header
from xaihub.ui.words import label_choices
from xaihub.untrusted import BoundsError, damage, json_object, most_bytes

PROCESSOR = "preprocessor_config.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole, good repository."""
    return files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=tmp_path_factory.mktemp("vit"))


def refused(hub, files, words, error=XaihubError):
    """The repository is refused in these words before any of its weights is fetched whole."""
    hub.add_files("alice/tiny", files)
    hub.requests.clear()
    with pytest.raises(error, match=words) as caught:
        load_classifier("alice/tiny", token=False)
    whole = [seen for seen in hub.requests if ".safetensors" in seen.path and seen.status == 200]
    assert whole == []
    assert len(str(caught.value)) < 700
    return caught.value


# D1: JSON


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested more than 32 deep"),
        (b'{"a":' + b"[" * 200_000, "nested more than 32 deep"),
        (b'{"' + b"k" * 1001 + b'": 1}', "a key of 1,001 letters"),
        (b'{"' + b"\\u0041" * 1001 + b'": 1}', "a key of 1,001 letters"),
        (b'{"a": ' + b"9" * 41 + b"}", "a number of 41 digits"),
        (b'{"a": 1e400}', "the number 1e400, which is beyond all bounds"),
        (b'{"a": -1e999}', "the number -1e999, which is beyond"),
        (b'{"a": NaN}', "NaN in place of a number"),
        (b'{"a": [1, {"b": -Infinity}]}', "-Infinity in place of a number"),
        (b'{"a": [' + b"0," * 1_000_000 + b"0]}", "more than 1,000,000 values"),
        (b'{"a": "' + b"x" * (4 * 2**20) + b'"}', "more than 4 MB"),
    ],
)
def test_json_beyond_what_a_configuration_can_be_is_refused(data, words):
    with pytest.raises(BoundsError, match=words):
        json_object(data, "config.json")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{broken", "is not valid JSON"), (b"[1]", "holds a list"), (b'"x"', "holds a str"), (b"1", "holds a int"),
        (b'{"a": "\\ud800"}', "is not valid JSON"), (b'{"a": 1}}', "is not valid JSON"), (b'{"a', "is not valid JSON"),
        (b"\0" * 50, "only zero bytes"), (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "only a git-LFS pointer"),
    ],
)  # fmt: skip
def test_what_is_no_json_object_says_what_it_is(data, words):
    with pytest.raises(ValueError, match=words):
        json_object(data, "config.json")


def test_json_as_it_is_published_is_read_as_it_stands():
    labels = {str(i): f"label {i}, with a long name that lists its synonyms" for i in range(21_000)}
    config = {
        "a": [1, -2.5, 1e-12, True, None], "{[": '"\\"]}', "id2label": labels,
        "label2id": {label: int(key) for key, label in labels.items()},
    }  # fmt: skip
    text = json.dumps(config, indent=1).encode()

    assert 1_500_000 < len(text) < most_bytes("config.json")
    assert json_object(text, "config.json") == config
    assert json_object(b"\xef\xbb\xbf" + json.dumps({"\u00e4": "\U0001f600"}).encode(), "config.json") == {
        "\u00e4": "\U0001f600"
    }
    assert json_object(b'{"a": ' * 31 + b"[]" + b"}" * 31, "config.json")


def test_memory_for_json_is_bounded_by_its_bytes():
    """The worst that bytes can become: empty lists, 56 bytes each."""
    data = b'{"a": [' + b"[]," * 490_000 + b"[]]}"
    tracemalloc.start()
    json_object(data, "config.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * len(data)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (PROCESSOR, b'{"' + b"k" * 8_000_000 + b'": {"size": 1}}', r"preprocessor_config\.json of alice/tiny has 8 MB"),
        (PROCESSOR, b'{"x": "' + b"y" * 300_000 + b'"}', "that is no configuration"),
        (PROCESSOR, b'{"a":' * 400 + b"1" + b"}" * 400, "nested more than 32 deep"),
        (PROCESSOR, b'{"image_std": [1e400, 1, 1]}', "the number 1e400"),
        ("processor_config.json", b'{"image_processor": {"image_mean": NaN}}', "NaN in place of a number"),
        ("config.json", b'{"a":' * 90_000, "nested more than 32 deep"),
        ("config.json", b'{"hidden_size": 1' + b"0" * 5000 + b"}", "a number of 5,001 digits"),
    ],
)
def test_a_file_beyond_bounds_refuses_the_whole_repository(hub, files, name, content, words):
    refused(hub, {**files, name: content}, words, UnsafeFileError)


def test_a_local_folder_with_such_a_file_is_refused_in_the_same_words(files, tmp_path):
    for name, content in {**files, PROCESSOR: b'{"a":' * 400 + b"1" + b"}" * 400}.items():
        (tmp_path / name).write_bytes(content)

    with pytest.raises(UnsafeFileError, match="nested more than 32 deep"):
        load_classifier(tmp_path)


def test_keys_of_nested_settings_are_not_copied_into_each_other():
    """400 nested keys of 10,000 letters: joined, they would be 800 MB; each message names the last only."""
    settings: object = {"size": 4096}
    for _ in range(400):
        settings = {"k" * 10_000: settings}
    tracemalloc.start()
    reason = huge_pictures(settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "asks for pictures of 4096 pixels a side" in reason
    assert len(reason) < 300
    assert peak < 2_000_000


# Safetensors headers


def header_of(tensors: dict[str, object], tail: int) -> tuple[bytes, int]:
    text = json.dumps(tensors).encode()
    return text, 8 + len(text) + tail


def test_a_header_says_what_the_library_itself_finds(tmp_path):
    tensors = {
        "b": torch.zeros(3, 4),
        "a": torch.zeros(5, dtype=torch.float16),
        "scalar": torch.tensor(1),
        "none": torch.zeros(0, 7),
    }
    (tmp_path / "x.safetensors").write_bytes(save(tensors))

    header = read_header(tmp_path / "x.safetensors")
    assert header.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert header.parameters == 12 + 5 + 1


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("tensors", "tail", "words"),
    [
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12, "overlap, or leave gaps"),
        ({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}, 20, "overlap, or leave gaps"),
        ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, 8, "overlap, or leave gaps"),
        ({"a": entry([2**47, 2**47], 0, 8)}, 8, "'a' of shape"),
        ({"a": entry([2**62], 0, 8)}, 8, "no whole number"),
        ({"a": entry([-1, -2], 0, 8)}, 8, "no whole number"),
        ({"a": entry([2.0], 0, 8)}, 8, "no whole number"),
        ({"a": entry([True, 2], 0, 8)}, 8, "no whole number"),
        ({"a": entry(["2"], 0, 8)}, 8, "no whole number"),
        ({"a": entry([2], 0, 8, "F99")}, 8, "F99"),
        ({"a": entry([1] * 100, 0, 4)}, 4, "100 dimensions"),
        ({"a": {"shape": [1]}}, 4, "has no header that can be read"),
        ({"a": 7}, 4, "has no header that can be read"),
        ({"a": entry([2], 0, 8)}, 4, "was cut short: its header describes 8 bytes of tensors, and 4 follow"),
        ({"a": entry([2], 0, 8)}, 12, "is no safetensors file: its header describes 8 bytes"),
        ({"x" * 1001: entry([2], 0, 8)}, 8, "a key of 1,001 letters"),
    ],
)  # fmt: skip
def test_a_header_that_no_file_can_have_is_refused(tensors, tail, words):
    with pytest.raises(ValueError, match=words):
        parsed_header(*header_of(tensors, tail))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "header is too large"),
        (struct.pack("<Q", 99 * 2**20) + b"{}" * 50, "header is too large"),
        (struct.pack("<Q", 5000) + b"{}" * 50, "was cut short: it has 108 bytes, and its header alone 5,008"),
        (struct.pack("<Q", 0) + b"x" * 50, "header is too large .0 bytes"),
        (b"abc", "has only 3 bytes"),
        (b"\0" * 5000, "only zero bytes where it should begin"),
        (b"", "is empty"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "nested more than 32 deep"),
        (struct.pack("<Q", 2) + b"[]", "no header that can be read"),
    ],
)
def test_weights_whose_header_lies_are_refused_before_they_are_fetched(hub, files, weights, words):
    refused(hub, {**files, "model.safetensors": weights}, words, DownloadError)


def test_a_header_longer_than_the_first_request_is_read_to_its_end(hub, files):
    state = {key: value.contiguous() for key, value in build(TINY["vit"]).state_dict().items()}
    long = save(state, metadata={f"note {i}": "x" * 900 for i in range(300)})
    hub.add_files("alice/tiny", {**files, "model.safetensors": long})

    assert preflight("alice/tiny", token=False).parameters == sum(value.numel() for value in state.values())


def test_weights_in_hundreds_of_files_are_refused_at_a_glance(hub, files):
    shards = {f"model-{i:05}-of-00300.safetensors": b"x" for i in range(300)}
    refused(
        hub,
        {name: data for name, data in files.items() if "safetensors" not in name} | shards,
        "in 300 files; at most 64",
    )
    assert not [seen for seen in hub.requests if "safetensors" in seen.path]


# D2: counts


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_labels": 10**9, "id2label": None}, "network of more than .*num_labels is 1000000000"),
        (
            {"num_labels": 90_000, "id2label": None},
            "has 90,000 classes .num_labels., but none of its tensors",
        ),
        (
            {"id2label": {str(i): f"c{i}" for i in range(2_000)}},
            "has 2,000 classes .id2label., but none of",
        ),
        ({"num_hidden_layers": 10**9}, "network of more than .*num_hidden_layers is 1000000000"),
        ({"image_size": [64, 10**12]}, "1000000000000"),
        ({"num_labels": 1e30, "id2label": None}, "network of more than"),
        ({"num_hidden_layers": 1_000_000}, "describes a network of more than"),
        ({"patch_size": 1, "image_size": 2048}, "describes a network of more than|asks for .* MB at once|do not fit"),
    ],
)
def test_counts_that_no_stored_tensor_has_are_refused_before_a_config_is_made(hub, files, settings, words):
    hub.add_files("alice/tiny", changed(files, **settings))

    with pytest.raises(UnsupportedModelError, match=words):
        load_classifier("alice/tiny", token=False)


def test_counts_of_zero_sized_tensors_count_for_nothing():
    header = Header({"a": (10**9, 0), "b": (4, 3)})
    with pytest.raises(UnsupportedModelError, match="the largest has 4"):
        refuse_counts("alice/tiny", {"num_labels": 70}, [header], 100)
    refuse_counts("alice/tiny", {"num_labels": 4, "hidden": 3, "id2label": {"0": 10**9}}, [header], 100)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(10**9),
        lambda: torch.arange(10**9),
        lambda: torch.zeros(30_000, 1) - torch.zeros(1, 30_000),
        lambda: torch.linspace(0, 1, 10**9),
        lambda: torch.zeros(3).repeat(10**9),
        lambda: torch.stack(torch.meshgrid(torch.arange(9000), torch.arange(9000), indexing="ij")),
    ],
)
def test_no_tensor_far_larger_than_the_weights_is_made_while_a_network_is_built(make):
    with pytest.raises(UnsupportedModelError, match=r"asks for [\d,]+ MB at once"), Allowance("alice/tiny", 1000):
        make()


def test_what_a_network_needs_to_be_built_is_allowed():
    with Allowance("alice/tiny", 1000):
        assert torch.arange(10**6).sum() == 10**6 * (10**6 - 1) // 2
        assert torch.zeros(10)[None].expand(10**9, 10).shape == (10**9, 10)  # takes no memory
        assert torch.nn.Linear(1000, 1000)(torch.zeros(1000)).shape == (1000,)


def test_equal_labels_are_told_apart_with_one_look_at_each():
    class Counted(str):
        __slots__ = ()
        compared = 0

        def __eq__(self, other):
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    labels = [Counted("crane") for _ in range(3_000)]
    assert label_choices(labels)[:2] == ["crane #0", "crane #1"]
    assert Counted.compared < 10 * len(labels)
    assert label_choices(["a", "b", "a"]) == ["a #0", "b", "a #2"]


# D7: numbers of preprocessing, and long values


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_std": [0, 1, 1]}, r"image_std = \[0, 1, 1\], which has to be .* above zero"),
        ({"image_std": 0}, "image_std = 0"),
        ({"image_std": [-1, 1, 1]}, "above zero"),
        ({"image_std": [1e-30, 1, 1]}, "above zero"),
        ({"image_std": "0.5"}, "image_std = 0.5, which has to be one number"),
        ({"image_mean": [0.5, 0.5, 0.5, 0.5, 0.5]}, "one for each colour"),
        ({"image_mean": [[0.5]]}, "one for each colour"),
        ({"image_mean": {"r": 1}}, "one for each colour"),
        ({"image_mean": 1e300}, "image_mean = 1e"),
        ({"rescale_factor": 1e308}, "rescale_factor = 1e.308, which has to be a positive number such as 1/255"),
        ({"rescale_factor": 0}, "rescale_factor = 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
        ({"rescale_factor": -1}, "rescale_factor"),
        ({"size": -5}, "size = -5, which has to be positive"),
        ({"size": {"height": 0, "width": 64}}, "height = 0"),
        ({"size": {"shortest_edge": "big"}}, "shortest_edge = big"),
        ({"crop_size": [64, -1]}, "crop_size"),
        ({"crop_pct": -0.5}, "crop_pct"),
        ({"image_std": "9" * 200_000}, r"image_std = 9+\.\.\., which"),
    ],
)  # fmt: skip
def test_numbers_that_no_pixels_can_be_computed_with_are_refused(hub, files, settings, words):
    refused(hub, changed(files, PROCESSOR, **settings), words, UnsupportedModelError)


def test_the_same_holds_for_timm_and_torchvision(hub, files):
    cfg = {"input_size": [3, 64, 64], "std": [0, 0, 0]}
    timm = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": cfg}
    refused(hub, {**files, "config.json": json.dumps(timm).encode()}, r"std = \[0, 0, 0\]", UnsupportedModelError)
    vision = {"architecture": "torchvision.models.resnet18", "num_classes": 3, "mean": [0, "x", 0]}
    refused(hub, {**files, "config.json": json.dumps(vision).encode()}, "mean = ", UnsupportedModelError)


def test_usual_numbers_of_preprocessing_are_left_alone():
    for settings in (
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255},
        {"image_mean": 0.5, "image_std": 0.5, "size": {"shortest_edge": 224}, "crop_size": 224, "crop_pct": 0.875},
        {"mean": [0, 0, 0], "std": [1, 1, 1], "input_size": [3, 224, 224], "pool_size": [7, 7], "crop_pct": 1.0},
        {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395], "rescale_factor": 1.0, "size": None},
        {"do_resize": True, "resample": 3, "size_divisor": 32, "input_size": None},
    ):
        assert faulty_numbers(settings) == ""


def test_a_transform_whose_pixels_are_no_numbers_is_refused():
    from xaihub import Classifier

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    for level in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="Look at its mean, deviation and rescaling"):
            Classifier.from_module(network, labels="ab", transform=lambda _image, at=level: torch.full((3, 2, 2), at))


def test_long_values_are_shortened_wherever_they_are_repeated(caplog):
    assert shorten("x" * 200_000) == "x" * 117 + "..."
    assert shorten([1, 2]) == "[1, 2]"
    assert len(str(XaihubError("y" * 200_000))) == 4_000
    assert nearest_name("z" * 200_000, ["zebra"]) == ""
    try:
        raise ValueError("v" * 200_000 + "\nsecond line")  # noqa: TRY301
    except ValueError:
        log_failure(logging.getLogger("xaihub.test"), "%s failed for %s", "Explain", "m" * 200_000)
    assert "Explain failed for mmm" in caplog.text
    assert "second line" in caplog.text
    assert len(caplog.text) < 5_000


@pytest.mark.parametrize(
    "settings",
    [
        {"architectures": ["A" * 200_000]},
        {"model_type": "T" * 200_000, "architectures": None},
        {"architecture": "Z" * 200_000, "model_type": None},
    ],
)
def test_a_refusal_repeats_no_more_than_the_beginning_of_a_long_name(hub, files, settings):
    refused(hub, changed(files, **settings), r"\.\.\.", UnsupportedModelError)


def test_damage_is_told_by_the_first_bytes():
    assert damage(b"{}", 2) == ""
    assert "pointer" in damage(b"version https://git-lfs.github.com/spec/v1\n", 130)
    assert damage(b"version https://git-lfs.github.com/spec/v1\n", 5_000) == ""  # a text about it
    assert issubclass(DamagedFileError, DownloadError)
