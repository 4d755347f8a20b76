"""Coverage does not change for the worse: every type of transformers, a seeded sample of torchvision and timm."""

import random
from dataclasses import replace
from functools import cache

import pytest

from benchmarks.coverage import transformers_zoo
from benchmarks.coverage.measuring import Row, is_right, measure
from benchmarks.coverage.table import PAGE, body, merged, read
from benchmarks.coverage.zoo import Member, timm_member, torchvision_member, transformers_members

MOST_MILLIONS = 6.0  # parameters of a network that is sampled
SAMPLES = {"torchvision": 3, "timm": 7}
AGAIN = "If that is for the better, regenerate docs/COVERAGE.md: python -m benchmarks.coverage"

ROWS = read()
MEMBERS = transformers_members()


@cache
def measured(member: Member) -> Row:
    return measure(member)


def recorded(member: Member) -> Row:
    found = [
        row for row in ROWS if (row.library, row.family, row.model) == (member.library, member.family, member.model)
    ]
    assert found, f"{member.model} has no row in docs/coverage.csv. {AGAIN}"
    return found[0]


def worse(now: Row, before: Row) -> str:
    """What changed for the worse, or ""; a refusal that ends is looked at by people first."""
    if is_right(before) and not is_right(now):
        return f"it was right at {before.layer} and is not right at {now.layer}"
    if (before.verdict == "refused") != (now.verdict == "refused"):
        return f"it was {before.verdict} and is {now.verdict}"
    reading = now.layout, now.prefix
    return "" if reading == (before.layout, before.prefix) else f"its maps are now read as {reading}"


def sampled(library: str) -> list[Row]:
    small = [row for row in ROWS if row.library == library and is_right(row) and float(row.millions) <= MOST_MILLIONS]
    return random.Random(7).sample(small, min(SAMPLES[library], len(small)))


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.model)
def test_every_type_of_transformers_is_explained_as_well_as_before(member):
    row = measured(member)
    before = recorded(member)
    assert not worse(row, before), AGAIN
    if row.verdict != "refused":
        assert is_right(row), row


@pytest.mark.parametrize("before", [*sampled("torchvision"), *sampled("timm")], ids=lambda row: row.model)
def test_a_sample_of_torchvision_and_timm_is_explained_as_well_as_before(before):
    member = (
        torchvision_member(before.model)
        if before.library == "torchvision"
        else timm_member(before.family, before.model)
    )
    row = measure(member, wide=False)
    assert not worse(row, before), AGAIN


def test_the_zoo_has_every_type_that_transformers_classifies_with():
    assert set(transformers_zoo.TINY) == {kind for kind, _ in transformers_zoo.heads()}
    assert {(row.family, row.model) for row in ROWS if row.library == "transformers"} == set(transformers_zoo.heads())


def test_the_table_has_every_classifier_of_torchvision_and_every_module_of_timm():
    import timm
    from torchvision import models

    assert {row.model for row in ROWS if row.library == "torchvision"} == set(models.list_models(module=models))
    assert {row.family for row in ROWS if row.library == "timm"} == set(timm.list_modules())


def test_what_was_promised_holds():
    """All types with a map, all of torchvision's classifiers, 95 of timm's 98 modules."""
    shown = [row for row in ROWS if row.library == "transformers" and row.verdict != "refused"]
    assert all(map(is_right, shown))
    assert all(is_right(row) for row in ROWS if row.library == "torchvision")
    assert sum(is_right(row) for row in ROWS if row.library == "timm") >= 95


REFUSED = {
    "dinat": "needs the package natten",
    "imagegpt": "reads a picture as a sequence of colours' numbers",
    "shieldgemma2": "vision-language model that answers with words",
    "perceiver": "No layer of this network keeps a map of the picture",
}


@pytest.mark.parametrize("row", [row for row in ROWS if row.verdict == "refused"], ids=lambda row: row.model)
def test_what_is_refused_has_a_reason_that_is_known_to_be_true(row):
    assert row.library == "transformers"
    assert REFUSED[row.family] in row.note


KNOWN = {  # TARGET_LAYER.md: layout, prefix tokens, and what the layer's name ends in
    "resnet": ("NCHW", "0", "stages.3.layers.1"),
    "regnet": ("NCHW", "0", "stages.3.layers.1"),
    "convnext": ("NCHW", "0", "stages.3.layers.1"),
    "convnextv2": ("NCHW", "0", "stages.3.layers.1"),
    "bit": ("NCHW", "0", "bit.norm"),
    "efficientnet": ("NCHW", "0", "efficientnet.encoder"),
    "mobilenet_v2": ("NCHW", "0", "conv_1x1"),
    "poolformer": ("NCHW", "0", "norm"),
    "swiftformer": ("NCHW", "0", "norm"),
    "textnet": ("NCHW", "0", "stages.3.stage.0"),
    "hgnet_v2": ("NCHW", "0", "stages.3.blocks.0.aggregation.1"),
    "pp_lcnet": ("NCHW", "0", "blocks.4.layers.1.pointwise_convolution"),
    "swin": ("NLC", "0", "swin.layernorm"),
    "swinv2": ("NLC", "0", "swinv2.layernorm"),
    "focalnet": ("NLC", "0", "focalnet.layernorm"),
    "hiera": ("NLC", "0", "stages.3.layers.1"),
    "levit": ("NLC", "0", "stages.2.layers.3"),
    "pvt": ("NLC", "1", "block.3.0"),
    "cvt": ("NLC", "1", "stages.2.layers.1.output"),
    "vit": ("NLC", "1", "vit.layers.1"),
    "vit_msn": ("NLC", "1", "vit.layers.1"),
    "deit": ("NLC", "2", "deit.layers.1"),
    "beit": ("NLC", "1", "layers.2"),
    "data2vec-vision": ("NLC", "1", "layer.2"),
    "clip": ("NLC", "1", "encoder.layers.2"),
    "metaclip_2": ("NLC", "1", "encoder.layers.2"),
    "siglip": ("NLC", "0", "post_layernorm"),
    "siglip2": ("NLC", "0", "post_layernorm"),
    "ijepa": ("NLC", "0", "layernorm"),
    "dinov2": ("NLC", "1", "layernorm"),
    "dinov2_with_registers": ("NLC", "5", "layernorm"),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_the_known_answers_of_transformers_are_given(kind):
    for member in [member for member in MEMBERS if member.family == kind]:
        row = measured(member)
        assert (row.layout, row.prefix, row.verdict) == (*KNOWN[kind][:2], "bottleneck")
        assert row.layer.endswith(KNOWN[kind][2])


@pytest.mark.parametrize(
    ("library", "model", "layer", "verdict"),
    [
        ("torchvision", "squeezenet1_1", "features.12", "bottleneck"),
        ("torchvision", "inception_v3", "Mixed_7c", "bottleneck"),
        ("torchvision", "vit_b_16", "encoder.layers.encoder_layer_10", "bottleneck"),
        ("timm", "coat_tiny", "cpe2 + cpe3 + cpe4", "fused"),
        ("timm", "crossvit_tiny_240", "blocks.2.blocks.0.0 + blocks.2.blocks.1.3", "fused"),
        ("timm", "tnt_s_legacy_patch16_224", "blocks.10[1] + blocks.11.proj", "fused"),
        ("timm", "xcit_nano_12_p8_224", "cls_attn_blocks.0", "bottleneck"),
    ],
)
def test_the_known_answers_of_torchvision_and_timm_are_in_the_table(library, model, layer, verdict):
    row = next(row for row in ROWS if (row.library, row.model) == (library, model))
    assert (row.layer, row.verdict) == (layer, verdict)


def test_the_page_shows_the_rows_that_are_compared():
    assert PAGE.read_text("utf-8").endswith(body(ROWS))


def test_a_change_for_the_worse_is_told_from_one_for_the_better():
    good = Row(
        "timm",
        "resnet",
        "r",
        "bottleneck",
        layer="a",
        layout="NCHW",
        grid="5 x 5",
        prefix="0",
        upright="yes",
        wide="yes",
    )
    assert not worse(replace(good, layer="b"), good)
    assert not worse(good, replace(good, verdict="partial"))
    assert "is not right" in worse(replace(good, verdict="partial"), good)
    assert "is not right" in worse(replace(good, upright="no"), good)
    assert "is not right" in worse(replace(good, wide="no"), good)
    assert "was refused" in worse(good, replace(good, verdict="refused"))
    assert "now read as ('NHWC'" in worse(replace(good, layout="NHWC"), good)
    assert merged([good, replace(good, model="s")], [replace(good, layer="b")])[0].layer == "b"
