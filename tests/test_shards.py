"""Work in shards: whole or not there, the same bytes however often it was stopped, merged without being held."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from toy_networks import ColourCounter, classifier_of

from xaihub import building
from xaihub.datasets import from_pairs
from xaihub.errors import CancelledError, DatasetError, ReferencesError
from xaihub.references import load_references
from xaihub.shards import Embedded, Packed, Work, key_of, merged


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "references"


def part(rows, classes: int = 3, width: int = 4) -> Embedded:
    rows = np.array(rows, dtype=np.int64)
    drawn = [np.random.default_rng(row).standard_normal(width) for row in rows]
    vectors = torch.from_numpy(np.array(drawn).reshape(len(rows), width).astype(np.float16))
    columns = {
        "key": [f"row {row}" for row in rows],
        "label": [None if row % 5 == 0 else "ü" * (row % 3) for row in rows],
        "source": [None] * len(rows),
        "digest": [bytes([row % 256]) * 32 for row in rows],
        "picture": [None if row % 4 == 0 else bytes([row % 256]) * (row % 7) for row in rows],
    }
    return Embedded(
        rows, {name: Packed.of(values) for name, values in columns.items()}, rows.astype(np.uint64) << np.uint64(40),
        torch.from_numpy(rows[:, None] * 10 + np.arange(classes)).float(), rows * 7 % classes,
        (rows / 1000).astype(np.float32), {"a": vectors, "b": vectors[:, :2]},
        {"a": torch.from_numpy(rows).float(), "b": -torch.from_numpy(rows).float()}, {"lost": "torn"},
    )  # fmt: skip


@pytest.fixture
def work(tmp_path) -> Work:
    work = Work(tmp_path / "work", key_of(["some", 1]), rows=43, size=10)
    for number in range(5):
        rows = range(work.span(number).start, work.span(number).stop)
        work.write(number, part([] if number == 1 else rows))  # of the second shard none could be read
    return work


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_merge_equals_a_plain_sort(work, tmp_path, on_disk):
    rows = [row for row in range(43) if not 10 <= row < 20]
    whole, order = part(rows), sorted(range(33), key=lambda i: (rows[i] * 7 % 3, rows[i]))
    found = merged(work, tmp_path if on_disk else None)
    assert work.missing() == []
    work.forget()
    assert found.rows.tolist() == [rows[i] for i in order]
    for name in ("predicted", "probability", "hashes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name)[order])
    assert torch.equal(found.logits, whole.logits[order])
    for name in ("a", "b"):
        assert found.vectors[name].dtype == torch.float16
        assert torch.equal(found.vectors[name], torch.cat([part([rows[i]]).vectors[name] for i in order]))
        assert torch.equal(found.lengths[name], whole.lengths[name][order])
    labels = [whole.columns["label"][i] for i in order]
    assert list(found.columns["label"]) == [None if label is None else label.decode() for label in labels]
    assert list(found.columns["picture"]) == [whole.columns["picture"][i] for i in order]
    assert found.columns["digest"][3] == whole.columns["digest"][order[3]].hex()
    assert found.columns["key"][2:4] == [f"row {rows[i]}" for i in order[2:4]]
    assert found.skipped == {"lost": "torn"}


@pytest.mark.parametrize("how", ["cut", "zeros", "foreign", "elsewhere", "none", "text"])
def test_a_torn_or_foreign_shard_is_missing(work, how):
    file = work.file(2)
    data = file.read_bytes()
    if how == "cut":
        file.write_bytes(data[:-7])
    elif how == "zeros":  # a disk that lost power: the right length, other bytes
        file.write_bytes(data[:-40] + bytes(40))
    elif how == "foreign":
        replace(work, key=key_of(["other"])).write(2, part(range(20, 30)))
    elif how == "elsewhere":
        file.write_bytes(work.file(3).read_bytes())
    elif how == "text":
        file.write_text("not tensors")
    else:
        file.unlink()
    assert work.missing() == [2]
    assert work.missing([0, 4]) == []
    if how != "zeros":
        with pytest.raises(ReferencesError, match=r"shard-00002-of-00005.safetensors is missing"):
            work[2]
    work.write(2, part(range(20, 30)))
    assert work.missing() == []
    assert file.read_bytes() == data, "done again, it is the same"


def colours(count: int):
    def picture(seed: int) -> Image.Image:
        generator = np.random.default_rng(seed)
        levels = generator.integers(0, 256, 3) + generator.integers(-60, 60, (20, 20, 3))
        return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))

    return from_pairs("colours", [(f"row {i}", ("red", "green")[i % 2], picture(i)) for i in range(count)])


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(ColourCounter(0.01))


def contents(references, folder):
    references.write(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_stopped_anywhere_and_gone_on_it_ends_with_the_bytes_of_one_in_memory(classifier, cache, tmp_path):
    options = {"batch_size": 4, "fidelity": False, "embedder": ["contribution", "target-layer"]}
    rows = colours(40)
    rows.sources = [*rows.sources[:10], ("broken", "red", lambda: b"no picture"), *rows.sources[11:]]
    stops = [0]

    def stop(share, stage):
        stops[0] += 1
        if stops[0] in (4, 9):
            raise CancelledError("Stopped.")

    for kept in (1, 3):
        with pytest.raises(CancelledError, match=rf"Stopped. {kept} of 5 shards are kept: the same call goes on"):
            building.build_references(classifier, rows, shard_rows=8, progress=stop, **options)
    told = []
    resumed = building.build_references(
        classifier, rows, shard_rows=8, progress=lambda share, stage: told.append(stage), **options
    )
    assert told[0] == "Embedding picture 28 of 40", "the first three shards are not made again"
    assert list(cache.iterdir()) == []
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    whole = contents(building.build_references(classifier, rows, shard_rows=8, **options), tmp_path / "a")
    assert contents(resumed, tmp_path / "b") == whole
    assert resumed.made.skipped == 1
    assert load_references(tmp_path / "b").picture(3).tobytes() == resumed.picture(3).tobytes()
    small = colours(40)
    in_memory = building.build_references(classifier, small, **options)
    on_disk = building.build_references(classifier, small, shard_rows=8, **options)
    assert contents(in_memory, tmp_path / "c") == contents(on_disk, tmp_path / "a")


def test_few_pictures_touch_no_disk(classifier, cache):
    built = building.build_references(classifier, colours(9), fidelity=False)
    assert isinstance(built.keys, tuple)
    assert not cache.exists()


def test_the_key_knows_what_the_result_depends_on(classifier, tmp_path):
    from xaihub.embedders import EMBEDDERS

    rows, embedders = colours(20), (EMBEDDERS["contribution"],)
    first = building.Building(classifier, rows, embedders, 4, 8).work.key
    assert building.Building(classifier, colours(20), embedders, 4, 8).work.key == first
    weaker = ColourCounter(0.01)
    with torch.no_grad():
        weaker.features.weight[0] *= 0.5
    others = [
        building.Building(classifier, rows, embedders, 2, 8),
        building.Building(classifier, rows, embedders, 4, 10),
        building.Building(classifier, rows, (EMBEDDERS["target-layer"],), 4, 8),
        building.Building(classifier, colours(21), embedders, 4, 8),
        building.Building(classifier, replace(rows, revision="b" * 40), embedders, 4, 8),
        building.Building(classifier_of(weaker), rows, embedders, 4, 8),
        building.Building(replace(classifier, revision="c" * 40), rows, embedders, 4, 8),
    ]
    assert len({first, *(other.work.key for other in others)}) == 8
    other_picture = colours(20)
    other_picture.sources = [("row 0", "red", lambda: b"another"), *other_picture.sources[1:]]
    assert building.Building(classifier, other_picture, embedders, 4, 8).work.key != first


def test_shards_of_other_pictures_in_memory_are_not_gone_on_with(classifier):
    options = {"shard_rows": 20, "batch_size": 10, "fidelity": False}

    def stop(share, _stage):
        if share > 0.5:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError, match="2 of 3 shards are kept"):
        building.build_references(classifier, colours(60), progress=stop, **options)
    changed = colours(60)
    key, label, _ = changed.sources[1]  # not among those that were once looked at
    changed.sources = [changed.sources[0], (key, label, changed.sources[50][2]), *changed.sources[2:]]
    resumed = building.build_references(classifier, changed, **options)
    fresh = building.build_references(classifier, changed, resume=False, **options)
    assert list(resumed.digests) == list(fresh.digests)
    assert resumed.digests[list(resumed.keys).index("row 1")] == resumed.digests[list(resumed.keys).index("row 50")]


def test_nothing_to_read_in_any_shard_is_a_sentence(classifier):
    rows = colours(10)
    rows.sources = [(key, label, lambda: b"no") for key, label, _ in rows.sources]
    with pytest.raises(DatasetError, match="None of the 10 pictures of colours could be read"):
        building.build_references(classifier, rows, shard_rows=4)


def test_a_million_in_small(tmp_path, capsys):
    pytest.importorskip("psutil")
    from benchmarks import million

    found = million.measure(tmp_path, rows=3_000, width=16, size=500, kills=2)
    assert found.kills == 2
    assert found.shards_kept, "what was finished before a kill was not made again"
    assert found.same_neighbours
