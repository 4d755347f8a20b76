"""scripts/publish_space.py: a Space from this checkout, its settings, its secrets by name alone; and that it starts."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download

from xaihub import hub as hub_room
from xaihub.errors import HubError
from xaihub.loading import STARTER_FOLDER

ROOT = Path(__file__).parents[1]
SECRET = "hf_reader_of_alice"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("script_publish_space", ROOT / "scripts" / "publish_space.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def main(hub, script, tmp_path, monkeypatch):
    hub.add_user("alice", token="hf_alice")
    hub.add_user("alice", token=SECRET, role="read")
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    monkeypatch.setenv("SPACE_TOKEN", SECRET)
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: script.main([str(argument) for argument in ("--to", "alice/why", *arguments)])


def changes(hub) -> list[tuple[str, str]]:
    """What was asked of the Hub that changes something."""
    asked = [(seen.method, seen.path) for seen in hub.requests if seen.method in ("POST", "PUT", "DELETE")]
    return [(method, path) for method, path in asked if path != "/api/validate-yaml"]


@pytest.fixture
def published(hub, main, capsys) -> str:
    """The Space with two settings, and the last line that was printed."""
    hub.add_folder("alice/pets", STARTER_FOLDER / "classifier")
    assert main("--model", "alice/pets", "--max-parameters", 40) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_a_space_is_made_privately_with_its_variables(hub, published):
    assert published == f"{hub.endpoint}/spaces/alice/why"
    space = hub.repo("alice/why", "space")
    assert (space.private, space.sdk) == (True, "gradio")
    assert [commit.title for commit in space.history(space.head)] == ["Publish from a checkout", "initial commit"]
    variables = HfApi(token="hf_alice").get_space_variables("alice/why")
    assert {name: found.value for name, found in variables.items()} == {
        "XAIHUB_MODEL": "alice/pets",
        "XAIHUB_MAX_PARAMETERS": "40",
    }


def test_the_files_are_those_of_the_app_and_no_others(hub, published):
    found = set(hub.repo("alice/why", "space").head.files) - {".gitattributes"}

    assert {path for path in found if not path.startswith("xaihub/")} == {
        "app.py", "requirements.txt", "pyproject.toml", "LICENSE", "README.md",
        "docs/page.jpg", "docs/side-by-side.jpg",
    }  # fmt: skip
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "xaihub").rglob("*.py")}
    assert modules <= found
    assert {path.partition(".")[2] for path in found if path.startswith("xaihub/")} <= {
        "py", "css", "js", "json", "md", "png", "parquet", "safetensors", "typed",
    }  # fmt: skip
    assert "xaihub/starter/classifier/model.safetensors" in found


def test_the_space_starts_from_what_was_uploaded_alone(hub, published, tmp_path):
    snapshot_download("alice/why", repo_type="space", token="hf_alice", local_dir=tmp_path / "space")
    program = "import app, json, xaihub; print(json.dumps([xaihub.__file__, app.demo.xaihub[0].model, app.__file__]))"
    space = {**os.environ, "PYTHONPATH": str(tmp_path / "space"), "XAIHUB_MODEL": "alice/pets"}

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "space", env=space, capture_output=True, text=True, timeout=200
    )

    assert done.returncode == 0, done.stderr
    package, model, app = json.loads(done.stdout.splitlines()[-1])
    assert Path(package) == tmp_path / "space" / "xaihub" / "__init__.py"
    assert Path(app) == tmp_path / "space" / "app.py"
    assert model == "alice/pets"
    card = hub_room.look("alice/why", repo_type="space", token="hf_alice").card
    assert (tmp_path / "space" / card["app_file"]).is_file()
    assert card["sdk"] == "gradio"


def test_again_changes_nothing_and_an_update_changes_that_alone(hub, main, published):
    hub.add_files(
        "alice/why", {"xaihub/gone.py": "x", "docs/old.jpg": "x", "notes.md": "mine"}, repo_type="space", private=True
    )
    hub.requests.clear()
    assert main("--model", "alice/pets", "--max-parameters", 40) == 0
    files = hub.repo("alice/why", "space").head.files
    assert not {"xaihub/gone.py", "docs/old.jpg"} & set(files)
    assert "notes.md" in files
    assert [path for _, path in changes(hub)] == ["/api/spaces/alice/why/commit/main"]

    hub.requests.clear()
    assert main("--model", "alice/pets", "--max-megabytes", 300) == 0
    assert changes(hub) == [("POST", "/api/spaces/alice/why/variables")]
    assert set(hub.repo("alice/why", "space").variables) == {
        "XAIHUB_MODEL", "XAIHUB_MAX_PARAMETERS", "XAIHUB_MAX_MEGABYTES",
    }  # fmt: skip


def test_a_secret_goes_to_the_space_and_nowhere_else(hub, main, capfd, tmp_path):
    assert main("--secret", "HF_TOKEN:SPACE_TOKEN", "--secret", "SPACE_TOKEN") == 0

    said = capfd.readouterr()
    assert "HF_TOKEN (a secret)" in said.out
    space = hub.repo("alice/why", "space")
    assert {name: kept["value"] for name, kept in space.secrets.items()} == {"HF_TOKEN": SECRET, "SPACE_TOKEN": SECRET}
    assert SECRET not in said.out + said.err
    assert not [path for path, file in space.head.files.items() if SECRET.encode() in file.content]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert SECRET not in repr(hub_room.SpaceSettings(secrets={"HF_TOKEN": SECRET}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("HF_TOKEN=hf_typed", "would stay in the shell's history"),
        ("NOT_THERE", "the environment has no NOT_THERE. Export it"),
        ("HF_TOKEN:NOT_THERE", "the environment has no NOT_THERE. Export it"),
        ("A-B", "'A-B' cannot be the name of a variable"),
    ],
)
def test_a_secret_is_a_name_that_has_a_value(hub, main, capsys, given, words):
    assert main("--secret", given) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "hf_typed" not in said.err + said.out
    assert hub.requests == []


def test_a_token_that_may_write_is_more_than_a_space_needs(hub, main, capsys):
    assert main("--secret", "HF_TOKEN") == 0
    assert "may write in your name, and one that may only read would do" in capsys.readouterr().err


def test_a_private_model_without_a_token_on_the_space_is_said_to_stay_closed(hub, main, capsys):
    hub.add_files("alice/secret-model", {"config.json": "{}"}, private=True)
    hub.add_files("alice/secret-pictures", {"references.json": "{}"}, repo_type="dataset", private=True)
    words = "alice/secret-model and alice/secret-pictures cannot be opened by everyone, and the Space has no secret HF_"
    settings = ("--model", "alice/secret-model", "--references", "alice/secret-pictures")

    assert main(*settings) == 0
    assert words in capsys.readouterr().err
    assert main(*settings, "--secret", "HF_TOKEN:SPACE_TOKEN") == 0
    assert capsys.readouterr().err == ""
    assert main(*settings) == 0  # it has one from the run before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "alice/nothing"), "There is no model 'alice/nothing' on the Hub"),
        (("--references", "alice/nothing"), "There is no dataset 'alice/nothing' on the Hub"),
        (("--model", "."), ". is a folder of this machine, which a Space cannot see. Publish it first."),
        (("--to", "bob/why"), "alice may not publish under 'bob'"),
        (("--to", "./here", "--secret", "SPACE_TOKEN"), "is a folder, and a folder keeps no secrets"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(hub, main, capsys, tmp_path, arguments, words):
    assert main(*arguments) == 2
    assert words in capsys.readouterr().err
    assert hub.repos == {}
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("model", ["xaihub/paper-pets", "torchvision/resnet18", "kaggle/a/b/c/d"])
def test_what_is_not_on_the_hub_is_not_looked_for_there(hub, main, model):
    assert main("--model", model, "--dry-run") == 0
    assert not [seen for seen in hub.requests if "/api/models/" in seen.path]


def test_limits_are_whole_numbers(main, capsys):
    for wrong in ("0", "-3", "many"):
        with pytest.raises(SystemExit):
            main("--max-parameters", wrong)
    assert "--max-parameters" in capsys.readouterr().err


def test_a_dry_run_lists_files_settings_and_names_of_secrets_and_changes_nothing(hub, main, capsys):
    assert main("--dry-run", "--max-parameters", 40, "--secret", "HF_TOKEN:SPACE_TOKEN") == 0

    said = capsys.readouterr().out
    for line in ("app.py", "xaihub/ui/site.py", "XAIHUB_MAX_PARAMETERS=40", "HF_TOKEN (a secret)", "sdk: gradio"):
        assert line in said
    assert SECRET not in said
    assert changes(hub) == []
    assert hub.repos == {}


def test_a_folder_holds_the_same_files_as_the_space(hub, main, published, tmp_path, capsys):
    assert main("--to", "./here", "--model", "alice/pets") == 0

    here = {path.relative_to(tmp_path / "here").as_posix(): path.read_bytes()
            for path in (tmp_path / "here").rglob("*") if path.is_file()}  # fmt: skip
    space = hub.repo("alice/why", "space").head.files
    assert json.loads(here.pop("space.json")) == {"variables": {"XAIHUB_MODEL": "alice/pets"}}
    assert here == {path: file.content for path, file in space.items() if path != ".gitattributes"}
    assert capsys.readouterr().out.splitlines() == ["XAIHUB_MODEL=alice/pets", "here"]


def test_a_checkout_is_not_taken_for_a_folder_to_replace(main, capsys, tmp_path):
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "app.py").write_text("mine")

    assert main("--to", "./checkout") == 2
    assert "'checkout' exists and holds something else (no space.json)" in capsys.readouterr().err
    assert (tmp_path / "checkout" / "app.py").read_text() == "mine"


def test_something_is_missing_from_the_checkout(script, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("![x](docs/gone.jpg)")
    for name in script.FILES:
        (tmp_path / name).touch()
    (tmp_path / "README.md").write_text("![x](docs/gone.jpg)")
    monkeypatch.setattr(script, "ROOT", tmp_path)

    with pytest.raises(HubError, match=r"has no gone.jpg. Run this from a whole checkout"):
        script.files()
