"""Which column is the label: what is unambiguous is taken, else it is asked; nobody is left without labels unsaid."""

import gzip
import io
import json
import re
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_datasets import COLOURS, features, parquet, plain, png, push_rows, write

from xaihub import open_dataset
from xaihub.datasets.columns import Column, label_column, word_of
from xaihub.errors import DatasetError

COLOUR = ["red", "blue", "red", "blue"]


def stored(columns: dict[str, pa.Array], images: int = 4, name: str = "image") -> bytes:
    """A parquet file as pandas or polars write it: without notes of the datasets library."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": png(colour), "path": None} for colour in COLOUR[:images]], kind)
    stream = io.BytesIO()
    pq.write_table(pa.table({name: cells, **columns}), stream)
    return stream.getvalue()


@pytest.fixture(params=["folder", "hub", "large"])
def opened(request, tmp_path, hub, monkeypatch):
    """Opens a parquet file as a local folder, as a dataset of the Hub, and as one that is too large to be fetched."""

    def open_(content: bytes, **options):
        if request.param == "folder":
            return open_dataset(write(tmp_path / "data", {"train.parquet": content}), **options)
        if request.param == "large":
            monkeypatch.setattr("xaihub.datasets.LARGEST_DOWNLOAD", 10)
        hub.add_files("alice/labels", {"train.parquet": content}, repo_type="dataset")
        return open_dataset("alice/labels", **options)

    return open_


KINDS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float32(),
         pa.float64()]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_numbers_of_every_width_are_labels_and_a_missing_one_is_none(tmp_path, kind):
    content = stored({"label": pa.array([3, None, 3, 120], kind)})

    rows = open_dataset(write(tmp_path, {"train.parquet": content}))

    assert [row.label for row in rows] == ["3", None, "3", "120"]
    assert (rows.label_names, rows.notices) == (("3", "120"), ())


def test_labels_of_other_kinds_are_read_alike_from_a_folder_and_from_the_hub(opened):
    words = ["cat", "dog", None, " "]
    lists = pa.array([["cat"], ["dog"], [], None], pa.list_(pa.string()))
    cases = [
        (pa.array(words), ["cat", "dog", None, None]),
        (pa.array(words).dictionary_encode(), ["cat", "dog", None, None]),
        (pa.array([True, False, None, True]), ["True", "False", None, "True"]),
        (lists, ["cat", "dog", None, None]),
        (pa.array([1.0, float("nan"), 0.0, None]), ["1", None, "0", None]),
        (pa.array([b"cat", b"dog", None, b"dog"]), ["cat", "dog", None, "dog"]),
    ]
    column, expected = cases[0]
    assert [row.label for row in opened(stored({"label": column}))] == expected
    for column, expected in cases[1:]:
        assert [row.label for row in opened(stored({"label": column}))] == expected


@pytest.mark.parametrize(
    "name", ["dx", "cls", "category", "Label", "class_name", "target", "diagnosis", "species", "y"]
)
def test_a_column_that_is_called_as_labels_are_is_taken_among_others(tmp_path, name):
    columns = {
        "sex": pa.array(["f", "m", "f", "f"]), "age": pa.array([40, 50, 60, 40]), name: pa.array(["a", "b", "a", "b"]),
        "path": pa.array(["x", "x", "y", "y"]),
    }  # fmt: skip

    rows = open_dataset(write(tmp_path, {"train.parquet": stored(columns)}))

    assert ([row.label for row in rows], rows.notices) == (["a", "b", "a", "b"], ())


def test_the_only_text_that_repeats_is_taken_and_it_is_said(tmp_path):
    columns = {"animal": pa.array(["cat", "dog", "cat", "dog"]), "caption": pa.array(["a", "b", "c", "d"]),
               "source": pa.array(["web", "web", "film", "film"])}  # fmt: skip

    rows = open_dataset(write(tmp_path, {"train.parquet": stored(columns)}))

    assert [row.label for row in rows] == ["cat", "dog", "cat", "dog"]
    assert rows.notices == ("The labels are those of the column 'animal'",)


AMBIGUOUS = {
    "two kinds of classes": {"breed": ["a", "b", "a", "b"], "species": ["x", "x", "y", "y"]},
    "two texts that repeat": {"animal": ["cat", "dog", "cat", "dog"], "ground": ["sea", "sea", "land", "land"]},
    "numbers and texts": {"target": [0, 1, 2, 0], "category": ["x", "x", "y", "y"]},
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_of_several_columns_one_has_to_be_named(opened, kind):
    (one, first), (other, second) = AMBIGUOUS[kind].items()
    content = stored({one: pa.array(first), other: pa.array(second)})

    words = rf"several columns that may be its labels: {one}, {other}\. Say which: label_column='{one}'"
    with pytest.raises(DatasetError, match=words):
        opened(content)
    assert [row.label for row in opened(content, label_column=one)] == [str(value) for value in first]
    assert [row.label for row in opened(content, label_column=other)] == [str(value) for value in second]


def test_several_columns_of_class_labels_are_asked_for_unless_one_is_called_label(hub):
    from datasets import ClassLabel, Features, Image

    rows = {"image": [plain("red"), plain("blue")] * 2, "breed": [0, 1, 0, 1], "coat": [0, 0, 1, 1]}
    names = {"breed": ClassLabel(names=["a", "b"]), "coat": ClassLabel(names=["x", "y"])}
    push_rows(hub, "alice/breeds", rows, Features({"image": Image(), **names}))
    push_rows(hub, "alice/named", {**rows, "label": [0, 1, 1, 2]}, features(**names))

    with pytest.raises(DatasetError, match=r"alice/breeds has several columns that may be its labels: breed, coat\."):
        open_dataset("alice/breeds", token=False, local=False)
    assert [row.label for row in open_dataset("alice/breeds", label_column="coat")] == ["x", "x", "y", "y"]
    named = open_dataset("alice/named")
    assert [row.label for row in named] == ["red", "green", "green", "blue"]
    assert named.notices == ("The labels are those of the column 'label'; label_column can name another: breed, coat",)


def test_of_two_columns_that_say_the_same_the_words_are_taken(tmp_path):
    columns = {"label": pa.array([0, 1, 0, 1], pa.int8()), "class_name": pa.array(["cat", "dog", "cat", "dog"])}

    rows = open_dataset(write(tmp_path, {"train.parquet": stored(columns)}))

    assert ([row.label for row in rows], rows.notices) == (["cat", "dog", "cat", "dog"], ())


NO_LABELS = {
    "several labels": ({"labels": pa.array([["a", "b"], ["a"], [], ["b"]])}, r"'labels' holds several labels an image"),
    "fractions": ({"label": pa.array([0.25, 0.5, 1.0, 0.0])}, "'label' holds fractions"),
    "captions": ({"text": pa.array(list("abcd"))}, r"no column looks like labels \(there are: text\)"),
    "nothing but missing": ({"label": pa.array([None] * 4, pa.int8())}, "'label' holds nothing"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_LABELS)
def test_where_there_are_no_labels_it_is_said_why(opened, kind):
    columns, words = NO_LABELS[kind]

    rows = opened(stored(columns))

    assert [row.label for row in rows] == [None] * 4
    (notice,) = rows.notices
    assert notice.startswith("No image has a label: ")
    assert re.search(words, notice)


def test_a_named_column_that_holds_no_labels_is_refused_with_the_reason(tmp_path):
    folder = write(tmp_path, {"train.parquet": stored({"tags": pa.array([["a", "b"]] * 4)})})

    with pytest.raises(
        DatasetError, match=r"The column 'tags' of .* cannot be its labels: it holds several labels an im"
    ):
        open_dataset(folder, label_column="tags")
    with pytest.raises(DatasetError, match=r"has no column 'dx'\. Its columns are: image, tags\."):
        open_dataset(folder, label_column="dx")
    assert [row.label for row in open_dataset(folder, label_column="")] == [None] * 4


def test_several_columns_of_images_are_asked_for_unless_one_is_called_image(opened):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    other = pa.array([{"bytes": png("green"), "path": None}] * 4, kind)
    labels = pa.array(COLOUR)

    named = opened(stored({"mask": other, "label": labels}))
    assert [row.picture.getpixel((0, 0)) for row in named] == [COLOURS[name] for name in COLOUR]
    content = stored({"after": other, "label": labels}, name="before")
    with pytest.raises(
        DatasetError, match=r"several columns of images: before, after\. Say which: image_column='before'"
    ):
        opened(content)
    chosen = opened(content, image_column="after")
    assert [row.picture.getpixel((0, 0)) for row in chosen] == [COLOURS["green"]] * 4
    with pytest.raises(DatasetError, match=r"no column of images 'label'\. Those it has are: before, after\."):
        opened(content, image_column="label")


def test_plain_bytes_that_are_images_are_a_column_of_images(tmp_path):
    stream = io.BytesIO()
    pq.write_table(pa.table({"data": pa.array([png(name) for name in COLOUR]), "label": pa.array(COLOUR)}), stream)

    rows = open_dataset(write(tmp_path, {"train.parquet": stream.getvalue()}))

    assert [(row.label, row.picture.getpixel((0, 0))) for row in rows] == [(name, COLOURS[name]) for name in COLOUR]


def tar(samples: list[dict[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number, sample in enumerate(samples):
            for suffix, content in sample.items():
                info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


WEBDATASETS = {
    "cls": ([{"png": png(name), "cls": str(i % 2).encode()} for i, name in enumerate(COLOUR)], ["0", "1", "0", "1"]),
    "json": ([{"png": png(name), "json": json.dumps({"label": name, "width": 8}).encode()} for name in COLOUR], COLOUR),
    "txt": ([{"png": png(name), "txt": name.encode()} for name in COLOUR], COLOUR),
}


def test_a_tar_file_is_read_row_by_row_and_what_would_unfold_in_it_is_not(hub):
    small = gzip.compress(bytes(50 * 2**20))
    samples = [
        {"png": png(name), "cls": b"1", "seg.png": png("green"), "json.gz": small, "npy": b"x"} for name in COLOUR
    ]
    samples.append({"png": png("red")[:30], "json": json.dumps({"a": "x" * 70_000}).encode()})
    hub.add_files(
        "alice/web", {"train-0000.tar": tar(samples), "train-0001.tar": tar(samples[:1])}, repo_type="dataset"
    )

    rows = open_dataset("alice/web", token=False, local=False)

    assert [row.picture.getpixel((0, 0)) for row in rows] == [COLOURS[name] for name in (*COLOUR, "red")]
    assert [row.key for row in rows] == [f"train/{i}" for i in (0, 1, 2, 3, 5)]
    assert set(rows.skipped) == {"train/4"}
    assert {label for _, label, _ in rows.sources} == {"1", None}


@pytest.mark.parametrize("kind", WEBDATASETS)
@pytest.mark.parametrize("large", [False, True])
def test_a_webdataset_has_its_labels(hub, monkeypatch, kind, large):
    samples, labels = WEBDATASETS[kind]
    hub.add_files("alice/web", {"train-0000.tar": tar(samples)}, repo_type="dataset")
    if large:
        monkeypatch.setattr("xaihub.datasets.LARGEST_DOWNLOAD", 10)

    rows = open_dataset("alice/web", token=False, local=False)

    colour = dict(zip(labels, COLOUR, strict=True))
    assert sorted(row.label for row in rows) == sorted(labels)
    assert all(row.picture.getpixel((0, 0)) == COLOURS[colour[row.label]] for row in rows)


def test_classes_that_the_card_declares_name_the_numbers(hub):
    card = (
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': cat\n          '1': dog\n---\n"
    )
    content = stored({"label": pa.array([1, 0, 1, 0])})
    hub.add_files("alice/carded", {"train.parquet": content, "README.md": card}, repo_type="dataset")

    rows = open_dataset("alice/carded")

    assert ([row.label for row in rows], rows.label_names) == (["dog", "cat", "dog", "cat"], ("cat", "dog"))


def test_a_word_of_a_value_is_right_on_paper():
    assert [word_of(value) for value in (3, 3.0, "3", ["3"], (3,), b"3", True, None, float("nan"), "", [], [None])] == [
        "3", "3", "3", "3", "3", "3", "True", None, None, None, None, None,
    ]  # fmt: skip
    assert [word_of(value, ("cat", "dog")) for value in (0, 1.0, [1], -1, 2, None)] == [
        "cat", "dog", "dog", None, None, None,
    ]  # fmt: skip
    for wrong in (["a", "b"], 0.5, {"a": 1}, [["a"]]):
        with pytest.raises(DatasetError, match="is not one label"):
            word_of(wrong)


def test_the_choice_is_a_function_of_kinds_and_values_alone():
    columns = [Column("a", "text", ["x", "y"] * 4), Column("b", "text", [str(i) for i in range(8)])]

    assert label_column(columns, "it").name == label_column(columns[::-1], "it").name == "a"


def test_a_stored_row_may_say_its_label_by_another_name_on_the_hub(hub):
    from datasets import Features, Image, Value

    columns = Features({"image": Image(), "dx": Value("string"), "lesion": Value("string")})
    rows = [
        {"image": {"bytes": png(name), "path": None}, "dx": name, "lesion": f"L{i}"} for i, name in enumerate(COLOUR)
    ]
    hub.add_files("alice/skin", {"data/train-00000-of-00001.parquet": parquet(rows, columns)}, repo_type="dataset")

    found = open_dataset("alice/skin", labels=["blue"])

    assert ([row.label for row in found], found.label_names) == (["blue", "blue"], ("blue",))
