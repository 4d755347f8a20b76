"""Embedders from the Hub: vectors are transformers' own, words and pictures share a space, refusals are sentences."""

import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from tiny_embedders import backbone_files, classifier_files, clip_files, plain, siglip2_files, siglip_files, unit
from tiny_models import changed, files_of, picture

from xaihub.curated import CURATED_EMBEDDERS
from xaihub.embedders import EMBEDDERS
from xaihub.errors import (
    AccessDeniedError,
    ReferencesError,
    ReferencesMismatchError,
    RepoNotFoundError,
    TooLargeError,
    UnknownNameError,
    UnsupportedModelError,
    XaihubError,
)
from xaihub.hub_embedders import load_embedder, plan_embedder
from xaihub.planning import Limits
from xaihub.references import Neighbour
from xaihub.word_search import search_words

PICTURES = [picture(seed=seed) for seed in range(3)]
BATCH = SimpleNamespace(pictures=PICTURES)
PROCESSOR = "preprocessor_config.json"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return folder, clip_files(folder)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip")
    return folder, siglip_files(folder)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    return folder, classifier_files("vit", folder)


def put(hub, files, **options):
    hub.add_files("alice/tiny", files, **options)
    return hub.repo("alice/tiny").head.sha


def test_clip_sees_as_transformers_does_and_says_who_it_is(hub, clip):
    folder, files = clip
    sha = put(hub, files)
    embedder = load_embedder("alice/tiny", token=False, local=False)
    theirs, whole = plain(folder, "CLIPModel", PICTURES)

    torch.testing.assert_close(embedder.embed(BATCH), theirs.pooler_output)  # the projected ones
    assert (embedder.name, embedder.revision, embedder.kind) == ("alice/tiny", sha, "looks")
    assert (embedder.leaks, embedder.weighted, embedder.weigh(BATCH, [0, 1, 2])) == (False, False, None)
    assert embedder.alike == "they look alike to CLIP (alice/tiny), whatever the classifier thinks"
    held = sum(value.numel() for value in embedder.tower.module.parameters())
    assert held == embedder.tower.parameters < sum(value.numel() for value in whole.parameters())
    assert not embedder.reads_words


def test_what_is_fetched_is_what_is_needed_and_the_branch_is_resolved_first(hub, clip):
    sha = put(hub, clip[1])
    seeing, reading = (plan_embedder("alice/tiny@main", token=False, words=words) for words in (False, True))

    assert seeing.revision == reading.revision == sha
    assert set(seeing.files) == {"config.json", PROCESSOR, "model.safetensors"}
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(reading.files)
    with pytest.raises(RepoNotFoundError, match="nowhere"):
        load_embedder("alice/tiny@nowhere", token=False)


@pytest.mark.parametrize("words", [False, True])
def test_siglip_sees_the_same_with_and_without_its_words(hub, siglip, words):
    folder, _ = siglip
    embedder = load_embedder(str(folder), words=words)

    assert not hub.requests  # a folder is all there is

    torch.testing.assert_close(embedder.embed(BATCH), plain(folder, "SiglipModel", PICTURES)[0].pooler_output)
    assert "SigLIP" in embedder.alike
    assert embedder.reads_words is words


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_words_and_pictures_share_a_space_and_words_are_two_captions(kind, request):
    folder, _ = request.getfixturevalue(kind)
    embedder = load_embedder(str(folder), words=True)
    words = embedder.embed_words(["a  Black cat ", "the dog in the grass"])
    _, module = plain(folder, "CLIPModel" if kind == "clip" else "SiglipModel", PICTURES)

    def theirs(text):
        from transformers import AutoTokenizer

        filled = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {}
        ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", **filled)["input_ids"]
        with torch.no_grad():
            return unit(module.get_text_features(input_ids=ids).pooler_output)

    expected = [unit(theirs(text) + theirs(f"a photo of {text}")) for text in ("a black cat", "the dog in the grass")]
    torch.testing.assert_close(words, torch.cat(expected))  # filling up the shorter one changes nothing
    assert words.shape == (2, embedder.embed(BATCH).shape[1])
    torch.testing.assert_close(embedder.embed_words("a black cat"), words[:1])


def test_a_half_that_reads_must_be_whole(siglip, tmp_path):
    tensors = load(siglip[1]["model.safetensors"])
    del tensors["text_model.head.weight"]
    for name, data in {**siglip[1], "model.safetensors": save(tensors)}.items():
        (tmp_path / name).write_bytes(data)

    with pytest.raises(UnsupportedModelError, match=r"1 are missing or of another shape, such as text_model\.head"):
        load_embedder(str(tmp_path), words=True)
    assert load_embedder(str(tmp_path)).embed(BATCH).shape == (3, 32)  # which pictures do not need


def test_words_that_cannot_be_read_are_refused_in_words(clip):
    embedder = load_embedder(str(clip[0]), words=True)

    with pytest.raises(XaihubError, match="No words were given"):
        embedder.embed_words(["cat", " \n"])
    with pytest.raises(XaihubError, match=r"too long to search with \(25 tokens; .* reads 16 tokens\)"):
        embedder.embed_words(["cat " * 20])
    with pytest.raises(XaihubError, match=r"too long to search with \(39,999 characters"):
        embedder.embed_words(["cat " * 10_000])
    with pytest.raises(TypeError, match="Load it with words=True"):
        load_embedder(str(clip[0])).embed_words(["cat"])


def test_siglip_2_at_a_pictures_own_proportions(tmp_path):
    siglip2_files(tmp_path)
    embedder = load_embedder(str(tmp_path))

    torch.testing.assert_close(embedder.embed(BATCH), plain(tmp_path, "Siglip2Model", PICTURES)[0].pooler_output)
    mixed = SimpleNamespace(pictures=[PICTURES[0], picture(60, 120)])
    torch.testing.assert_close(embedder.embed(mixed)[0], embedder.embed(BATCH)[0])


@pytest.mark.parametrize("name", ["dinov2 with registers", "resnet", "convnext"])
def test_networks_that_only_see_give_the_vector_that_they_pool_themselves(name, tmp_path):
    backbone_files(name, tmp_path)
    embedder = load_embedder(str(tmp_path))
    theirs, _ = plain(tmp_path, "AutoModel", PICTURES)

    torch.testing.assert_close(embedder.embed(BATCH), theirs.pooler_output.flatten(1))
    assert embedder.embed(BATCH).ndim == 2
    if name == "dinov2 with registers":  # the class token, not a register and not a mean
        torch.testing.assert_close(embedder.embed(BATCH), theirs.last_hidden_state[:, 0])


def test_mobilenet_without_its_head(tmp_path):
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification, ViTImageProcessor

    model = MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.25, num_labels=3)).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)  # at initialisation next to nothing comes through
    files_of(model, ViTImageProcessor(size={"height": 64, "width": 64}), folder=tmp_path)
    vectors = load_embedder(str(tmp_path)).embed(BATCH)

    theirs = plain(tmp_path, "MobileNetV2Model", PICTURES)[0].pooler_output
    assert vectors.std() > 0
    torch.testing.assert_close(vectors, theirs)


def test_a_classifiers_vit_has_no_pooler_so_the_class_token_is_taken(vit):
    folder, _ = vit
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(load_embedder(str(folder)).embed(BATCH))
    theirs, _ = plain(folder, "ViTModel", PICTURES, add_pooling_layer=False)

    assert torch.equal(*found)
    torch.testing.assert_close(found[0], theirs.last_hidden_state[:, 0])


def test_a_clip_fine_tuned_as_a_classifier_still_sees(tmp_path):
    classifier_files("clip", tmp_path)
    embedder = load_embedder(str(tmp_path))

    torch.testing.assert_close(embedder.embed(BATCH), plain(tmp_path, "CLIPVisionModel", PICTURES)[0].pooler_output)
    with pytest.raises(UnsupportedModelError, match="sees pictures but reads no words"):
        load_embedder(str(tmp_path), words=True)


def test_many_pictures_are_seen_as_one_by_one_and_by_two_threads_as_by_one(vit):
    embedder = load_embedder(str(vit[0]))
    many = [picture(seed=seed) for seed in range(35)]  # more than are computed at once
    one = torch.cat([embedder.embed(SimpleNamespace(pictures=[each])) for each in many])
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda pictures: embedder.embed(SimpleNamespace(pictures=pictures)), [many, many]))

    for vectors in both:
        torch.testing.assert_close(vectors, one)
        assert not vectors.requires_grad
        assert vectors.dtype == torch.float32


def test_the_classifiers_own_embedders_have_names_and_other_names_are_offered_them(tmp_path):
    assert load_embedder("contribution") is EMBEDDERS["contribution"]
    with pytest.raises(
        UnknownNameError, match=r"no embedder called 'contribtion'.*contribution.*facebook/dinov2-small"
    ):
        load_embedder("contribtion")
    with pytest.raises(RepoNotFoundError, match="is not the id of a repository"):
        load_embedder("../../etc", local=False)
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(RepoNotFoundError, match="If a folder was meant: there is none"):
        load_embedder(str(folder), local=False)


def test_refusals_say_what_is_there_and_what_would_work(hub, vit, clip):
    files = vit[1]
    weights, deeper = files["model.safetensors"], changed(files, num_hidden_layers=4)

    def refused(files, words=False):
        name = f"alice/tiny-{len(hub.repos)}"  # files that were left out must not be there from before
        hub.add_files(name, files)
        with pytest.raises(UnsupportedModelError) as caught:
            load_embedder(name, token=False, words=words)
        return str(caught.value)

    assert "is a model of type 'bert'" in refused(changed(files, model_type="bert"))
    assert "of no type that transformers knows" in refused(changed(files, model_type=None, architecture="resnet18"))
    assert "stranger's code is never run" in refused(changed(files, auto_map={"AutoModel": "code.Model"}))
    assert "asks for further files" in refused(changed(files, use_pretrained_backbone=True))
    assert "pixels a side (image_size)" in refused(changed(files, image_size=100_000))
    assert "reads no words" in refused(files, words=True)
    pickled = {name: data for name, data in files.items() if name != "model.safetensors"}
    assert "can run programs when opened" in refused({**pickled, "pytorch_model.bin": weights})
    assert "does not say how its pictures are prepared" in refused(
        {name: data for name, data in files.items() if name != PROCESSOR}
    )
    assert "pixels a side" in refused(changed(files, PROCESSOR, size={"height": 100_000, "width": 100_000}))
    nested = {"image_processor": {}, "size": {"height": 6000, "width": 6000}}  # which part is read depends on the file
    assert "pixels a side" in refused(changed(files, PROCESSOR, **nested))
    assert "of 16384 patches of 16 x 16 pixels; at most 4,096" in refused(
        changed(files, PROCESSOR, max_num_patches=16_384)
    )
    assert "of 256 patches of 512 x 512 pixels" in refused(changed(files, PROCESSOR, patch_size=512))
    assert "patches" in refused(changed(files, PROCESSOR, max_num_patches=10**30, patch_size=1e308))
    assert re.search(r"16 are missing or of another shape, such as .*layers?\.3\.", refused(deeper))
    assert re.search(r"of another shape, such as .*layers?\.0\.", refused(changed(files, intermediate_size=64)))
    assert "describes a network of more than" in refused(changed(files, num_hidden_layers=10**7))
    no_tokenizer = {name: data for name, data in clip[1].items() if not name.startswith("token")}
    assert "has no tokenizer" in refused(no_tokenizer, words=True)


def test_sizes_are_refused_before_anything_large_is_fetched(hub, vit, clip):
    put(hub, vit[1])
    with pytest.raises(TooLargeError, match="this host takes at most 0 MB"):
        load_embedder("alice/tiny", token=False, limits=Limits(size=100_000))
    with pytest.raises(TooLargeError, match="this host runs at most 0 M"):
        load_embedder("alice/tiny", token=False, limits=Limits(parameters=40_000))
    put(hub, clip[1])  # 48,048 see, some 2,000 read: what is counted is what runs on each picture
    assert load_embedder("alice/tiny", token=False, words=True, limits=Limits(parameters=48_048)).reads_words
    with pytest.raises(TooLargeError, match="this host runs at most 0 M"):
        load_embedder("alice/tiny", token=False, limits=Limits(parameters=48_047))


def test_what_is_not_open_to_a_visitor_stays_closed(hub, vit):
    hub.add_user("alice", token="hf_alice")
    put(hub, vit[1], gated="manual")
    with pytest.raises(AccessDeniedError, match="alice/tiny is gated"):
        load_embedder("alice/tiny", token=False)
    with pytest.raises(RepoNotFoundError, match="There is no model 'alice/none' on the Hub"):
        load_embedder("alice/none", token=False)
    assert load_embedder("alice/tiny", token="hf_alice").kind == "looks"


class Found:
    """What a search needs to know of references, one picture each of three."""

    def __init__(self, embedder, revision="same"):
        vectors = unit(embedder.embed(BATCH))
        revision = embedder.revision if revision == "same" else revision
        self.spaces = {embedder.name: SimpleNamespace(revision=revision)}
        self.vectors = vectors

    def nearest(self, vector, k, *, space, predicted):
        assert space in self.spaces
        similar = (self.vectors @ vector).numpy()
        return [Neighbour(int(row), float(similar[row])) for row in np.argsort(-similar)[:k]]


def test_references_are_searched_with_words_only_where_words_mean_something(clip, siglip):
    reader, seer = load_embedder(str(clip[0]), words=True), load_embedder(str(clip[0]))
    other = load_embedder(str(siglip[0]), words=True)
    found = search_words(Found(reader), reader, "a black cat", k=2)

    assert search_words(Found(seer), reader, "a black cat", k=2) == found  # embedded by the half that sees alone
    expected = unit(reader.embed(BATCH)) @ reader.embed_words(["a black cat"])[0]
    assert [each.row for each in found] == expected.argsort(descending=True)[:2].tolist()
    assert found[0].similarity == pytest.approx(expected.max().item(), abs=1e-6)
    with pytest.raises(ReferencesError, match="loaded for pictures only"):
        search_words(Found(seer), seer, "a black cat")
    with pytest.raises(ReferencesError, match=r"were not embedded by .*They have: "):
        search_words(Found(reader), other, "a black cat")
    with pytest.raises(ReferencesMismatchError, match="at revision abc"):
        search_words(Found(reader, revision="abc"), reader, "a black cat")


def test_the_embedders_offered_could_be_repositories():
    for name in CURATED_EMBEDDERS:
        owner, _, _ = name.partition("@")[0].partition("/")
        assert owner
        assert len(name) < 80
