"""Pictures by seed: the same whatever was asked for beside, wherever a run stopped, however it was killed."""

import errno
import json
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from killing import dies, moments
from tiny_pipelines import SIDE, add_pipeline, ddpm, of_2022, pickled, text_to_image

from xaihub.errors import CancelledError, DatasetError, RepoNotFoundError, TooLargeError, UnsupportedModelError
from xaihub.generation import GenerationSettings, generate
from xaihub.generation import plan as planning
from xaihub.images import open_picture
from xaihub.progress import silent

FEW = GenerationSettings("alice/ddpm", count=5, steps=3, batch=2)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pipeline(hub) -> str:
    return add_pipeline(hub, "alice/ddpm", ddpm())


@pytest.fixture
def local(tmp_path) -> GenerationSettings:
    """The same pipeline as a folder, for what has nothing to do with the Hub."""
    for path, data in ddpm().items():
        (tmp_path / "pipeline" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pipeline" / path).write_bytes(data)
    return replace(FEW, pipeline=str(tmp_path / "pipeline"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


# What is made


def test_pictures_of_a_pipeline_on_the_hub_are_made_by_seed_and_recorded(hub, pipeline, cache):
    made = generate(FEW)

    assert list(made.files) == [0, 1, 2, 3, 4]
    assert {open_picture(file).size for file in made.files.values()} == {(SIDE, SIDE)}
    assert len({file.read_bytes() for file in made.files.values()}) == 5
    assert (made.name, made.revision, made.licence) == ("alice/ddpm", pipeline, "apache-2.0")
    assert made.settings["scheduler"] == "DDIMScheduler"  # instead of DDPM, which needs a thousand steps
    assert made.settings["seeds"] == [0, 4]
    assert made.folder.is_relative_to(cache / "generated" / "alice--ddpm")
    hub.requests.clear()
    again = generate(FEW)
    assert again == made
    assert not [request for request in hub.requests if "safetensors" in request.path]


def test_a_seeds_picture_does_not_depend_on_which_seeds_are_asked_for(local, tmp_path):
    whole = generate(local, folder=tmp_path / "whole")
    some = generate(replace(local, first_seed=3, count=2), folder=tmp_path / "some")

    assert list(some.files) == [3, 4]
    assert some.files[3].read_bytes() == whole.files[3].read_bytes()
    assert some.files[4].read_bytes() == whole.files[4].read_bytes()
    alone = generate(replace(local, first_seed=3, count=1, batch=1), folder=tmp_path / "alone")
    pixels = [np.asarray(open_picture(made.files[3])).astype(int) for made in (alone, whole)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1  # the noise is the seed's own; sums may be rounded otherwise


@pytest.mark.parametrize(("scheduler", "kind"), [("ddpm", "DDPM"), ("ddim", "DDIM"), ("dpmsolver++", "DPMSolverM")])
def test_other_schedulers_make_other_pictures_the_same_each_time(local, tmp_path, scheduler, kind):
    settings = replace(local, scheduler=scheduler, count=2)

    made = [generate(settings, folder=tmp_path / name) for name in "ab"]

    assert content(made[0].folder) == content(made[1].folder)
    assert made[0].settings["scheduler"].startswith(kind)


def test_settings_that_make_other_pictures_have_folders_of_their_own(local):
    asked = [local, replace(local, steps=2), replace(local, dtype="bfloat16"), replace(local, scheduler="ddpm")]

    folders = [generate(replace(settings, count=1)).folder for settings in asked]

    assert len(set(folders)) == len(asked)


def test_a_repository_with_its_model_of_2022_such_as_the_default_one_works(hub):
    add_pipeline(hub, "alice/flat", {**of_2022(ddpm()), "diffusion_pytorch_model.bin": b"a pickle"})
    add_pipeline(hub, "alice/ddpm", ddpm())

    flat = generate(replace(FEW, pipeline="alice/flat", count=2))

    assert content(flat.folder) == content(generate(replace(FEW, count=2)).folder)
    assert not [request for request in hub.requests if request.path.endswith(".bin")]


def test_a_text_to_image_pipeline_makes_pictures_of_a_prompt(hub):
    add_pipeline(hub, "alice/painter", text_to_image())
    settings = replace(FEW, pipeline="alice/painter", count=2, prompt="a cat", size=32)

    made = generate(settings)

    assert {open_picture(file).size for file in made.files.values()} == {(32, 32)}
    assert content(generate(replace(settings, prompt="b dog")).folder) != content(made.folder)
    with pytest.raises(UnsupportedModelError, match=r"alice/painter makes pictures of a text\. Give one with --prompt"):
        generate(replace(settings, prompt=None))


def test_pictures_that_the_pipelines_own_filter_holds_back_are_not_kept_and_named(hub):
    add_pipeline(hub, "alice/prude", text_to_image(prudish=True))
    settings = replace(FEW, pipeline="alice/prude", count=2, prompt="a cat", size=32)

    for _ in range(2):  # the second time they are not made again
        made = generate(settings)
        assert (dict(made.files), made.withheld) == ({}, (0, 1))
        hub.requests.clear()
    assert not [request for request in hub.requests if "safetensors" in request.path]


# What is refused


def test_pickled_weights_are_refused_with_the_remedy_before_they_are_fetched(hub):
    add_pipeline(hub, "alice/old", pickled(ddpm()))

    with pytest.raises(UnsupportedModelError, match=r"only as unet/.*\.bin, which can run any code .*refs/pr/1"):
        generate(replace(FEW, pipeline="alice/old"))
    assert not [request for request in hub.requests if request.path.endswith(".bin")]


def index(**changes) -> bytes:
    return json.dumps({**json.loads(ddpm()["model_index.json"]), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": ["pipeline", "Mine"]}, "brings Python code of its own for its pipeline"),
        ({"unet": ["my_unet", "MyUNet"]}, "brings Python code of its own for its part 'unet'"),
        ({"_class_name": "TomorrowPipeline"}, r"is a TomorrowPipeline, which diffusers .* does not have\. Update"),
        ({"_class_name": "AutoencoderKL"}, "is a AutoencoderKL, which diffusers"),
        ({"_class_name": "DiTPipeline"}, r"needs class_labels, so it cannot make pictures from seeds alone"),
        ({"unet": ["diffusers", "NoSuchModel"]}, "cannot be loaded as a pipeline"),
    ],
)
def test_a_pipeline_that_cannot_or_must_not_be_run_is_refused(hub, changes, words):
    code = {"pipeline.py": b"raise SystemExit", "unet/my_unet.py": b"raise SystemExit"}
    add_pipeline(hub, "alice/odd", {**ddpm(), **code, "model_index.json": index(**changes)})

    with pytest.raises(UnsupportedModelError, match=words):
        generate(replace(FEW, pipeline="alice/odd"))
    assert not [request for request in hub.requests if request.path.endswith(".py")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "a cat"}, "takes no text, so the prompt 'a cat' would not be read"),
        ({"size": 64}, "makes pictures of one size only, so 64 pixels cannot be asked for"),
        ({"scheduler": "euler"}, "is not made for a EulerDiscreteScheduler: it would give noise"),
        ({"scheduler": "magic"}, r"There is no scheduler 'magic' here\. There are: ddpm, ddim"),
        ({"pipeline": "alice/none"}, "There is no model 'alice/none' on the Hub"),
        ({"pipeline": "alice/empty"}, r"alice/empty has no model_index\.json, so it is no diffusers pipeline"),
        ({"count": 0}, "0 pictures from seed 0 in 3 steps .* cannot be made"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(hub, pipeline, changes, words):
    hub.add_files("alice/empty", {"README.md": "---\nlicense: mit\n---\n"})

    with pytest.raises((UnsupportedModelError, RepoNotFoundError, DatasetError), match=words):
        generate(replace(FEW, **changes))


def test_a_pipeline_that_is_too_large_is_refused_before_it_is_fetched(hub, pipeline, monkeypatch):
    monkeypatch.setattr(planning, "LARGEST", 1_000)

    with pytest.raises(TooLargeError, match="The pipeline alice/ddpm has 0 GB of files, more than"):
        generate(FEW)
    assert not [request for request in hub.requests if "safetensors" in request.path]


def test_without_the_diffusers_library_the_way_out_is_named(hub, pipeline, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)

    with pytest.raises(UnsupportedModelError, match=r"takes the diffusers library.*pip install 'xaihub\[generation\]'"):
        generate(FEW)


# Stopped, killed, out of room


def test_what_an_earlier_run_made_is_kept_and_the_rest_is_the_same_as_if_it_had_not_stopped(local, tmp_path):
    whole = generate(local, folder=tmp_path / "whole")

    def stop(share: float, stage: str) -> None:
        if stage.startswith("Seeds 2 to 3, step 2"):
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        generate(local, folder=tmp_path / "stopped", progress=stop)
    assert sorted(content(tmp_path / "stopped")) == ["00000000.png", "00000001.png"]
    (tmp_path / "stopped" / "00000001.png").unlink()  # as if it had been killed between two files
    before = (tmp_path / "stopped" / "00000000.png").stat().st_mtime_ns

    generate(local, folder=tmp_path / "stopped")

    assert content(tmp_path / "stopped") == content(whole.folder)
    assert (tmp_path / "stopped" / "00000000.png").stat().st_mtime_ns == before


def test_a_full_disk_is_a_sentence_what_was_made_is_kept_and_the_next_run_goes_on(local, tmp_path, monkeypatch):
    whole = generate(local, folder=tmp_path / "whole")
    write, room = Path.write_bytes, [3]

    def write_while_there_is_room(self: Path, data: bytes) -> int:
        if self.name.split(".")[2:3] == ["png"] or ".png." in self.name:
            room[0] -= 1
            if room[0] < 0:
                write(self, data[:10])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_while_there_is_room)
    with pytest.raises(
        DatasetError, match=r"seed 3 cannot be written \(No space left on device\)\. The 3 pictures made"
    ):
        generate(local, folder=tmp_path / "full")
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == [
        "00000000.png", "00000001.png", "00000002.png", "settings.json",
    ]  # fmt: skip

    monkeypatch.undo()
    generate(local, folder=tmp_path / "full")
    assert content(tmp_path / "full") == content(whole.folder)


def _generate_in(settings: GenerationSettings, folder: Path) -> None:
    generate(settings, folder=folder, progress=silent)


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(local, tmp_path):
    fork, whole = multiprocessing.get_context("fork"), tmp_path / "whole"

    for moment in moments(fork, _generate_in, (local, whole), tmp_path, seed=0):
        folder = tmp_path / f"killed {moment}"
        assert dies(fork, _generate_in, (local, folder), tmp_path, moment)
        assert not [path for path in content(folder) if content(folder)[path] != content(whole)[path]]

        made = generate(local, folder=folder).files.values()
        assert len(made) == local.count
        assert all(file.read_bytes() == content(whole)[file.name] for file in made)


def test_generation_itself_refuses_what_would_take_too_long(local, tmp_path):
    with pytest.raises(CancelledError, match=r"would take about .* longer than the 1e-09 hours allowed\. A GPU takes"):
        generate(replace(local, max_hours=1e-9), folder=tmp_path / "slow", progress=silent)
    assert content(tmp_path / "slow") == {}
