"""scripts/audit_dataset.py: from a folder, or a dataset of the Hub, to a report; and what is refused."""

import importlib.util
import io
import json
from pathlib import Path

import pytest
from tiny_datasets import write
from tiny_models import picture

ROOT = Path(__file__).parents[1]


@pytest.fixture
def main(monkeypatch, tmp_path):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("script_audit_dataset", ROOT / "scripts" / "audit_dataset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([str(argument) for argument in arguments])


def encoded(seed: int, kind: str) -> bytes:
    stream = io.BytesIO()
    picture(40, 40, seed=seed).save(stream, kind)
    return stream.getvalue()


def files(prefix: str = "") -> dict[str, bytes]:
    made = {f"{prefix}fake/{i}.png": encoded(i, "PNG") for i in range(12)}
    return made | {f"{prefix}real/{i}.jpg": encoded(50 + i, "JPEG") for i in range(12)}


def test_a_folder_becomes_a_report_and_its_path_is_the_last_line(main, tmp_path, capsys):
    data, to = write(tmp_path / "data", files()), tmp_path / "audit"
    assert main("--data", data, "--to", to, "--seed", 3) == 0
    *_, said, last = capsys.readouterr().out.splitlines()
    assert last == str(to / "report.html")
    assert said.startswith("Do not trust an accuracy")
    held = json.loads((to / "audit.json").read_text("utf-8"))
    assert held["findings"][0]["name"] == "format"
    assert (held["seed"], held["classifier"]) == (3, None)
    assert main("--data", data, "--to", to) == 0  # an earlier audit is replaced


def test_a_dataset_of_the_hub_with_a_model_and_its_other_splits(main, hub, tmp_path, capsys):
    copied = {name.replace("train", "test"): data for name, data in list(files("train/").items())[:3]}
    hub.add_files("alice/made", files("train/") | copied, repo_type="dataset")
    to = tmp_path / "audit"
    assert main("--data", "alice/made", "--model", "xaihub/paper-pets", "--trials", 3, "--to", to) == 0
    held = json.loads((to / "audit.json").read_text("utf-8"))
    assert held["near_copies"]["other_splits"] == {"test": 3}
    assert len(held["near_copies"]["across_splits"]) == 3
    assert held["accuracy"] is None  # no pet is called real or fake
    assert held["interventions"]["grey"]["n"] == 3


def test_pictures_that_could_not_be_read_are_counted_on_the_terminal(main, tmp_path, capsys):
    data = write(tmp_path / "data", files() | {"fake/broken.png": b"no picture"})
    assert main("--data", data, "--to", tmp_path / "audit") == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("1 picture could not be read and was left out: fake/broken.png (")
    write(tmp_path / "data", {"real/cut.jpg": encoded(1, "JPEG")[:90]})
    assert main("--data", data, "--to", tmp_path / "audit") == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("2 pictures could not be read and were left out, the first is fake/broken.png (")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--seed", -1, "A seed of -1"), ("--trials", -1, "-1 pictures cannot"), ("--limit", 2, "there are 2 ("),
     ("--limit", 0, "A limit of 0")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_in_a_sentence(main, tmp_path, capsys, option, value, says):
    data = write(tmp_path / "data", files())
    assert main("--data", data, option, value, "--to", tmp_path / "audit") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "audit").exists()


def test_what_cannot_be_audited_is_refused_before_anything_is_written(main, tmp_path, capsys):
    data = write(tmp_path / "data", {"one/0.png": encoded(0, "PNG")})
    assert main("--data", data, "--to", tmp_path / "audit") == 2
    assert "cannot be audited" in capsys.readouterr().err
    assert not (tmp_path / "audit").exists()
    assert main("--data", data, "--to", ROOT / "tests") == 2
    assert "holds something else" in capsys.readouterr().err
    assert main("--data", write(tmp_path / "more", files()), "--split", "dev", "--to", tmp_path / "audit") == 2
    assert "no split 'dev'" in capsys.readouterr().err
