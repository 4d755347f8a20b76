"""Two kinds of pictures become one dataset: treated alike, sorted out, split, and all of it written down."""

import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_datasets import class_folders, plain, push_rows, write

from xaihub import open_dataset
from xaihub.curation import Recipe, build_dataset, generated_source, real_source
from xaihub.errors import DatasetError
from xaihub.fairness import square
from xaihub.generation import GenerationSettings
from xaihub.images import perceptual_hash, pixel_digest

SHARES = {"train": 0.6, "test": 0.4}


def noise(seed: int, width: int = 80, height: int = 60, cells: int = 6) -> Image.Image:
    """Coarse noise: other pictures have other hashes, and survive JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 255, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def file(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def two_folders(tmp_path: Path, real: int = 5, generated: int = 5) -> tuple[Path, Path]:
    """Wide JPEGs on one side, square PNGs on the other: what the student project had."""
    photographs = {f"cat {i}.jpg": file(noise(i), "JPEG") for i in range(real)}
    made = {f"{i:03d}.png": file(noise(1000 + i, 64, 64)) for i in range(generated)}
    return write(tmp_path / "photos", photographs), write(tmp_path / "made", made)


def build(real: Path, generated: Path, folder: Path, **options) -> dict:
    origins = [real_source(str(real), "real"), generated_source(str(generated), "generated", GenerationSettings())]
    folder.mkdir(parents=True)
    return build_dataset(origins, folder, Recipe(**{"shares": SHARES, "size": 48, **options}))


def columns(folder: Path, split: str = "train") -> dict[str, list]:
    import pyarrow.parquet as pq

    tables = [pq.read_table(path).to_pydict() for path in sorted((folder / "data").glob(f"{split}-*"))]
    return {name: [value for table in tables for value in table[name]] for name in tables[0]}


# The whole


def test_both_classes_become_files_of_one_size_and_format_and_the_report_says_how(tmp_path):
    report = build(*two_folders(tmp_path), tmp_path / "out")

    assert report["splits"] == {"train": {"real": 3, "generated": 3}, "test": {"real": 2, "generated": 2}}
    pictures = [Image.open(io.BytesIO(cell["bytes"])) for cell in columns(tmp_path / "out")["image"]]
    assert {(one.format, one.size, one.mode) for one in pictures} == {("JPEG", (48, 48), "RGB")}
    assert all(one.layer[0][1:3] == (1, 1) for one in pictures)  # 4:4:4
    assert not any(one.getexif() for one in pictures)
    assert {name: report["shortcuts"][name] for name in ("format", "width", "height", "aspect")} == dict.fromkeys(
        ("format", "width", "height", "aspect"), 0.5
    )
    assert json.loads((tmp_path / "out" / "dataset.json").read_text("utf-8")) == {**report, "command": ""}
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        "dataset.json", "test-00000-of-00001.parquet", "train-00000-of-00001.parquet",
    ]  # fmt: skip


def test_each_row_says_where_its_picture_is_from(tmp_path):
    real, generated = two_folders(tmp_path)
    build(real, generated, tmp_path / "out", shares={"train": 1.0})

    rows = columns(tmp_path / "out")

    place = rows["source_key"].index("cat 3.jpg")
    stored = Image.open(io.BytesIO(rows["image"][place]["bytes"]))
    row = {name: rows[name][place] for name in rows if name != "image"}
    assert row == {
        "label": 0, "source": "photos", "source_key": "cat 3.jpg", "generator": "", "generator_revision": "",
        "original_width": 80, "original_height": 60, "original_format": "JPEG",
        "original_sha256": hashlib.sha256((real / "cat 3.jpg").read_bytes()).hexdigest(),
        "pixels_sha256": pixel_digest(stored), "perceptual_hash": f"{perceptual_hash(stored):016x}",
    }  # fmt: skip
    assert Counter(rows["label"]) == {0: 5, 1: 5}
    assert rows["label"] != sorted(rows["label"])  # mixed: a reader of the beginning sees both


def test_the_same_sources_give_the_same_bytes_and_another_seed_another_split(tmp_path):
    folders = two_folders(tmp_path)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(*folders, tmp_path / name, seed=seed)

    def content(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")}

    assert content("a") == content("b")
    assert columns(tmp_path / "a")["source_key"] != columns(tmp_path / "c")["source_key"]


def test_our_own_reader_opens_what_was_built(tmp_path):
    build(*two_folders(tmp_path), tmp_path / "out")

    pictures = open_dataset(tmp_path / "out", split="test")

    assert pictures.label_names == ("real", "generated")
    assert Counter(row.label for row in pictures) == {"real": 2, "generated": 2}


def test_the_originals_are_kept_as_they_are_when_asked_and_what_they_give_away_is_said(tmp_path):
    real, generated = two_folders(tmp_path)
    report = build(real, generated, tmp_path / "out", fair=False, shares={"train": 1.0})

    rows = columns(tmp_path / "out")
    originals = {path.name: path.read_bytes() for folder in (real, generated) for path in folder.iterdir()}
    assert {key: cell["bytes"] for key, cell in zip(rows["source_key"], rows["image"], strict=True)} == originals
    assert report["shortcuts"]["format"] == report["shortcuts"]["width"] == report["shortcuts"]["aspect"] == 1.0
    assert (
        "The format of the file alone tells real from generated for 100% of the pictures (chance is 50%): real has JPEG"
        " (5), generated has PNG (5)." in report["leaks"]
    )
    assert "The width alone tells real from generated for 100%" in " ".join(report["leaks"])


# What is left out


def test_broken_thin_and_small_pictures_are_left_out_and_named(tmp_path):
    real, generated = two_folders(tmp_path)
    write(
        real,
        {"broken.jpg": b"<html>", "strip.png": file(plain("red").resize((900, 4))), "tiny.png": file(noise(7, 20, 20))},
    )

    report = build(real, generated, tmp_path / "out")

    why = {one["key"]: one["why"] for one in report["dropped"]}
    assert set(why) == {"broken.jpg", "strip.png", "tiny.png"}
    assert "is not a picture that can be read" in why["broken.jpg"]
    assert "a strip that thin" in why["strip.png"]
    assert why["tiny.png"] == "It is 20 x 20 pixels, smaller than 32 on its shorter side."
    assert report["sources"][0]["pictures"] == 5


def test_exact_copies_are_dropped_but_for_one_and_all_where_their_classes_differ(tmp_path):
    real, generated = two_folders(tmp_path)
    write(real, {"again.jpg": (real / "cat 2.jpg").read_bytes(), "as png.png": file(noise(2000, 64, 64))})
    write(generated, {"made.png": file(noise(2000, 64, 64))})

    report = build(real, generated, tmp_path / "out")

    why = {f"{one['label']}/{one['key']}": one["why"] for one in report["dropped"]}
    assert why["real/cat 2.jpg"] == "The same picture, pixel for pixel, as real/again.jpg."
    words = "The same picture is both real and generated (real/as png.png, generated/made.png): nobody can tell which."
    assert why["real/as png.png"] == why["generated/made.png"] == words
    assert len(why) == 3


def test_near_copies_are_kept_together_in_one_split(tmp_path):
    real, generated = two_folders(tmp_path, 12, 12)
    for i in range(4):
        write(real, {f"near {i}.jpg": file(noise(i), "JPEG", quality=40)})

    for seed in range(5):
        report = build(real, generated, tmp_path / f"out {seed}", seed=seed)
        split_of = {key: split for split in SHARES for key in columns(tmp_path / f"out {seed}", split)["source_key"]}
        assert all(split_of[f"cat {i}.jpg"] == split_of[f"near {i}.jpg"] for i in range(4))
        assert report["splits"]["train"] == {"real": 10, "generated": 7}
    assert report["duplicates"] == [[f"real/cat {i}.jpg", f"real/near {i}.jpg"] for i in range(4)]


def test_near_copies_of_another_dataset_are_left_out_whatever_that_dataset_did_to_them(tmp_path, hub):
    real, generated = two_folders(tmp_path)
    other = write(tmp_path / "held out", {"deep/x.webp": file(square(noise(3)).resize((50, 50)), "WEBP")})
    push_rows(hub, "alice/held", {"image": [noise(1)], "label": [0]}, split="test")
    push_rows(hub, "alice/held", {"image": [plain("red")], "label": [0]})

    report = build(real, generated, tmp_path / "out", not_in=(str(other), "alice/held"))

    assert {one["key"]: one["why"] for one in report["dropped"]} == {
        "cat 3.jpg": "A copy, or nearly, of deep/x.webp in held out.",
        "cat 1.jpg": "A copy, or nearly, of test/0 in alice/held.",
    }
    assert report["not_in"] == ["1 pictures of held out", "2 pictures of alice/held"]


def test_enlarged_pictures_and_different_factors_and_histories_are_known_leaks(tmp_path):
    real = write(tmp_path / "a", {f"{i}.jpg": file(noise(i, 96, 96), "JPEG") for i in range(3)})
    generated = write(tmp_path / "b", {f"{i}.png": file(noise(i + 9, 40, 40)) for i in range(3)})

    leaks = " ".join(build(real, generated, tmp_path / "out")["leaks"])

    assert "3 of 3 generated pictures were smaller than 48 pixels and had to be enlarged, which blurs them." in leaks
    assert "resized by different factors (real shrunk by 2.0, generated enlarged by 1.2 in the middle)" in leaks
    assert "compressed with loss already (real 100%, generated 0%)" in leaks


@pytest.mark.parametrize(("real", "generated"), [(0, 3), (3, 0)])
def test_one_class_only_is_a_sentence(tmp_path, real, generated):
    with pytest.raises(DatasetError, match="holds no pictures"):
        build(
            *two_folders(tmp_path, real, generated) if real and generated else _bare(tmp_path, real, generated),
            tmp_path / "out",
        )


def _bare(tmp_path, real, generated):
    folders = two_folders(tmp_path, max(1, real), max(1, generated))
    for folder, count in zip(folders, (real, generated), strict=True):
        if not count:
            next(folder.iterdir()).unlink()
    return folders


def test_a_class_none_of_whose_pictures_can_be_used_is_a_sentence(tmp_path):
    real, _ = two_folders(tmp_path)
    broken = write(tmp_path / "broken", {"a.png": b"x", "b.png": b"y"})

    with pytest.raises(
        DatasetError, match=r"None of the 2 pictures of 'broken' can be used, so there would be no 'gen"
    ):
        build(real, broken, tmp_path / "out")
    with pytest.raises(
        DatasetError, match=r"None of the 5 pictures of 'photos' can be used.*is both real and generated"
    ):
        build(real, real, tmp_path / "out again")


def test_a_real_source_may_be_a_class_of_class_folders_or_of_a_dataset(tmp_path, hub):
    folder = write(tmp_path, class_folders(red=2, blue=3))
    card = "---\nlicense: mit\n---\n"
    hub.add_files("alice/folders", {**class_folders(red=2, blue=3), "README.md": card}, repo_type="dataset")

    assert len(real_source(str(folder), "real").pictures) == 5
    assert len(real_source(str(folder), "real", labels=["blue"]).pictures) == 3
    assert len(real_source(str(folder), "real", count=2).pictures) == 2
    found = real_source("alice/folders", "real", labels=["blue"])
    assert (len(found.pictures), found.licence, found.kind, found.name) == (3, "mit", "hub", "alice/folders")
    assert found.record(3)["revision"] == hub.repo("alice/folders", "dataset").head.sha
