"""The Layers page without a browser: what a question costs, who may ask it, and what its answer says."""

import io
import re

import pytest
from tiny_models import TINY, TOKEN, build, picture, processor_of, push

from xaihub.errors import CancelledError, RepoNotFoundError, UnknownNameError, XaihubError
from xaihub.progress import silent
from xaihub.projections import PROJECTIONS
from xaihub.ui.desk import Desk, Question
from xaihub.ui.desk_layers import LayersDesk
from xaihub.ui.drawing_layers import plane_shown, strip_shown
from xaihub.ui.plot import OTHERS, groups_of, legend_of
from xaihub.ui.settings import Settings

MODEL, OTHER, DATASET = "alice/tiny-resnet", "alice/other-resnet", "alice/shapes"


def png(image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def published(hub):
    tiny = TINY["resnet"]
    push(hub, MODEL, build(tiny), processor_of(tiny))
    push(hub, OTHER, build(tiny, seed=5), processor_of(tiny))
    files = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": png(picture(80, 80, seed=i + 1)) for i in range(12)}
    hub.add_files(DATASET, files, repo_type="dataset")
    return hub


@pytest.fixture
def layers(published):
    return LayersDesk(Desk(Settings()))


def explore(layers: LayersDesk, progress=silent, **changes):
    question = {"picture": png(picture()), "model": MODEL, "references": DATASET, "limit": 12, **changes}
    return list(layers.answer(Question(**question), progress))[-1]


def count_pictures(layers: LayersDesk, explored) -> list[int]:
    passes: list[int] = []
    module = layers.desk.loaded(explored.plan).module
    module.register_forward_hook(lambda _, given, output: passes.append(len(output.logits)))
    return passes


def test_the_strip_comes_before_the_references(layers):
    steps = list(layers.answer(Question(png(picture()), MODEL, DATASET, 12), silent))
    assert [step.shown is None for step in steps] == [True, False]
    assert len(steps[0].strip.shown) >= 4
    assert plane_shown(steps[0]) == ""
    assert set(steps[1].planes) == {"pca"}
    assert len(steps[1].planes["pca"]) == len(steps[0].strip.layers)


def test_progress_rises_from_the_check_to_the_last_picture(layers):
    told: list[tuple[float, str]] = []
    explore(layers, lambda *step: told.append(step))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert told[0][1] == f"Checking {MODEL}"
    assert any("Embedding picture 9 of 12 at" in stage for _, stage in told)


def test_references_are_embedded_once_and_another_question_costs_one_pass(layers):
    first = explore(layers)
    passes = count_pictures(layers, first)
    second = explore(layers, picture=png(picture(seed=9)))
    assert second.shown.embedded is first.shown.embedded
    assert passes == [1]
    assert second.shown.similarity != first.shown.similarity


def test_another_method_or_class_is_one_pass_and_keeps_the_references(layers):
    explored = explore(layers)
    passes = count_pictures(layers, explored)
    again = layers.again(explored, method="hirescam")
    assert again.shown is explored.shown
    assert again.choices["method"] == "hirescam"
    other = next(label for label in again.strip.prediction.labels if label != again.strip.prediction.label)
    assert layers.again(again, target=other).strip.prediction.labels[1] in ("dog", other)
    assert layers.again(again, target=other).strip.target != again.strip.target
    assert sum(passes) == 3
    with pytest.raises(UnknownNameError, match="no class 'cow'"):
        layers.again(explored, target="cow")


def test_another_projection_is_no_pass_and_is_computed_once(layers, monkeypatch):
    explored = explore(layers)
    passes = count_pictures(layers, explored)
    laid: list[int] = []
    pca = PROJECTIONS["pca"]
    flat = type(pca)("flat", lambda rows, query: laid.append(1) or pca.lay(rows, query), "Flat", "Nothing.")
    monkeypatch.setitem(PROJECTIONS._entries, "flat", flat)
    again = layers.laid_out(layers.laid_out(explored, "flat"), "pca")
    assert layers.laid_out(again, "flat").choices["projection"] == "flat"
    assert len(laid) == len(explored.strip.layers)
    assert passes == []
    with pytest.raises(UnknownNameError, match="no projection"):
        layers.laid_out(explored, "sphere")


def test_references_of_another_classifier_serve_by_their_pictures(layers, hub, tmp_path):
    other = explore(layers, model=OTHER)
    hub.add_folder("alice/saved", other.shown.embedded.references.save(tmp_path / "references"), repo_type="dataset")
    found = explore(layers, references="alice/saved")
    assert found.trouble == ""
    assert found.shown.embedded.references.made.classifier == OTHER
    assert len(found.shown.predicted) == 12


def test_a_dataset_that_cannot_be_had_leaves_the_strip(layers):
    explored = explore(layers, references="alice/nothing")
    assert "There is no dataset 'alice/nothing'" in explored.trouble
    assert explored.shown is None
    assert "xh-stage" in strip_shown(explored)


def test_what_was_embedded_for_its_owner_is_not_shown_to_others(layers, hub):
    files = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": png(picture(seed=i)) for i in range(6)}
    hub.add_files("alice/hidden", files, repo_type="dataset", private=True)
    assert explore(layers, references="alice/hidden", token=TOKEN).shown is not None
    assert explore(layers, references="alice/hidden").shown is None
    tiny = TINY["resnet"]
    push(hub, "alice/secret", build(tiny), processor_of(tiny), private=True)
    assert explore(layers, model="alice/secret", token=TOKEN).shown is not None
    with pytest.raises(RepoNotFoundError):
        explore(layers, model="alice/secret")


def test_a_classifier_that_leaves_is_freed_and_the_answer_says_so(layers):
    explored = explore(layers)
    layers.desk.classifiers.room = layers.desk.classifiers.used
    explore(layers, model=OTHER)
    with pytest.raises(XaihubError, match="Press Explore again"):
        layers.again(explored, method="hirescam")


def test_stop_is_heard_between_two_batches(layers):
    def stop(share: float, stage: str) -> None:
        if "picture 9" in stage:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        explore(layers, stop)


def test_every_plot_has_a_table_and_every_mark_a_shape_and_a_name(layers):
    explored = explore(layers)
    html = plane_shown(explored)
    assert html.count('class="xh-dot"') == 12
    assert html.count("<tr data-row=") == 12
    assert len(re.findall(r'aria-label="Picture \d+: labelled (?:cat|dog), called', html)) == 12
    assert "cat (6)" in html
    assert "dog (6)" in html
    assert html.count("<tr data-layer=") == 2 * len(explored.strip.layers)
    assert "linear probe by label, balanced accuracy" in html
    assert "Chance is 0.50" in html
    places = re.findall(r'data-at="([^"]+)"', html)
    assert len(places) == 13
    assert {len(place.split(";")) for place in places} == {len(explored.strip.layers)}


def test_many_classes_share_the_last_mark():
    names = [f"class {i}" for i in range(10) for _ in range(10 - i)]
    assert groups_of(names) == [f"class {i}" for i in range(OTHERS)]
    assert "<em>all others</em> (6)" in legend_of(names, "label")
    assert "class 9" not in legend_of(names, "label")
    assert groups_of([None, "a"]) == ["a"]


def test_what_the_hub_says_is_escaped(layers, hub):
    tiny = TINY["resnet"]
    evil = '"><script>alert(1)</script>'
    push(hub, "alice/evil", build(tiny, labels={0: evil, 1: evil + "2", 2: evil + "3"}), processor_of(tiny))
    files = {f"train/<script>{i % 2}/{i}.png": png(picture(seed=i)) for i in range(6)}
    hub.add_files("alice/wicked", files, repo_type="dataset")
    explored = explore(layers, model="alice/evil", references="alice/wicked")
    assert explored.shown is not None, explored.trouble
    html = strip_shown(explored) + plane_shown(explored)
    assert "<script" not in html
    assert "&lt;script" in html
