"""Parquet files are read in bounded memory and disk: what they would take is known before anything is decoded."""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_datasets import COLOURS, TOKEN, class_folders, plain, png, push_rows, seen, write

from xaihub import hub as hub_room
from xaihub import open_dataset
from xaihub.datasets import parquet
from xaihub.datasets.parquet import open_rows
from xaihub.errors import DatasetError, DownloadError, HubError, RepoNotFoundError
from xaihub.loading import STARTER_FOLDER, load_classifier

KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def noise(seed: int, edge: int = 100) -> bytes:
    """A PNG of some 30 KB that nothing makes smaller."""
    stream = io.BytesIO()
    levels = np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), dtype=np.uint8)
    Image.fromarray(levels).save(stream, "PNG")
    return stream.getvalue()


def stored(images: list[bytes], label: pa.Array, name: str = "label", **options) -> bytes:
    stream = io.BytesIO()
    cells = pa.StructArray.from_arrays([pa.array(images), pa.nulls(len(images), pa.string())], fields=list(KIND))
    pq.write_table(pa.table({"image": cells, name: label}), stream, **{"compression": "zstd", **options})
    return stream.getvalue()


def one_image_many_times(rows: int = 20_000) -> bytes:
    """32 KB that unfold to 600 MB: an image that a dictionary holds once."""
    stream, part = io.BytesIO(), 100
    cells = pa.StructArray.from_arrays([pa.array([noise(0)] * part), pa.nulls(part, pa.string())], fields=list(KIND))
    batch = pa.RecordBatch.from_arrays([cells, pa.array(np.arange(part) % 2)], ["image", "label"])
    pq.write_table(pa.Table.from_batches([batch] * (rows // part)), stream, compression="zstd", row_group_size=rows)
    assert pq.ParquetFile(stream).num_row_groups == 1
    return stream.getvalue()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.fixture(scope="module")
def bomb():
    return one_image_many_times()


def test_a_small_file_that_unfolds_to_gigabytes_writes_nothing_and_is_read_row_by_row(hub, bomb):
    from huggingface_hub import constants

    assert len(bomb) < 40_000
    hub.add_files("alice/bomb", {"train.parquet": bomb}, repo_type="dataset")
    home = Path(constants.HF_HOME)
    before = size_of(home)

    rows = open_dataset("alice/bomb", token=False, local=False, limit=6)
    pictures = list(rows)

    assert [row.label for row in pictures] == [str(int(row.key.split("/")[1]) % 2) for row in pictures]
    assert {row.picture.size for row in pictures} == {(100, 100)}
    assert size_of(home) - before < 200_000


def test_reading_it_takes_no_memory_to_speak_of(tmp_path, bomb):
    write(tmp_path / "data", {"train.parquet": bomb})
    code = (
        "import resource, sys; from xaihub import open_dataset; from PIL import Image; Image.init()\n"
        "import pyarrow.parquet\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = open_dataset(sys.argv[1], limit=4); print(sum(1 for _ in rows))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )

    told = subprocess.run([sys.executable, "-c", code, tmp_path / "data"], capture_output=True, text=True, check=True)

    read, kilobytes = map(int, told.stdout.split())
    assert read == 4
    assert kilobytes < 150_000  # decoded at once the images alone are 600,000


def zeros(values: int) -> pa.Array:
    return pa.array(np.zeros(values, dtype=np.int64))


def test_a_file_that_claims_more_rows_than_are_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_ROWS", 1_000)
    folder = write(tmp_path, {"train.parquet": stored([b"x"] * 1_001, zeros(1_001))})

    with pytest.raises(DatasetError, match=r"claims 1,001 rows in 1 row groups; at most 1,000 and 100,000 are read"):
        open_dataset(folder)


@pytest.mark.parametrize("named", ["label", None])
def test_texts_that_unfold_to_more_than_is_decoded_never_are(tmp_path, monkeypatch, named):
    """A list of a text of 4 KB, 1,000 times, is 4 MB: a hundred times as many are 400 MB in the same few bytes."""
    monkeypatch.setattr(parquet, "MAX_DECODED", 2**20)
    lists = pa.array([["x" * 4_000]] * 1_000, pa.list_(pa.string()))
    write(tmp_path / "lists", {"train.parquet": stored([png("red")] * 1_000, lists, row_group_size=1_000)})

    if named:
        with pytest.raises(DatasetError, match="cannot be its labels: it holds more than can be read at once"):
            open_dataset(tmp_path / "lists", label_column=named, limit=2)
    else:
        rows = open_dataset(tmp_path / "lists", limit=2)
        assert [row.label for row in rows] == [None, None]
        assert rows.notices[0].startswith("No image has a label: 'label' holds more than can be read at once.")


def test_a_long_text_that_many_rows_share_is_held_once(tmp_path):
    texts = pa.array([i % 2 for i in range(20_000)], pa.int32())
    texts = pa.DictionaryArray.from_arrays(texts, ["x" * 100_000, "y" * 100_000])  # 2 GB, were each its own
    write(tmp_path, {"train.parquet": stored([png("red")] * 20_000, texts, row_group_size=20_000)})

    rows = open_dataset(tmp_path)

    assert len({id(label) for _, label, _ in rows.sources}) <= 2 * (20_000 // parquet._AT_ONCE + 1)


def test_zeros_that_a_compression_makes_small_are_refused_by_the_footer(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_DECODED", 2 * 2**20)
    folder = write(tmp_path, {"train.parquet": stored([bytes(2**20)] * 3, zeros(3), use_dictionary=False)})

    rows = open_dataset(folder)

    with pytest.raises(DatasetError, match=r"3 values of its column 'image' would take 3 MB at once; at most 2 MB"):
        list(rows)


def test_a_footer_is_not_larger_than_footers_are(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_FOOTER", 100)
    folder = write(tmp_path, {"train.parquet": stored([png("red")], zeros(1))})

    with pytest.raises(DatasetError, match=r"holds no dataset that can be read \(ValueError: its footer would have"):
        open_dataset(folder)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1" + b"\xff" * 4 + b"PAR1", b"x" * 100])
def test_damaged_files_are_a_sentence(tmp_path, damage):
    folder = write(tmp_path / "data", {"train.parquet": damage or b"0", "more.parquet": stored([png("red")], zeros(1))})

    with pytest.raises(DatasetError, match="holds no dataset that can be read"):
        open_dataset(folder)


def test_a_page_that_is_damaged_costs_its_rows_or_is_a_sentence(tmp_path):
    good = stored([noise(i, 8) for i in range(6)], pa.array(np.arange(6)), row_group_size=3, compression="snappy")
    start = pq.ParquetFile(io.BytesIO(good)).metadata.row_group(0).column(0).dictionary_page_offset
    bad = good[: start + 40] + b"\xff" * 200 + good[start + 240 :]

    rows = open_dataset(write(tmp_path / "images", {"train.parquet": bad}))
    assert [row.key for row in rows] == ["train/3", "train/4", "train/5"]
    assert all("cannot be read (" in why or "broken" in why for why in rows.skipped.values())
    assert len(rows.skipped) == 3
    labels = pq.ParquetFile(io.BytesIO(good)).metadata.row_group(0).column(2).dictionary_page_offset
    bad = good[:labels] + b"\xff" * 30 + good[labels + 30 :]
    with pytest.raises(DatasetError, match=r"The column 'label' of .* cannot be read \(.*The file is damaged"):
        open_dataset(write(tmp_path / "labels", {"train.parquet": bad}), label_column="label")


def test_files_with_other_columns_are_not_one_dataset(tmp_path):
    files = {"a.parquet": stored([png("red")], zeros(1)), "b.parquet": stored([png("red")], zeros(1), name="dx")}

    with pytest.raises(DatasetError, match="have different columns, so they are not one dataset"):
        open_dataset(write(tmp_path, files))


def test_rows_are_right_in_any_order_and_over_row_groups(tmp_path):
    images = [noise(i, 4) for i in range(40)]
    file = write(tmp_path, {"x.parquet": stored(images, pa.array(np.arange(40)), row_group_size=7)}) / "x.parquet"
    rows = open_rows("it", [lambda: str(file)])

    assert rows.count == 40
    assert rows.column("label", 10) == list(range(10))
    for place in (0, 39, 3, 13, 13, 12, 7, 6, 38):
        assert rows.cell("image", place)["bytes"] == images[place]
    with pytest.raises(DatasetError, match="has no row 40"):
        rows.cell("image", 40)


def test_a_folder_of_parquet_files_has_the_splits_that_its_names_say(tmp_path):
    one = {"train": "red", "test": "blue"}
    for form in ("{}.parquet", "{}-00000.parquet", "data/{}/0000.parquet", "default/{}-x.parquet"):
        files = {form.format(split): stored([png(colour)], zeros(1)) for split, colour in one.items()}
        folder = write(tmp_path / form.replace("/", "_"), files)
        assert [seen(open_dataset(folder, split=split)) for split in one] == [[("0", COLOURS[c])] for c in one.values()]


# Of a large dataset on the Hub only parts are fetched


def test_of_a_large_file_only_the_footer_and_the_rows_that_are_read_are_fetched(hub, monkeypatch):
    images = [noise(i) for i in range(400)]
    content = stored(images, pa.array(np.arange(400) % 4), row_group_size=20)
    more = stored(images[:20], zeros(20))
    hub.add_files("alice/large", {"train-0.parquet": content, "train-1.parquet": more}, repo_type="dataset")
    monkeypatch.setattr("xaihub.datasets.LARGEST_DOWNLOAD", 10)
    monkeypatch.setattr("xaihub.datasets.from_hub.BUFFER", 20)
    hub.requests.clear()

    rows = open_dataset("alice/large", limit=8, token=False, local=False)
    labels = [row.label for row in rows]

    assert len(content) > 10 * 2**20
    assert sorted(labels) == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert rows.note == "8 pictures from the beginning of a large dataset, drawn evenly from the classes"
    assert all(int(row.key.removeprefix("train/")) < 20 for row in rows)
    assert {request.token for request in hub.requests} == {None}
    asked = [request for request in hub.requests if "train-" in request.path and request.method == "GET"]
    assert not any("train-1" in request.path for request in asked)
    assert 0 < len(asked) < 9  # a megabyte each, of twelve


def test_rare_labels_of_a_large_dataset_are_looked_for_in_the_column_of_labels_alone(hub, monkeypatch):
    labels = [0] * 300 + [1] * 3
    content = stored([noise(0, 8)] * 303, pa.array(labels), row_group_size=50)
    hub.add_files("alice/rare", {"train.parquet": content}, repo_type="dataset")
    monkeypatch.setattr("xaihub.datasets.LARGEST_DOWNLOAD", 10)
    monkeypatch.setattr("xaihub.datasets.from_hub.BUFFER", 20)

    rows = open_dataset("alice/rare", labels=["1"], limit=2)

    assert [row.label for row in rows] == ["1", "1"]
    assert {row.key for row in rows} < {"train/300", "train/301", "train/302"}


def test_a_private_large_dataset_is_open_to_its_owner_alone(hub, monkeypatch):
    push_rows(hub, "alice/mine", {"image": [plain("red")] * 3, "label": [0] * 3}, private=True)
    monkeypatch.setattr("xaihub.datasets.LARGEST_DOWNLOAD", 10)

    for _ in range(2):
        assert len(seen(open_dataset("alice/mine", token=TOKEN, local=False))) == 3
        with pytest.raises(RepoNotFoundError):
            open_dataset("alice/mine", token=False, local=False)


def test_references_of_a_large_dataset_find_their_pictures_again(hub, monkeypatch):
    from xaihub.building import build_references, reference_pictures

    content = stored([noise(i, 8) for i in range(30)], pa.array(np.arange(30) % 2), row_group_size=10)
    hub.add_files("alice/refill", {"train.parquet": content}, repo_type="dataset")
    monkeypatch.setattr("xaihub.datasets.LARGEST_DOWNLOAD", 10)
    classifier = load_classifier(STARTER_FOLDER / "classifier")

    references = build_references(classifier, "alice/refill", limit=3, fidelity=False, seed=3)

    assert len(list(reference_pictures(references, classifier))) == 3


# Texts, cards and archives


def test_a_card_that_is_too_long_is_not_fetched(hub, monkeypatch):
    monkeypatch.setattr("xaihub.hub.fetching.MAX_CARD", 1_000)
    hub.add_files("alice/long", {**class_folders(red=1), "README.md": "x" * 1_001}, repo_type="dataset")

    with pytest.raises(
        DownloadError, match=r"'README\.md' of alice/long has 0 MB; at most 0 MB of such a file are read"
    ):
        open_dataset("alice/long", token=False, local=False)
    assert not [request for request in hub.requests if request.path.endswith("README.md")]


def test_a_table_of_a_stranger_that_is_too_long_is_not_fetched(hub, monkeypatch):
    table = "file_name,label\n0.png,a\n1.png,b\n" + "x,y\n" * 500
    files = {"0.png": png("red"), "1.png": png("red")}
    hub.add_files("alice/table", files | {"labels.csv": table}, repo_type="dataset")
    hub.add_files("alice/metadata", files | {"metadata.csv": table}, repo_type="dataset")
    for module in ("hub_folders", "hub_parts"):
        monkeypatch.setattr(f"xaihub.datasets.{module}.MAX_TABLES", 1_000)

    rows = open_dataset("alice/table", token=False, local=False)
    assert [row.label for row in rows] == [None, None]
    assert rows.notices[0].startswith("'labels.csv' of alice/table was not fetched: it has 0 MB, and at most 0 MB")
    with pytest.raises(HubError, match=r"'metadata\.csv' of alice/metadata has 0 MB; at most 0 MB"):
        open_dataset("alice/metadata", token=False, local=False)
    assert not [request for request in hub.requests if request.method == "GET" and request.path.endswith(".csv")]


def test_infos_of_a_dataset_that_are_too_long_are_not_fetched(hub, monkeypatch):
    monkeypatch.setattr("xaihub.datasets.hub_parts._MAX_INFOS", 100)
    hub.add_files(
        "alice/infos", {**class_folders(red=1), "dataset_infos.json": "{" + " " * 100 + "}"}, repo_type="dataset"
    )

    with pytest.raises(DownloadError, match=r"'dataset_infos\.json' of alice/infos has"):
        open_dataset("alice/infos", token=False, local=False)


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return stream.getvalue()


@pytest.mark.parametrize("large", [False, True])
def test_zip_files_are_folders_of_their_names_and_only_what_is_shown_is_unpacked(hub, monkeypatch, large):
    if large:
        monkeypatch.setattr("xaihub.datasets.LARGEST_DOWNLOAD", 10)
    pets = {"cat/0.png": png("red"), "dog/0.png": png("blue"), "__MACOSX/cat/._0.png": b"x"}
    bomb = {"cat/bomb.png": bytes(70 * 2**20)}  # 70 KB
    files = {"train.zip": zipped(pets | bomb), "test.zip": zipped({"0.png": png("green")})}
    hub.add_files("alice/zip", files, repo_type="dataset")

    rows = open_dataset("alice/zip", token=False, local=False)

    assert seen(rows) == [("cat", COLOURS["red"]), ("dog", COLOURS["blue"])]
    assert list(rows.skipped.values()) == ["'cat/bomb.png' would unpack to 70 MB."]
    assert seen(open_dataset("alice/zip", split="test")) == [(None, COLOURS["green"])]


def test_a_zip_file_that_is_none_or_lists_too_many_files_is_a_sentence(hub, monkeypatch):
    content = zipped({"cat/0.png": png("red"), "dog/0.png": png("red")})
    hub.add_files("alice/zip", {"x.zip": content}, repo_type="dataset")
    hub.add_files("alice/none", {"0.png": png("red"), "x.zip": b"x" * 1_000}, repo_type="dataset")
    monkeypatch.setattr("xaihub.datasets.archives._MAX_DIRECTORY", 50)

    with pytest.raises(DatasetError, match=r"x\.zip of alice/zip is no zip file that can be read, or its list of mem"):
        open_dataset("alice/zip")
    with pytest.raises(DatasetError, match=r"alice/none could not be read as a dataset \(File is not a zip file"):
        open_dataset("alice/none")


def test_a_header_of_a_tar_file_that_claims_a_name_of_gigabytes_is_not_read(hub):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**32
    hub.add_files("alice/tar", {"train.tar": info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)}, repo_type="dataset")

    with pytest.raises(DatasetError, match=r"no plain tar file that can be read \(a header is too long"):
        open_dataset("alice/tar")


def test_a_tar_file_that_is_compressed_is_refused(hub):
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("0.png"), io.BytesIO())
    hub.add_files("alice/tar", {"train.tar": tar.getvalue()}, repo_type="dataset")

    with pytest.raises(DatasetError, match=r"train\.tar of alice/tar is no plain tar file that can be read"):
        open_dataset("alice/tar")


def test_a_remote_file_is_read_in_parts(hub):
    content = bytes(range(256)) * 20_000
    hub.add_files("alice/parts", {"x.bin": content}, repo_type="dataset")
    repo = hub_room.look("alice/parts", token=False, repo_type="dataset")
    hub.requests.clear()

    with hub_room.open_remote(repo, "x.bin", token=False) as stream:
        stream.seek(-8, 2)
        assert stream.read(8) == content[-8:]
        stream.seek(3_000_000)
        assert stream.read(5) == content[3_000_000:3_000_005]

    assert 0 < len([request for request in hub.requests if request.method == "GET" and "x.bin" in request.path]) <= 2
    with pytest.raises(HubError):
        hub_room.open_remote(repo, "y.bin", token=False)
