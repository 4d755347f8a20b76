"""Room on the host's disk: what was used longest ago goes, what is in use or the host's own stays."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from hub_fixture import forget_downloads
from tiny_models import TINY, build, picture, processor_of, push

from xaihub import hub as hub_client
from xaihub.errors import DownloadError
from xaihub.explaining import explain
from xaihub.hub import Disk, repo_folder
from xaihub.progress import silent
from xaihub.ui.desk import Desk
from xaihub.ui.settings import Settings

MODELS = [f"alice/model-{i:02d}" for i in range(12)]


@pytest.fixture
def models(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path))
    tiny = TINY["resnet"]
    network, processor = build(tiny), processor_of(tiny)
    for name in MODELS:
        push(hub, name, network, processor)
    forget_downloads()  # publishing leaves something in the cache
    return hub


def megabytes(name):
    folder = repo_folder("model", name)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def opened(desk, name):
    return desk.classifier(desk.look(name, ""), "", silent)


def here():
    return [name for name in MODELS if repo_folder("model", name).exists()]


@pytest.fixture
def budget(models):
    """Of three models and a half."""
    desk = Desk(Settings())
    opened(desk, MODELS[0])
    size = megabytes(MODELS[0])
    shutil.rmtree(repo_folder("model", MODELS[0]))
    return int(3.5 * size)


def desk_with(budget, **settings):
    desk = Desk(Settings(memory_megabytes=0, **settings))  # nothing is kept in memory: each question needs its files
    desk.disk.disk.budget = budget
    return desk


def test_twelve_models_go_through_room_for_three_and_the_one_used_longest_ago_goes_each_time(budget, models):
    desk = desk_with(budget)
    for i, name in enumerate(MODELS):
        assert opened(desk, name).labels
        assert here() == MODELS[max(0, i - 2) : i + 1]
    models.requests.clear()
    again = opened(desk, MODELS[0])
    assert here() == [MODELS[0], MODELS[10], MODELS[11]]
    assert [seen.path for seen in models.requests if seen.path.endswith("model.safetensors") and seen.method == "GET"]
    assert explain(again, picture(64, 64), "gradcam")["gradcam"]


def test_use_counts_not_age(budget):
    desk = desk_with(budget)
    for name in MODELS[:3]:
        opened(desk, name)
    opened(desk, MODELS[0])
    opened(desk, MODELS[3])
    assert here() == [MODELS[0], MODELS[2], MODELS[3]]


def test_a_question_answered_from_memory_counts_as_use(budget):
    desk = Desk(Settings())
    desk.disk.disk.budget = budget
    for name in MODELS[:3]:
        opened(desk, name)
    assert opened(desk, MODELS[0]) is opened(desk, MODELS[0])
    opened(desk, MODELS[3])
    assert here() == [MODELS[0], MODELS[2], MODELS[3]]


def test_what_is_in_use_stays_and_what_then_does_not_fit_is_told_with_both_figures(budget):
    desk = desk_with(budget)
    plans = [desk.look(name, "") for name in MODELS[:3]]
    for name in MODELS[:3]:
        opened(desk, name)
    with desk.disk.room(plans[0]), desk.disk.room(plans[1]):
        opened(desk, MODELS[3])
        assert here() == [MODELS[0], MODELS[1], MODELS[3]]
        last = desk.look(MODELS[3], "")
        with desk.disk.room(last), pytest.raises(DownloadError) as refused:
            opened(desk, MODELS[5])
        assert f"{MODELS[5]} needs 0 MB on the disk of this host; 0 MB may be kept here" in str(refused.value)
    opened(desk, MODELS[5])


def test_the_hosts_own_model_and_what_was_there_before_never_go(budget, models):
    hub_client.fetch(hub_client.look(MODELS[1]), ["config.json", "model.safetensors"])  # by somebody else
    desk = desk_with(budget, model=MODELS[0])
    for name in (MODELS[0], MODELS[1], *MODELS[2:7]):
        opened(desk, name)
    assert MODELS[0] in here()
    assert MODELS[1] in here()
    assert MODELS[6] in here()
    assert MODELS[2] not in here()


def test_a_full_disk_keeps_its_reserve(models, monkeypatch):
    usage = namedtuple("usage", "total used free")
    desk = Desk(Settings(memory_megabytes=0, reserve_megabytes=1000))
    opened(desk, MODELS[0])
    size = megabytes(MODELS[0])
    state = {"free": 1000 * 10**6 + 2 * size}

    def free(_folder):
        return usage(10**12, 0, state["free"] - sum(megabytes(name) for name in here()) + size)

    monkeypatch.setattr("xaihub.hub.room.shutil.disk_usage", free)
    for name in MODELS[:5]:
        opened(desk, name)
        assert free("").free >= 1000 * 10**6
    assert MODELS[4] in here()
    state["free"] = 900 * 10**6
    with pytest.raises(DownloadError, match=r"MB are free, of which 1,000 MB stay free\. Try a smaller model"):
        opened(desk, MODELS[6])


def test_what_a_killed_download_left_goes_before_anything_else_does_not_fit(tmp_path):
    disk = Disk(tmp_path / "record", budget=1000)
    pinned, other = tmp_path / "models--a--pinned", tmp_path / "models--a--other"
    for path in (pinned, other):
        with disk.fetching(path), disk.using(path, path.name, 100):
            (path / "blobs").mkdir(parents=True)
            (path / "blobs" / "whole").write_bytes(b"x" * 100)
    rest = pinned / "blobs" / "part.incomplete"
    rest.write_bytes(b"x" * 700)
    os.utime(rest, (0, 0))
    disk.pinned = frozenset({pinned})
    third = tmp_path / "models--a--third"
    with disk.using(third, "third", 300):
        assert not rest.exists()
        assert (pinned / "blobs" / "whole").exists()
        assert (other / "blobs" / "whole").exists()


def test_two_downloads_at_once_are_not_promised_the_same_room(tmp_path):
    disk = Disk(tmp_path / "record", budget=1000)
    first, second = tmp_path / "first", tmp_path / "second"
    refused = pytest.raises(DownloadError, match="a/second needs")
    with disk.using(first, "a/first", 600), refused, disk.using(second, "a/second", 600):
        raise AssertionError("there was no room")
    with disk.using(second, "a/second", 600):
        pass


def test_refused_repositories_leave_nothing_that_could_not_go(budget, models):
    desk = desk_with(budget)
    models.add_files("alice/text", {"config.json": '{"model_type": "bert"}', "model.safetensors": b"x" * 64})
    with pytest.raises(Exception, match="is not an image classifier"):
        desk.look("alice/text", "")
    path = repo_folder("model", "alice/text")
    assert path.exists()
    assert path in desk.disk.disk.kept()
    assert Path(desk.disk.disk.record).is_dir()
