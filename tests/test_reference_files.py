"""The files of references: mapped rather than read, and nothing in them believed that a stranger wrote."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from xaihub.errors import ReferencesError
from xaihub.folders import file_digest
from xaihub.reference_files import Stored, files_of, mapped_tensors, read, rows_with, write, write_tensors
from xaihub.references import load_references
from xaihub.spaces import Space

ROWS, CLASSES = 600, ("ant", "bee", "cow")
ONES = torch.ones(ROWS)


def space(name: str, width: int, **facts) -> Space:
    raw = torch.randn(ROWS, width, generator=torch.Generator().manual_seed(width))
    vectors = torch.nn.functional.normalize(raw, dim=1).half()
    return Space(name, facts.pop("kind", "decided"), "they are alike", vectors, raw.norm(dim=1), **facts)


@pytest.fixture(scope="module")
def stored() -> Stored:
    generator = np.random.default_rng(0)
    spaces = [
        space("contribution", 6, weighted=True),
        space("lab/Eye.v2", 5, kind="looks", revision="a" * 40),
        space("lab-eye v2", 4, kind="looks", leaks=True),
    ]
    columns = {
        "key": [f"train/{row}" for row in range(ROWS)],
        "label": [None if row % 7 == 0 else CLASSES[row % 3] for row in range(ROWS)],
        "predicted_index": np.sort(generator.integers(0, 3, ROWS)),
        "probability": generator.random(ROWS, dtype=np.float32),
        "pixels_sha256": [f"{row:064x}" for row in range(ROWS)],
        "perceptual_hash": generator.integers(0, 2**64, ROWS, dtype=np.uint64),
        "source": [None if row == 3 else f"https://hub/{row}" for row in range(ROWS)],
        "image": [None if row == 5 else f"picture {row}".encode() for row in range(ROWS)],
    }
    made = {
        "classifier": "you/net", "classifier_revision": None, "target_layer": "top", "embedder": "contribution",
        "preprocessing": "none", "dataset": "you/data",
    }  # fmt: skip
    logits = torch.from_numpy(generator.standard_normal((ROWS, 3), dtype=np.float32))
    return Stored(made, CLASSES, {each.name: each for each in spaces}, logits, columns, {"contribution": {"n": 3}})


@pytest.fixture
def folder(stored, tmp_path):
    write(stored, tmp_path)
    return tmp_path


def test_everything_that_was_written_is_read(stored, folder):
    again = read(folder, "saved")
    assert {path.name for path in folder.iterdir()} == {
        "references.json", "rows.parquet", "embeddings.safetensors", "embeddings-lab-eye-v2.safetensors",
        "embeddings-lab-eye-v2-2.safetensors",
    }  # fmt: skip
    assert list(again.spaces) == list(stored.spaces)
    for name, old in stored.spaces.items():
        new = again.spaces[name]
        assert replace(new, vectors=old.vectors, lengths=old.lengths).__dict__ == old.__dict__
        assert torch.equal(new.vectors, old.vectors)
        assert torch.equal(new.lengths, old.lengths)
    assert torch.equal(again.logits, stored.logits)
    for name, column in stored.columns.items():
        assert list(again.columns[name]) == list(column), name
    assert (again.made, again.classes, again.fidelity) == (stored.made, stored.classes, stored.fidelity)
    assert pq.read_table(folder / "rows.parquet")["predicted"].to_pylist() == [
        CLASSES[index] for index in stored.columns["predicted_index"]
    ]


def test_vectors_are_mapped_and_the_folder_may_go_meanwhile(stored, folder):
    again = read(folder, "saved")
    maps = Path("/proc/self/maps").read_text()
    assert str(folder / "embeddings.safetensors") in maps, "else they were copied into memory"
    shutil.rmtree(folder)
    assert torch.equal(again.spaces["contribution"].vectors, stored.spaces["contribution"].vectors)
    assert again.columns["image"][599] == b"picture 599"


def test_pictures_are_read_by_the_group_from_any_thread(stored, folder):
    assert pq.ParquetFile(folder / "rows.parquet").metadata.num_row_groups == 3
    pictures = read(folder, "saved").columns["image"]
    rows = np.random.default_rng(1).integers(0, ROWS, 300).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(pictures.__getitem__, rows)) == [stored.columns["image"][row] for row in rows]
    assert len(pictures._held) <= 3, "memory does not grow with the rows"
    assert pictures[-1] == b"picture 599"
    assert pictures[254:258] == [f"picture {row}".encode() for row in range(254, 258)]
    with pytest.raises(IndexError, match="none is 600"):
        pictures[600]


def test_texts_are_a_sequence_that_finds_its_rows(stored, folder):
    columns = read(folder, "saved").columns
    assert columns["label"] == tuple(stored.columns["label"])
    assert columns["label"] != stored.columns["label"][:-1]
    assert columns["key"][-1] == "train/599"
    assert rows_with(columns["label"], "bee").tolist() == rows_with(stored.columns["label"], "bee").tolist() != []
    assert rows_with(columns["label"], "fox").tolist() == []


def test_a_piece_at_a_time_is_the_same_file_as_the_library_reads(tmp_path, monkeypatch):
    monkeypatch.setattr("xaihub.reference_files.tensors._AT_ONCE", 64)
    tensors = {
        "a": torch.arange(300).reshape(100, 3).half().t().contiguous().t(),
        "b": torch.ones(3),
        "none": torch.empty(0, 4),
    }
    write_tensors(tmp_path / "tensors", tensors, {"said": "ü"})
    for again in (load_file(tmp_path / "tensors"), mapped_tensors(tmp_path / "tensors")):
        assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_format_1_is_still_read(stored, tmp_path):
    write(stored, tmp_path)
    vectors = stored.spaces["contribution"].vectors.float()
    save_file({"embeddings": vectors, "logits": stored.logits}, tmp_path / "embeddings.safetensors")
    rows = pq.read_table(tmp_path / "rows.parquet").drop_columns(["source"])
    pq.write_table(rows, tmp_path / "rows.parquet")
    sums = {name: file_digest(tmp_path / name) for name in ("embeddings.safetensors", "rows.parquet")}
    made = {**stored.made, "embedder": "target-layer"}
    record = {"format": 1, "made": made, "classes": CLASSES, "rows": ROWS, "checksums": sums}
    (tmp_path / "references.json").write_text(json.dumps(record))
    again = load_references(tmp_path)
    assert list(again.spaces) == ["target-layer"]
    assert torch.equal(again.embeddings, vectors)
    assert again.space().kind == "decided"
    assert again.space().lengths.tolist() == [1.0] * ROWS
    assert again.sources[4] is None
    assert again.pictures[4] == b"picture 4"
    assert files_of(tmp_path, "old", [path.name for path in tmp_path.iterdir()]) == (
        "references.json", "embeddings.safetensors", "rows.parquet",
    )  # fmt: skip


def further(record, **change):
    record["spaces"][1].update(change)


def measured(record, **figures):
    record["fidelity"] = {"contribution": figures}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: further(record, file="../../secret.safetensors"), "no name of a file of embeddings"),
        (lambda record: further(record, file="/etc/passwd"), "no name of a file of embeddings"),
        (lambda record: further(record, file="embeddings-a/b.safetensors"), "no name of a file of embeddings"),
        (lambda record: further(record, file="embeddings-x.bin"), "no name of a file of embeddings"),
        (lambda record: further(record, file=record["spaces"][2]["file"]), "one name, or one file"),
        (lambda record: further(record, name="contribution"), "one name, or one file"),
        (lambda record: further(record, revision="zzz/../.."), "which is no commit"),
        (lambda record: further(record, revision="main"), "which is no commit"),
        (lambda record: further(record, revision=None), "does not say at which commit"),
        (lambda record: further(record, name="../etc/passwd"), "neither a repository's id nor a plain name"),
        (lambda record: further(record, name="lab/eye@main"), "neither a repository's id nor a plain name"),
        (lambda record: further(record, name="contribution@main"), "neither a repository's id nor a plain name"),
        (lambda record: further(record, name="..", revision=None), "neither a repository's id nor a plain name"),
        (lambda record: further(record, kind="feels"), "of kind 'feels'"),
        (lambda record: further(record, leaks="no"), "the leaks of a space is 'no'"),
        (lambda record: record.update(spaces=[]), "it names no spaces"),
        (lambda record: record.update(spaces=record["spaces"] * 40), "more than 32"),
        (lambda record: record.update(made=[]), "does not say who made it"),
    ],
)
def test_a_record_may_name_only_files_of_embeddings(folder, change, words):
    record = json.loads((folder / "references.json").read_text())
    change(record)
    (folder / "references.json").write_text(json.dumps(record))
    for reads in (lambda: read(folder, "strange"), lambda: files_of(folder, "strange", [])):
        with pytest.raises(ReferencesError, match=words):
            reads()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.update(fidelity="good"), "which is no table of figures"),
        (lambda record: record.update(fidelity={"contribution": 3}), "which is no table of figures"),
        (lambda record: measured(record, n="many"), "the 'n' of its fidelity is 'many'"),
        (lambda record: measured(record, n=True), "the 'n' of its fidelity"),
        (lambda record: measured(record, leak_free="yes"), "the 'leak_free' of its fidelity"),
        (lambda record: measured(record, **{"agreement@3": 0.5}), "the 'agreement@3' of its fidelity is '0.5'"),
        (lambda record: measured(record, **{"agreement@3": ["a", "b", "c"]}), "the 'agreement@3' of its fidelity"),
        (lambda record: measured(record, **{"agreement@3": [float("nan")] * 3}), "NaN in place of a number"),
        (lambda record: measured(record, like_distance=float("inf")), "Infinity in place of a number"),
        (lambda record: measured(record, other=10**400), "a number of 401 digits"),
        (lambda record: record.update(classes=["ant", "bee", 3]), "its classes are not all names"),
        (lambda record: record.update(classes=[*CLASSES, "dog"]), "its logits are"),
        (lambda record: record["checksums"].clear(), "KeyError"),
    ],
)
def test_a_record_must_fit_its_files(folder, change, words):
    record = json.loads((folder / "references.json").read_text())
    change(record)
    (folder / "references.json").write_text(json.dumps(record))
    with pytest.raises(ReferencesError, match=words):
        read(folder, "strange")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"embeddings": torch.ones(ROWS, 4, dtype=torch.int32), "lengths": torch.ones(ROWS)},
            "are torch.int32 of shape",
        ),
        ({"embeddings": torch.ones(ROWS), "lengths": torch.ones(ROWS)}, "of shape"),
        ({"embeddings": torch.ones(ROWS, 4), "lengths": torch.ones(ROWS - 1)}, "different numbers of rows"),
        ({"lengths": torch.ones(ROWS)}, "KeyError"),
        ({"embeddings": torch.eye(ROWS, 4).index_fill(0, torch.tensor(7), torch.nan), "lengths": ONES}, "length one"),
        ({"embeddings": torch.eye(ROWS, 4).index_fill(0, torch.tensor(599), 1.0), "lengths": ONES}, "length one"),
        ({"embeddings": torch.eye(ROWS, 4).half() * 30, "lengths": ONES}, "length one"),
        ({"embeddings": torch.eye(ROWS, 4), "lengths": -ONES}, "length one"),
        ({"embeddings": torch.eye(ROWS, 4), "lengths": ONES * torch.inf}, "length one"),
    ],
)
def test_vectors_must_be_what_they_are_called(folder, tensors, words):
    record = json.loads((folder / "references.json").read_text())
    file = record["spaces"][1]["file"]
    save_file(tensors, folder / file)
    record["checksums"][file] = file_digest(folder / file)
    (folder / "references.json").write_text(json.dumps(record))
    with pytest.raises(ReferencesError, match=words):
        read(folder, "strange")


def test_files_that_are_not_there_and_records_without_end_are_sentences(folder):
    with pytest.raises(ReferencesError, match=r"without their embeddings-lab-eye-v2\.safetensors"):
        files_of(folder, "half", ["references.json", "embeddings.safetensors", "rows.parquet"])
    (folder / "references.json").write_text("[" * 100_000)
    with pytest.raises(ReferencesError, match="holds no references that can be read"):
        files_of(folder, "deep", [])
    (folder / "references.json").write_text(" " * (16 * 2**20 + 1))
    with pytest.raises(ReferencesError, match="more than 4 MB"):
        read(folder, "large")


def refused_rows(folder, table, words, **options):
    """The references with other rows, whose checksum fits."""
    pq.write_table(table, folder / "rows.parquet", **options)
    record = json.loads((folder / "references.json").read_text())
    record["checksums"]["rows.parquet"] = file_digest(folder / "rows.parquet")
    (folder / "references.json").write_text(json.dumps(record))
    assert (folder / "rows.parquet").stat().st_size < 2**20, "a small file"
    held = pa.total_allocated_bytes()
    with pytest.raises(ReferencesError, match=words):
        read(folder, "strange")
    assert pa.total_allocated_bytes() - held < 2**20


def filled_with(table, name, value):
    place = table.schema.get_field_index(name)
    return table.set_column(
        place, table.schema.field(name), pa.array([value] * len(table), table.schema.field(name).type)
    )


def test_rows_that_unpack_to_far_more_than_their_file_are_refused_first(folder, monkeypatch):
    table = pq.read_table(folder / "rows.parquet")
    refused_rows(folder, pa.concat_tables([table] * 9), "different numbers of rows")
    refused_rows(folder, table, r"packed in a way that is not read \(ZSTD", compression="zstd")
    delta = {"key": "DELTA_BYTE_ARRAY"}
    refused_rows(folder, table, "DELTA_BYTE_ARRAY", use_dictionary=False, column_encoding=delta)
    for name in ("key", "label", "source"):
        refused_rows(folder, filled_with(table, name, "x" * 9000), f"the {name} of its rows has 5 MB of letters")
    monkeypatch.setattr("xaihub.reference_files.rows._LARGEST_GROUP", 10_000)
    refused_rows(folder, table, "600 of its rows have .* too many to read at once")


def test_one_picture_said_many_times_is_held_once(folder):
    table = pq.read_table(folder / "rows.parquet")
    table = filled_with(table, "image", {"bytes": b"x" * 2**15, "path": None})
    pq.write_table(table, folder / "rows.parquet")  # 20 MB, and one picture in the file
    record = json.loads((folder / "references.json").read_text())
    record["checksums"]["rows.parquet"] = file_digest(folder / "rows.parquet")
    (folder / "references.json").write_text(json.dumps(record))
    pictures, held = read(folder, "strange").columns["image"], pa.total_allocated_bytes()
    assert len(pictures[599]) == 2**15
    assert pa.total_allocated_bytes() - held < 2**20


def test_references_may_be_written_where_they_lie(stored, folder):
    again = read(folder, "saved")
    (folder / "embeddings-gone.safetensors").touch()
    (folder / "embeddings_own.txt").touch()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "embeddings-gone.safetensors"}
    write(again, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert torch.equal(again.logits, stored.logits), "what was mapped stays whole"
    assert again.columns["image"][599] == b"picture 599"


@pytest.mark.parametrize(("name", "revision"), [("me/eye", None), ("me/eye", "main"), ("../eye", None), ("", None)])
def test_what_could_not_be_read_again_is_not_written(stored, tmp_path, name, revision):
    space = replace(stored.spaces["contribution"], name=name, revision=revision)
    with pytest.raises(ReferencesError, match=r"could not be read: .* Call the embedder by a plain name"):
        write(replace(stored, spaces={name: space}), tmp_path)
    assert not list(tmp_path.iterdir())
