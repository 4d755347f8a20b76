"""What is saved is what is shown: each kind of evidence as an image, and the trust card beside the map."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from toy_networks import ColourCounter, classifier_of

from xaihub import (
    Query,
    build_references,
    explain,
    explain_query,
    fit_prototypes,
    load_classifier,
    load_references,
    trust,
)
from xaihub.__main__ import main
from xaihub.datasets import from_pairs
from xaihub.images import colourise
from xaihub.progress import silent
from xaihub.synthetic import paper_pets
from xaihub.ui.api import overlay, record
from xaihub.ui.desk import Desk, Question
from xaihub.ui.downloads import evidence_zip
from xaihub.ui.settings import Settings

MODEL = "xaihub/paper-pets"
HOTTEST = (253, 231, 37)  # the yellow end of viridis


@pytest.fixture(scope="module")
def starter():
    return load_classifier(MODEL)


@pytest.fixture(scope="module")
def pet():
    return next(paper_pets(1, seed=61)).image


def pixels(source) -> np.ndarray:
    return np.asarray(
        Image.open(source).convert("RGB") if not isinstance(source, Image.Image) else source.convert("RGB")
    )


def in_boxes(boxes, size, reach=6) -> np.ndarray:
    """(H, W), where boxes and their numbers may have been drawn."""
    width, height = size
    mask = np.zeros((height, width), bool)
    for left, upper, right, lower in boxes:
        rows, columns = (
            slice(max(0, int(upper) - reach), int(lower) + reach),
            slice(max(0, int(left) - reach), int(right) + reach),
        )
        mask[rows, columns] = True
    return mask


def saved(explanation, folder):
    told = json.loads((explanation.save(folder) / "explanation.json").read_text("utf-8"))
    return told, {name: [row["files"] for row in rows] for name, rows in told["evidence"].items()}


def expect_shown(folder, files, evidence):
    """The saved image is the evidence's with its heatmap over it, six tenths of each pixel; boxes lie over that."""
    plain, shown = pixels(folder / files["image"]), pixels(folder / files["overlay"])
    assert np.array_equal(plain, pixels(evidence.image))
    expected = plain.astype(float)
    if evidence.heatmap is not None:
        expected = 0.4 * plain + 0.6 * colourise(evidence.heatmap)
    outside = ~in_boxes(evidence.boxes, evidence.image.size)
    np.testing.assert_allclose(shown[outside], expected[outside], atol=1)
    for left, upper, *_ in evidence.boxes:
        y, x = min(int(upper), shown.shape[0] - 1), min(int(left), shown.shape[1] - 1)
        assert (abs(shown[y, x].astype(int) - expected[y, x]) > 10).any(), "its corner is drawn"


def test_the_saved_map_lies_over_the_image_and_the_image_alone_beside_it(tmp_path):
    image = Image.new("RGB", (32, 32), (0, 0, 10))
    image.paste((200, 0, 0), (20, 4, 28, 12))
    found = explain(classifier_of(ColourCounter(0.1)), image, "gradcam")
    _, files = saved(found, tmp_path / "why")
    shown, plain = pixels(tmp_path / "why" / "gradcam.png"), pixels(tmp_path / "why" / "image.png")
    np.testing.assert_allclose(shown[8, 24], 0.4 * np.array((200, 0, 0)) + 0.6 * np.array(HOTTEST), atol=1)
    assert tuple(plain[8, 24]) == (200, 0, 0)
    assert np.array_equal(pixels(tmp_path / "why" / files["gradcam"][0]["image"]), plain)
    assert np.array_equal(np.load(tmp_path / "why" / "gradcam-raw.npy"), found["gradcam"][0].raw)


def test_every_kind_of_example_is_saved_as_it_is_shown(starter, pet, tmp_path):
    methods = ["gradcam", "twins", "counterfactuals", "swap"]
    found = explain(starter, pet, methods, references=load_references(MODEL))
    _, files = saved(found, tmp_path / "why")
    assert found["twins"][0].heatmap is not None
    assert found["swap"][0].boxes
    assert any(one.boxes for one in found["twins"])
    for name in methods:
        for row, one in zip(files[name], found[name], strict=True):
            expect_shown(tmp_path / "why", row, one)
            assert ("query" in row) == bool(one.matches)
            if one.matches:
                query, outside = pixels(tmp_path / "why" / row["query"]), ~in_boxes(one.matches, found.image.size)
                assert np.array_equal(query[outside], pixels(found.image)[outside])
                assert not np.array_equal(query, pixels(found.image))


def test_prototypes_are_saved_with_the_patch_and_the_place_that_looks_like_it(tmp_path):
    classifier = classifier_of(ColourCounter(0.1))
    rows = []
    for i in range(12):
        image = Image.new("RGB", (32, 32), (10, 10, 10))
        image.paste(((220, 0, 0), (0, 220, 0), (0, 0, 220))[i % 3], (i, 4, i + 10, 14))
        rows.append((str(i), ("red", "green", "blue")[i % 3], image))
    patchwork = fit_prototypes(classifier, build_references(classifier, from_pairs("spots", rows), fidelity=False))
    found = explain(patchwork, rows[0][2], "prototypes")
    _, files = saved(found, tmp_path / "why")
    assert found["prototypes"][0].boxes
    for row, one in zip(files["prototypes"], found["prototypes"], strict=True):
        expect_shown(tmp_path / "why", row, one)
        assert "query" in row


def test_a_method_named_like_another_ones_file_overwrites_nothing(starter, pet, tmp_path):
    found = explain(starter, pet, ["gradcam"])
    evidence = found["gradcam"]
    names = ("gradcam-image", "gradcam", "gradcam-query")
    _, files = saved(replace(found, evidence=dict.fromkeys(names, evidence)), tmp_path / "why")
    all_files = [file for rows in files.values() for row in rows for file in row.values()]
    assert len(set(all_files)) == len(all_files)
    for rows in files.values():
        expect_shown(tmp_path / "why", rows[0], evidence[0])


# --- the trust card ---------------------------------------------------------------------------------------------------


def test_the_command_line_prints_and_saves_how_far_the_map_can_be_relied_on(starter, pet, tmp_path, capsys):
    pet.save(tmp_path / "pet.png")
    arguments = ["explain", MODEL, str(tmp_path / "pet.png"), "--method", "gradcam", "--method", "eigencam"]
    assert main([*arguments, "--to", str(tmp_path / "why")]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    told = json.loads((tmp_path / "why" / "explanation.json").read_text("utf-8"))["trust"]
    assert list(told) == ["gradcam", "eigencam"]
    query = Query(starter, pet)
    for name, card in told.items():
        expected = trust(query, name)
        assert (card["verdict"], card["sentence"]) == (expected.verdict, expected.sentence)
        assert [check["outcome"] for check in card["checks"]] == [check.outcome for check in expected.checks]
        assert f"{name}: {expected.sentence}" in lines
        assert expected.text in (tmp_path / "why" / "trust.txt").read_text("utf-8")
    assert lines[-1] == str(tmp_path / "why")


def test_the_command_line_can_leave_the_check_out_and_speaks_json(pet, tmp_path, capsys):
    pet.save(tmp_path / "pet.png")
    arguments = ["explain", MODEL, str(tmp_path / "pet.png"), "--no-trust", "--json", "--to", str(tmp_path / "why")]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "why" / "explanation.json").read_text("utf-8"))
    assert told["trust"] == {}
    assert not (tmp_path / "why" / "trust.txt").exists()


@pytest.fixture(scope="module")
def answered(pet):
    """The desk, and an answer whose map was not checked yet."""
    stream = io.BytesIO()
    pet.save(stream, "PNG")
    desk = Desk(Settings())
    return desk, list(desk.answer(Question(stream.getvalue(), MODEL), silent))[-1]


def test_the_download_holds_the_map_and_its_trust_card(answered, tmp_path):
    desk, asked = answered
    with zipfile.ZipFile(evidence_zip(desk.trusted(asked), str(tmp_path))) as archive:
        told = json.loads(archive.read("explanation/explanation.json"))
        words = archive.read("explanation/trust.txt").decode()
        shown = pixels(io.BytesIO(archive.read("explanation/gradcam.png")))
    card = trust(asked.query, "gradcam")
    assert told["trust"]["gradcam"]["verdict"] == card.verdict
    assert words.strip() == card.text
    assert np.array_equal(shown, pixels(asked.explanation["gradcam"][0].overlay))
    assert not np.array_equal(shown, pixels(asked.explanation.image))


def test_a_download_before_the_check_says_that_there_was_none(answered, tmp_path):
    with zipfile.ZipFile(evidence_zip(answered[1], str(tmp_path))) as archive:
        assert "was not checked" in archive.read("explanation/trust.txt").decode()
        assert json.loads(archive.read("explanation/explanation.json"))["trust"]["gradcam"]["verdict"] is None


def test_programs_are_told_whether_to_rely_on_the_map(answered):
    desk, asked = answered
    unchecked = record(asked)["trust"]
    assert unchecked["verdict"] is None
    assert "was not checked: it would take too long here" in unchecked["sentence"]
    told = json.loads(json.dumps(record(desk.trusted(asked))))
    card = trust(asked.query, "gradcam")
    assert (told["trust"]["verdict"], told["trust"]["sentence"]) == (card.verdict, card.sentence)
    assert [check["name"] for check in told["trust"]["checks"]] == [check.name for check in card.checks]
    assert list(told)[:6] == ["prediction", "target", "evidence", "notes", "trouble", "provenance"], "as before"
    assert np.array_equal(pixels(overlay(asked)), pixels(asked.explanation["gradcam"][0].overlay))


def test_an_explanation_keeps_the_card_of_a_map_that_is_not_to_be_relied_on(starter, tmp_path):
    flat = Query(starter, Image.new("RGB", (64, 64), (120, 120, 120)))
    card = trust(flat, "gradcam")
    assert card.verdict == "do not rely"
    found = explain_query(flat, ["gradcam"]).with_trust(card)
    told, _ = saved(found, tmp_path / "why")
    assert told["trust"]["gradcam"]["verdict"] == "do not rely"
    assert "Do not rely on this map" in (tmp_path / "why" / "trust.txt").read_text("utf-8")
    assert "Do not rely on this map" in found._repr_html_()
