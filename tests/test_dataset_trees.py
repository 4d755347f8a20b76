"""How trees of images are read: the right reading of each was written down by hand before it was tried."""

import gc
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_datasets import parquet, png, write

from xaihub import open_dataset
from xaihub.auditing import audit
from xaihub.datasets import open_splits, splits_of
from xaihub.datasets.tree import layout_of, parse_layout
from xaihub.errors import DatasetError

PETS = ("cat", "dog")


def tree(*folders: str) -> list[str]:
    """Three files in each of these folders; "" is the root."""
    return [f"{folder}/{i}.png".lstrip("/") for folder in folders for i in range(3)]


def each(*folders: str, inside: str = "{}") -> list[str]:
    """The folders with a folder for each pet in them: each("train") is train/cat and train/dog."""
    return [f"{folder}/{inside.format(pet)}".lstrip("/") for folder in folders for pet in PETS]


def read(paths: list[str]) -> dict[str | None, Counter]:
    """Split -> how many images of each label."""
    found: dict[str | None, Counter] = {}
    for one in layout_of(paths, "the folder").place(paths).values():
        found.setdefault(one.split, Counter())[one.label] += 1
    return found


BOTH, NONE = {"cat": 3, "dog": 3}, {None: 3}

TREES = {
    "class folders": (tree(*PETS), {None: BOTH}),
    "one class": (tree("cat"), {None: {"cat": 3}}),
    "splits of class folders": (tree(*each("train", "test")), {"train": BOTH, "test": BOTH}),
    "a flat test": (tree(*each("train"), "test"), {"train": BOTH, "test": NONE}),
    "a flat test and validation": (
        tree(*each("train"), "test", "val"), {"train": BOTH, "test": NONE, "validation": NONE},
    ),
    "training_set": (tree(*each("training_set", "test_set")), {"train": BOTH, "test": BOTH}),
    "capitals": (tree(*each("Train", "TEST")), {"train": BOTH, "test": BOTH}),
    "valid": (tree(*each("train", "valid")), {"train": BOTH, "validation": BOTH}),
    "dev": (tree(*each("train", "dev")), {"train": BOTH, "validation": BOTH}),
    "eval": (tree(*each("train", "eval")), {"train": BOTH, "test": BOTH}),
    "years": (tree(*each("train2017", "val2017")), {"train": BOTH, "validation": BOTH}),
    "images_train": (tree(*each("images_train", "images-val")), {"train": BOTH, "validation": BOTH}),
    "one wrapping folder": (tree(*each("pets/train", "pets/test")), {"train": BOTH, "test": BOTH}),
    "two wrapping folders": (tree(*each("a/b/train", "a/b/test")), {"train": BOTH, "test": BOTH}),
    "wrapped classes": (tree(*each("pets-master/data")), {None: BOTH}),
    "one split, wrapped": (tree(*each("dataset/train")), {"train": BOTH}),
    "splits said twice": (tree(*each("train/train", "test/test")), {"train": BOTH, "test": BOTH}),
    "splits said twice, otherwise": (
        tree(*each("train/train_images", "test/test_images")), {"train": BOTH, "test": BOTH},
    ),
    "images in each split": (tree(*each("train/images"), "test/images"), {"train": BOTH, "test": NONE}),
    "images in each class": (
        tree(*each("train", inside="{}/images"), "val/images", "test/images"),
        {"train": BOTH, "validation": NONE, "test": NONE},
    ),
    "images over splits": (tree(*each("images/train", "images/val")), {"train": BOTH, "validation": BOTH}),
    "an extra unlabeled": (tree(*each("train", "test"), "unlabeled"), {"train": BOTH, "test": BOTH, "unlabeled": NONE}),
    "train and unlabelled": (tree(*each("train"), "unlabelled_data"), {"train": BOTH, "unlabelled_data": NONE}),
    "splits of another name": (tree(*each("train", "test", "mine")), {"train": BOTH, "test": BOTH, "mine": BOTH}),
    "class, then split": (tree(*(f"{p}/{s}" for p in PETS for s in ("train", "test"))), {"train": BOTH, "test": BOTH}),
    "class, split, patient": (
        tree("cat/train/p1", "cat/test/p2", "dog/train/p3", "dog/test/p4"), {"train": BOTH, "test": BOTH},
    ),
    "class in the split's name": (tree("trainA", "trainB", "testA", "testB"), {
        "train": {"A": 3, "B": 3}, "test": {"A": 3, "B": 3}}),
    "split in the class's name": (
        tree("cat_train", "dog_train", "cat_test", "dog_test"), {"train": BOTH, "test": BOTH},
    ),
    "split in the file's name": (
        [f"{pet}/{split}_{i}.png" for pet in PETS for split in ("train", "test") for i in range(3)],
        {"train": BOTH, "test": BOTH},
    ),
    "flat splits": (tree("train", "test"), {"train": NONE, "test": NONE}),
    "batches": (tree(*each("batch_1", "batch_2")), {None: {"cat": 6, "dog": 6}}),
    "cross-validation": (tree(*each("fold1/train", "fold2/test")), {"train": BOTH, "test": BOTH}),
    "patients in classes": (tree("cat/p01", "cat/p02", "dog/p03"), {None: {"cat": 6, "dog": 3}}),
    "some deeper": (tree("cat", "cat/more", "dog"), {None: {"cat": 6, "dog": 3}}),
    "means of transport": (tree("train", "bus", "car"), {None: {"train": 3, "bus": 3, "car": 3}}),
    "pregnancy tests": (tree("test", "control"), {None: {"test": 3, "control": 3}}),
    "kinds of tests": (tree("rapid_test", "blood_test"), {None: {"rapid_test": 3, "blood_test": 3}}),
    "trains of several kinds": (tree("train/red", "ship/red"), {None: {"train": 3, "ship": 3}}),
    "classes with numbers": (tree(*each("train", "test", inside="class_{}1")), {
        "train": {"class_cat1": 3, "class_dog1": 3}, "test": {"class_cat1": 3, "class_dog1": 3}}),
    "digits": (tree("0", "1"), {None: {"0": 3, "1": 3}}),
    "photographs and sketches": (tree("photo", "sketch"), {None: {"photo": 3, "sketch": 3}}),
    "a stray in front": ([*tree(*each("pets/train", "pets/test")), "preview.png"], {"train": BOTH, "test": BOTH}),
    "a stray in a split": ([*tree(*each("train", "test")), "train/0.png"], {"train": BOTH, "test": BOTH}),
    "two folders of one split": (tree(*each("val", "dev")), {"validation": {"cat": 6, "dog": 6}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TREES)
def test_a_tree_is_read_as_a_person_reads_it(kind):
    paths, expected = TREES[kind]

    assert read(paths) == expected


def test_the_reading_does_not_depend_on_the_order_of_the_listing():
    for paths, expected in TREES.values():
        assert read(paths[::-1]) == expected


AMBIGUOUS = {
    "train, test and bus": (tree("train", "test", "bus"), {"{split}", "{label}"}),
    "transport with parts": (tree("train/steam", "train/diesel", "bus/city"), {"{split}/{label}", "{label}"}),
    "train and something flat": (tree(*each("train"), "mine"), {"{split}/{label}", "{label}"}),
    "day and night": (tree(*each("day", "night")), {"{label}", "*/{label}"}),
    "kinds of kinds": (tree("animal/cat", "animal/dog", "vehicle/bus"), {"{label}", "*/{label}"}),
    "kinds of kinds in splits": (
        tree(*each("train/day", "train/night", "test/day")), {"{split}/{label}", "{split}/*/{label}"},
    ),
    "one class without splits": (tree("cat/train", "cat/test", "dog"), {"{label}/{split}", "{label}"}),
    "one name and two splits": (tree("cat_train", "cat_test"), {"{split}_{label}", "{label}"}),
    "day and night around splits": (
        tree("day/train/cat", "day/test/dog", "night/train/cat"), {"{label}/{split}", "*/{split}/{label}"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_of_two_readings_both_are_named_and_each_can_be_chosen(tmp_path, kind):
    paths, layouts = AMBIGUOUS[kind]
    folder = write(tmp_path, dict.fromkeys(paths, png("red")))

    with pytest.raises(DatasetError, match="can be read in two ways") as raised:
        open_dataset(folder)

    assert {layout for layout in layouts if f"layout={layout!r}" in str(raised.value)} == layouts
    one, other = (
        [
            (split, row.key, row.label)
            for split in splits_of(folder, layout=layout) or [None]
            for row in open_dataset(folder, layout=layout, split=split)
        ]
        for layout in sorted(layouts)
    )
    assert one != other


def noise(seed: int) -> bytes:
    """A picture that is no copy of one with another seed."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_a_layout_says_what_each_level_is(tmp_path):
    folder = write(tmp_path, dict.fromkeys(tree(*each("day", "night")), png("red")))

    assert open_dataset(folder, layout="{label}").label_names == ("day", "night")
    assert open_dataset(folder, layout="*/{label}").label_names == PETS
    assert open_dataset(folder, layout="{split}/{label}", split="night").label_names == PETS
    assert splits_of(folder, layout="{split}/{label}") == ["day", "night"]
    for wrong in ("", "{label}/{label}", "cat/{label}", "{split}/{classes}"):
        with pytest.raises(DatasetError, match=r"The layout .* cannot be read\. Write what each level"):
            parse_layout(wrong)


IMAGEFOLDER = [
    "class folders", "splits of class folders", "training_set", "valid", "dev", "eval", "years", "one wrapping folder",
    "wrapped classes", "two folders of one split", "images over splits",
]  # fmt: skip


@pytest.mark.parametrize("kind", IMAGEFOLDER)
def test_the_datasets_library_reads_the_same_where_it_reads_the_tree_at_all(tmp_path, kind):
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    paths, expected = TREES[kind]
    write(tmp_path / "tree", dict.fromkeys(paths, png("red")))

    theirs = load_dataset("imagefolder", data_dir=str(tmp_path / "tree"), cache_dir=str(tmp_path / "cache"))

    counted = {
        split: Counter(rows.features["label"].int2str(label) for label in rows["label"])
        for split, rows in theirs.items()
    }
    assert counted == {split or "train": Counter(labels) for split, labels in expected.items()}


def test_a_flat_test_beside_class_folders_is_no_class_and_an_audit_compares_cats_with_dogs(tmp_path):
    """All other readings would compare the splits, and find no shortcut between the pets."""
    paths = tree(*each("train"), "test")
    folder = write(tmp_path, {path: png("red" if "cat" in path else "blue") for path in paths})

    rows = {rows.split: rows for rows in open_splits(folder)}

    assert (rows["train"].label_names, len(rows["train"])) == (PETS, 6)
    assert ([row.label for row in rows["test"]], rows["test"].notices) == (
        [None] * 3, ("No image of this split has a label",),
    )  # fmt: skip
    write(
        folder,
        {f"train/{pet}/more {i}.png": noise(10 * i + place) for i in range(21) for place, pet in enumerate(PETS)},
    )
    assert audit(folder).labels == {"cat": 24, "dog": 24}


# Tables


NAMES = [f"{i}.png" for i in range(4)]
LABELS = ["cat", "dog", "dog", "cat"]
RIGHT = dict(zip(NAMES, LABELS, strict=True))


def each_row(form: str) -> str:
    return "".join(form.format(name=name, stem=name[0], label=label) for name, label in RIGHT.items())


TABLES = {
    "labels.csv": ("file_name,label\n" + each_row("{name},{label}\n")).encode(),
    "train.csv": ("id,breed\n" + each_row("{stem},{label}\n")).encode(),
    "HAM_metadata.csv": ("image_id,dx,age,sex\n" + each_row("{stem},{label},4{stem},f\n")).encode(),
    "other.tsv": ("path\tclass\n" + each_row("images/{name}\t{label}\n")).encode(),
    "semicolons.csv": ("\ufefffilename;category\r\n" + each_row("{name};{label}\r\n")).encode(),
    "kaggle.csv": ("image,target\n" + each_row("../input/pets/images/{name},{label}\n")).encode(),
    "no header.csv": each_row("{name},{label}\n").encode(),
    "windows.csv": ("image_path,label\n" + each_row("images\\{name},{label}\n")).encode("utf-16"),
    "metadata.jsonl": each_row('{{"file_name": "images/{name}", "label": "{label}"}}\n').encode(),
    "labels.json": json.dumps(RIGHT).encode(),
    "list.json": json.dumps([{"image": name, "label": label} for name, label in RIGHT.items()]).encode(),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_beside_images_says_their_labels(tmp_path, table):
    folder = write(tmp_path, {f"images/{name}": png("red") for name in NAMES} | {table: TABLES[table]})

    rows = open_dataset(folder)

    assert {row.key.split("/")[-1]: row.label for row in rows} == RIGHT
    assert rows.label_names == PETS


def test_a_table_of_parquet_says_the_labels_too(tmp_path):
    from datasets import ClassLabel, Features, Value

    columns = Features({"file_name": Value("string"), "label": ClassLabel(names=["dog", "cat"])})
    rows = [{"file_name": name, "label": int(label == "cat")} for name, label in RIGHT.items()]
    folder = write(tmp_path, {name: png("red") for name in NAMES} | {"metadata.parquet": parquet(rows, columns)})

    assert {row.key: row.label for row in open_dataset(folder)} == RIGHT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_split_may_have_its_own_table(tmp_path):
    """As `imagefolder` of the datasets library wants it, which reads the same."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    for split, labels in (("train", LABELS), ("test", LABELS[::-1])):
        rows = "".join(f"{name},{label}\n" for name, label in zip(NAMES, labels, strict=True))
        files = {name: png("red") for name in NAMES} | {"metadata.csv": f"file_name,label\n{rows}".encode()}
        write(tmp_path / "pets" / split, files)

    train, test = open_splits(tmp_path / "pets")

    assert [(row.key, row.label) for row in train] == list(RIGHT.items())
    assert [row.label for row in test] == LABELS[::-1]
    theirs = load_dataset("imagefolder", data_dir=str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache"))
    gc.collect()  # the library leaves the tables open
    assert (theirs["train"]["label"][:], theirs["test"]["label"][:]) == (LABELS, LABELS[::-1])


def test_the_split_may_stand_in_the_table_or_in_its_name(tmp_path):
    images = {f"images/{name}": png("red") for name in NAMES}
    column = "name,label,split\n0.png,cat,train\n1.png,dog,train\n2.png,dog,val\n3.png,cat,test\n"
    one = write(tmp_path / "one", images | {"all.csv": column.encode()})
    two = write(tmp_path / "two", images | {
        "train.csv": b"name,label\n0.png,cat\n1.png,dog\n", "test.csv": b"name\n2.png\n3.png\n"})  # fmt: skip

    assert [(rows.split, [row.label for row in rows]) for rows in open_splits(one)] == [
        ("train", ["cat", "dog"]), ("validation", ["dog"]), ("test", ["cat"]),
    ]  # fmt: skip
    assert [(rows.split, [row.label for row in rows]) for rows in open_splits(two)] == [
        ("train", ["cat", "dog"]), ("test", [None, None]),
    ]  # fmt: skip


def test_folders_and_table_that_say_the_same_are_no_two_readings_and_others_are(tmp_path):
    images = {f"{label}/{name}": png("red") for name, label in RIGHT.items()}
    numbers = "file_name,label\n" + "".join(f"{label}/{n},{int(label == 'dog')}\n" for n, label in RIGHT.items())
    other = "file_name,breed\n" + "".join(f"{label}/{n},{'ab'[i % 2]}\n" for i, (n, label) in enumerate(RIGHT.items()))
    same = write(tmp_path / "same", images | {"labels.csv": numbers.encode()})
    both = write(tmp_path / "both", images | {"labels.csv": other.encode()})

    assert {row.key.split("/")[-1]: row.label for row in open_dataset(same)} == RIGHT
    with pytest.raises(DatasetError, match=r"labels in its folders \(cat, dog\) and others in labels\.csv \(breed\)"):
        open_dataset(both)
    assert open_dataset(both, layout="{label}").label_names == PETS
    assert open_dataset(both, label_column="breed").label_names == ("a", "b")


def test_parts_of_an_archive_are_no_classes_where_a_table_says_these(tmp_path):
    files = {f"HAM_images_part_{1 + int(name[0]) // 2}/{name}": png("red") for name in NAMES}
    folder = write(tmp_path, files | {"HAM_metadata.csv": TABLES["HAM_metadata.csv"]})

    assert {row.key[-5:]: row.label for row in open_dataset(folder)} == RIGHT


@pytest.mark.parametrize("place", ["images", "train"])
def test_of_several_columns_of_a_table_one_has_to_be_named(tmp_path, place):
    table = "file_name,breed,species\n0.png,a,x\n1.png,b,x\n2.png,a,y\n3.png,b,y\n"
    folder = write(tmp_path, {f"{place}/{name}": png("red") for name in NAMES} | {f"{place}/x.csv": table.encode()})

    with pytest.raises(DatasetError, match=r"x\.csv of .* has several columns that may be its labels: breed, species"):
        open_dataset(folder)
    assert [row.label for row in open_dataset(folder, label_column="species")] == ["x", "x", "y", "y"]


def test_images_that_a_table_does_not_name_and_rows_without_images_are_counted(tmp_path):
    table = "file_name,label\n0.png,cat\n1.png,dog\nlost.png,dog\n"
    folder = write(tmp_path, {name: png("red") for name in NAMES} | {"labels.csv": table.encode()})

    rows = open_dataset(folder)

    assert [(row.key, row.label) for row in rows] == [("0.png", "cat"), ("1.png", "dog")]
    assert rows.notices == (
        "2 images were left out: no folder or table names the class",
        "1 rows of labels.csv name no image of the folder",
    )


def test_an_image_with_several_labels_in_a_table_is_refused(tmp_path):
    folder = write(
        tmp_path, {"a.png": png("red"), "b.png": png("red"), "x.csv": b"file,label\na.png,1\nb.png,1\na.png,2\n"}
    )

    with pytest.raises(DatasetError, match=r"gives 'a\.png' several labels: '1' and '2'"):
        open_dataset(folder, label_column="label")


def test_tables_are_capped_before_they_are_read(tmp_path, monkeypatch):
    from xaihub.datasets import class_folders

    monkeypatch.setattr(class_folders, "MAX_TABLE_BYTES", 20)
    folder = write(tmp_path, {name: png("red") for name in NAMES} | {"labels.csv": TABLES["labels.csv"]})

    with pytest.raises(DatasetError, match=r"labels\.csv has 0 MB; tables of at most 0 MB"):
        open_dataset(folder)


# The Hub


def test_a_tree_on_the_hub_is_read_as_the_same_tree_on_a_disk(hub, tmp_path):
    """Also where the datasets library takes the splits for classes."""
    kinds = [
        "class, then split",
        "a flat test",
        "capitals",
        "an extra unlabeled",
        "images in each class",
        "flat splits",
    ]
    for number, kind in enumerate(kinds):
        files = {path: png("red") for path in TREES[kind][0]}
        hub.add_files(f"alice/tree{number}", files, repo_type="dataset")

        rows = {rows.split: Counter(row.label for row in rows) for rows in open_splits(f"alice/tree{number}")}

        assert rows == TREES[kind][1], kind
    folder = write(tmp_path, {path: png("red") for path in TREES["class, then split"][0]})
    assert {rows.split: Counter(row.label for row in rows) for rows in open_splits(folder)} == {
        "train": BOTH,
        "test": BOTH,
    }


def test_of_images_on_the_hub_only_those_that_are_drawn_are_fetched(hub):
    hub.add_files("alice/many", dict.fromkeys(tree("cat", "dog"), png("red")), repo_type="dataset")

    rows = open_dataset("alice/many", limit=2)

    assert [row.label for row in rows] == ["cat", "dog"]
    fetched = {request.path for request in hub.requests if request.path.endswith(".png")}
    assert len(fetched) == 2


def test_two_readings_on_the_hub_are_named_too(hub):
    hub.add_files("alice/two", dict.fromkeys(tree(*each("day", "night")), png("red")), repo_type="dataset")

    with pytest.raises(
        DatasetError, match=r"alice/two can be read in two ways.*layout='\{label\}' or layout='\*/\{label"
    ):
        open_dataset("alice/two", token=False, local=False)
    assert open_dataset("alice/two", layout="*/{label}").label_names == PETS


def test_a_table_of_any_name_on_the_hub_says_the_labels(hub):
    files = {f"images/{name}": png("red") for name in NAMES} | {"labels.csv": TABLES["labels.csv"]}
    hub.add_files("alice/table", files, repo_type="dataset")

    assert [row.label for row in open_dataset("alice/table", token=False, local=False)] == LABELS


def test_every_script_that_reads_a_dataset_can_choose(tmp_path, capsys):
    """The page cannot: there the error says what the author of the dataset has to do."""
    import runpy

    for script in ("audit_dataset", "build_dataset", "build_references", "evaluate_classifier", "train_classifier"):
        made = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / f"{script}.py"))
        help_ = made["parser"]().format_help()
        assert all(option in help_ for option in ("--layout", "--label-column", "--image-column")), script
