"""Page 1 without a browser: what a question costs, who may ask it, and what is kept."""

import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser_fixture import ROOT
from tiny_models import TINY, TOKEN, build, picture, processor_of, push

from xaihub import METHODS
from xaihub.errors import (
    AccessDeniedError,
    CancelledError,
    PictureError,
    RepoNotFoundError,
    TargetLayerError,
    UnknownNameError,
    XaihubError,
)
from xaihub.progress import silent
from xaihub.ui.desk import Desk, Question
from xaihub.ui.menus import layer_choices, method_choices
from xaihub.ui.pace import Pace, cost_in_words, time_in_words
from xaihub.ui.results_examples import beside
from xaihub.ui.settings import Settings
from xaihub.ui.shelf import Shelf
from xaihub.ui.stopping import EndedError, Stops
from xaihub.ui.turns import Visitor
from xaihub.ui.wiring import said_once
from xaihub.ui.words import label_choices, named_class

WHO = Visitor("visitor")
MODEL, OTHER, DATASET = "alice/tiny-resnet", "alice/other-resnet", "alice/shapes"


@pytest.fixture
def published(hub):
    tiny = TINY["resnet"]
    push(hub, MODEL, build(tiny), processor_of(tiny))
    push(hub, OTHER, build(tiny, seed=5), processor_of(tiny))
    files = {}
    for i in range(12):
        file = f"train/{'cat' if i % 2 else 'dog'}/{i}.png"
        files[file] = png(picture(80, 80, seed=i + 1))
    hub.add_files(DATASET, files, repo_type="dataset")
    return hub


@pytest.fixture
def desk(published):
    return Desk(Settings())


@pytest.fixture
def asked(desk):
    return ask(desk)


def png(image) -> bytes:
    import io

    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def ask(desk: Desk, progress: Callable[[float, str], None] = silent, **changes):
    question = {"picture": png(picture()), "model": MODEL, **changes}
    return list(desk.answer(Question(**question), progress))[-1]


def count_passes(asked) -> list[int]:
    passes: list[int] = []
    asked.query.classifier.module.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_another_class_or_method_runs_the_model_no_further(desk, asked):
    passes = count_passes(asked)
    before = asked.explanation["gradcam"][0].heatmap
    other = next(label for label in asked.explanation.prediction.labels if label != asked.explanation.prediction.label)

    asked = desk.again(asked, target=other)
    assert asked.explanation.target_label == other
    assert not (asked.explanation["gradcam"][0].heatmap == before).all()
    asked = desk.again(asked, method="hirescam")
    assert "gradcam" not in asked.explanation
    assert asked.explanation["hirescam"][0].heatmap is not None
    asked = desk.again(asked, target="", method="gradcam")
    assert (asked.explanation["gradcam"][0].heatmap == before).all()
    assert passes == []


def test_another_class_keeps_the_examples_and_runs_nothing(desk):
    asked = ask(desk, references=DATASET, limit=12)
    rows = asked.explanation["counterfactuals"]
    passes = count_passes(asked)
    asked = desk.again(asked, target=asked.explanation.prediction.labels[asked.explanation.prediction.runner_up])
    assert asked.explanation["counterfactuals"] is rows
    assert passes == []


def test_counterfactuals_of_any_other_class_are_found_on_request(desk):
    asked = ask(desk, references=DATASET, limit=12)
    asked = desk.again(asked, against="any")
    predicted = asked.explanation.prediction.label
    assert all(evidence.facts["predicted"] != predicted for evidence in asked.explanation["counterfactuals"])
    with pytest.raises(UnknownNameError, match="no class 'cow'"):
        desk.again(asked, against="cow")


def test_the_heatmap_comes_before_the_examples(desk):
    question = Question(png(picture()), MODEL, DATASET, 12)
    steps = [set(asked.explanation.evidence) for asked in desk.answer(question, silent)]
    assert steps[0] == {"gradcam"}
    assert steps[1] == {"gradcam", "twins", "lookalikes", "counterfactuals", "semifactuals"}


def test_references_are_embedded_once_but_the_hub_is_asked_each_time(desk, hub):
    first = ask(desk, references=DATASET, limit=12)
    hub.requests.clear()
    second = ask(desk, references=DATASET, limit=12)
    assert second.references is first.references
    assert any(f"/api/datasets/{DATASET}" in seen.path for seen in hub.requests)
    assert ask(desk, references=DATASET, limit=10).references is not first.references


def test_references_of_another_classifier_are_explained_and_can_be_embedded_again(desk, hub, tmp_path):
    other = ask(desk, model=OTHER, references=DATASET, limit=12)
    folder = other.references.save(tmp_path / "references")
    hub.add_folder("alice/saved", folder, repo_type="dataset")
    asked = ask(desk, references="alice/saved")
    assert "embedded by" in asked.trouble
    assert "twins" not in asked.explanation
    list(desk.adopt(asked, 12, silent))
    assert asked.trouble == ""
    assert asked.references.made.classifier == MODEL
    assert len(asked.references) == 12
    assert len(asked.explanation["counterfactuals"]) + len(asked.explanation["twins"]) > 0


def test_a_dataset_that_cannot_be_had_leaves_the_heatmap(desk):
    asked = ask(desk, references="alice/nothing")
    assert "There is no dataset 'alice/nothing'" in asked.trouble
    assert asked.explanation["gradcam"]


def test_a_private_model_in_memory_is_not_served_without_the_right_token(desk, hub, monkeypatch):
    tiny = TINY["resnet"]
    push(hub, "alice/secret", build(tiny), processor_of(tiny), private=True)
    hub.add_user("bob", token="hf_bob")
    assert ask(desk, model="alice/secret", token=TOKEN).explanation["gradcam"]
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # the host's own, which is none of the visitor's
    for token, error in (("", RepoNotFoundError), ("hf_bob", RepoNotFoundError), ("hf_wrong", AccessDeniedError)):
        with pytest.raises(error):
            ask(desk, model="alice/secret", token=token)
    with pytest.raises(AccessDeniedError, match="not a token"):
        ask(desk, model="alice/secret", token="hf_a\nX-Other: 1")
    own = Desk(Settings(model="alice/secret"))
    assert ask(own, model="alice/secret").explanation["gradcam"]


def test_a_private_dataset_embedded_by_its_owner_is_not_served_to_others(desk, hub):
    hub.add_files("alice/hidden", {"train/cat/0.png": png(picture())}, repo_type="dataset", private=True)
    assert ask(desk, references="alice/hidden", token=TOKEN).references is not None
    refused = ask(desk, references="alice/hidden")
    assert refused.references is None
    assert "private" in refused.trouble


def test_no_path_of_the_host_can_be_named(desk, tmp_path):
    for name in (str(tmp_path), "/etc", "..", "~"):
        with pytest.raises(RepoNotFoundError):
            ask(desk, model=name)
        assert ask(desk, references=name).references is None


def test_stop_leaves_silent_work_at_once_and_ends_it_when_it_speaks():
    stops, spoken, ended = Stops(), threading.Event(), threading.Event()

    def work(report):
        yield "first"
        spoken.wait(20)
        try:
            report(0.5, "speaking")
        finally:
            ended.set()
        yield "second"

    given = []
    with pytest.raises(CancelledError):  # noqa: PT012
        for thing in stops.run(WHO, work, silent):
            given.append(thing)
            assert stops.stop(WHO)
    assert given == ["first"]
    spoken.set()
    assert ended.wait(5)
    assert not stops.stop(WHO)


def test_what_nobody_asked_for_gives_way_to_what_the_visitor_asked_since():
    stops, begun, go = Stops(), threading.Event(), threading.Event()
    given = []

    def asked(report):
        begun.set()
        assert go.wait(20)
        yield "asked"

    asking = threading.Thread(target=lambda: given.extend(stops.run(WHO, asked, silent)))
    asking.start()
    assert begun.wait(20)
    with pytest.raises(EndedError):
        list(stops.run(WHO, lambda report: iter(["unasked"]), silent, unasked=True))
    go.set()
    asking.join(20)
    assert given == ["asked"]
    assert list(stops.run(WHO, lambda report: iter(["unasked"]), silent, unasked=True)) == ["unasked"]


def test_work_tells_its_progress_and_its_errors_to_whoever_waits(desk):
    told = []
    question = Question(b"", MODEL)
    with pytest.raises(PictureError, match="empty"):
        list(Stops().run(WHO, lambda report: desk.answer(question, report), silent))
    question = Question(png(picture()), MODEL)
    list(Stops().run(WHO, lambda report: desk.answer(question, report), lambda *step: told.append(step)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0][1] == f"Checking {MODEL}"


def test_a_classifier_that_leaves_frees_the_results_that_held_it(published):
    desk = Desk(Settings())
    asked = ask(desk)
    desk.classifiers.room = desk.classifiers.used  # room for one
    ask(desk, model=OTHER)
    assert asked.query is None
    with pytest.raises(XaihubError, match="Press Explain again"):
        desk.again(asked, method="hirescam")


def test_a_layer_is_a_new_pass_of_the_same_module(desk, asked):
    other = asked.query.classifier.target_layer.alternatives[0].name
    again = ask(desk, layer=other)
    assert again.query.classifier.module is asked.query.classifier.module
    assert again.explanation.provenance["layer"] == other


def test_the_shelf_lets_the_oldest_go_first():
    gone = []
    shelf = Shelf(10, len, gone.append)
    shelf.put("a", "aaaa")
    shelf.put("b", "bbbb")
    shelf.get("a")
    shelf.put("c", "cccc")
    assert gone == ["bbbb"]
    assert shelf.put("d", "d" * 11) == "d" * 11  # used, and not kept
    assert "d" not in shelf
    assert shelf.used == 8


def test_two_classes_of_one_name_can_both_be_chosen():
    labels = ("crane", "cat", "crane")
    assert label_choices(labels) == ["crane #0", "cat", "crane #2"]
    assert [named_class(choice, labels) for choice in label_choices(labels)] == [0, "cat", 2]
    assert named_class("", labels) is None


def test_a_menu_says_what_each_method_costs_and_what_cannot_run_stands_last_with_its_reason(desk, asked):
    classifier = asked.query.classifier
    choices = {value: words for words, value in method_choices(classifier, desk.pace)}
    assert len(choices) >= 22
    assert not {"twins", "counterfactuals"} & set(choices)
    assert choices["gradcam"] == "Grad-CAM"
    assert re.fullmatch(r"RISE · 1,000 passes, about [\d.]+ (s|min) here", choices["rise"])
    assert choices["ablationcam"] == "Ablation-CAM · 12 passes of the layers above"
    assert next(iter(choices)) == "gradcam"
    assert set(list(choices)[-2:]) == {"attention-rollout", "legrad"}
    assert choices["legrad"] == f"LeGrad – not for this model: {METHODS['legrad'].missing(classifier, None)}"
    unloaded = {value: words for words, value in method_choices(None, desk.pace)}
    assert unloaded["rise"] == "RISE · 1,000 passes"


def test_the_time_of_a_pass_is_measured_and_a_method_that_ran_knows_its_own(asked):
    pace, classifier = Pace(), asked.query.classifier
    assert pace.of(classifier, METHODS["rise"]) is None
    pace.passed(classifier, 1, 0.5)
    pace.passed(classifier, 1, 0.9)  # it had to wait
    assert pace.of(classifier, METHODS["rise"]) == pytest.approx(500)
    assert "beyond" not in cost_in_words(METHODS["rise"], classifier, pace)
    assert cost_in_words(METHODS["occlusion"], classifier, Pace(60)) == "144 passes"  # its time is unknown
    limited = Pace(60)
    limited.passed(classifier, 1, 0.5)
    assert cost_in_words(METHODS["rise"], classifier, limited).endswith("8 min here, beyond the limit of 60 s")
    pace.took(classifier, METHODS["rise"], 20.0)
    pace.took(classifier, METHODS["rise"], 0.1)  # for another class: its passes had been made
    assert pace.of(classifier, METHODS["rise"]) == 20.0
    assert pace.of_pass(classifier) == pytest.approx(0.02)
    pace.took(classifier, METHODS["ablationcam"], 0.1)  # its passes are no whole ones
    assert pace.of_pass(classifier) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.004, "0.01 s"), (0.04, "0.04 s"), (0.3, "0.3 s"), (3.24, "3.2 s"), (41.7, "42 s"), (130, "2 min")],
)
def test_times_are_said_with_no_more_figures_than_were_measured(seconds, words):
    assert time_in_words(seconds) == words


def test_a_method_that_cannot_run_answers_with_the_reason(desk, asked):
    again = desk.again(asked, method="legrad")
    assert again.explanation.notes["legrad"] == (METHODS["legrad"].missing(asked.query.classifier, None),)
    assert "gradcam" not in again.explanation


def test_an_unknown_method_is_refused_before_anything_is_fetched(desk, hub):
    hub.requests.clear()
    with pytest.raises(UnknownNameError, match="Did you mean 'gradcam'"):
        ask(desk, method="grad-cam")
    assert not hub.requests


def test_another_class_of_a_slow_method_makes_no_further_pass(desk, asked):
    asked = desk.again(asked, method="occlusion")
    passes = count_passes(asked)
    first = asked.explanation["occlusion"][0].heatmap
    again = desk.again(asked, target=asked.explanation.prediction.labels[asked.explanation.prediction.runner_up])
    assert passes == []
    assert not (again.explanation["occlusion"][0].heatmap == first).all()


def test_a_slow_method_tells_its_progress_and_one_that_is_stopped_changes_nothing(desk, asked):
    told = []

    def stop(share, stage):
        told.append(stage)
        if share > 0.2:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        desk.again(asked, stop, method="rise")
    assert any(re.fullmatch(r"RISE: \d+ of 1000 pictures", stage) for stage in told)
    assert asked.choices["method"] == "gradcam"
    assert set(asked.explanation.evidence) == {"gradcam"}
    assert desk.again(asked, method="occlusion").explanation["occlusion"][0].heatmap.any()


def test_a_slow_method_ends_at_the_time_limit_in_words(published):
    desk = Desk(Settings(compute_seconds=0))
    with pytest.raises(CancelledError, match="Grad-CAM took longer than the limit of 0 s on this host"):
        ask(desk)


def test_finer_cam_compares_with_the_class_that_is_chosen(desk, asked):
    labels, order = asked.explanation.prediction.labels, asked.explanation.prediction.top(3)
    asked = desk.again(asked, method="finercam")
    assert asked.explanation["finercam"][0].facts["other"] == order[1][0]
    again = desk.again(asked, against=order[2][0])
    assert again.explanation["finercam"][0].facts["other"] == order[2][0]
    assert f"rather than {order[2][0]!r}" in again.explanation["finercam"][0].caption
    with pytest.raises(XaihubError, match=f"{order[0][0]!r} is the class that is explained. Compare it with another"):
        desk.again(again, against=labels[asked.explanation.target])
    turned = desk.again(again, target=order[2][0])  # it was compared with this one
    assert turned.choices["against"] == ""
    assert turned.explanation["finercam"][0].facts["other"] == order[0][0]


def test_a_change_of_the_other_class_computes_nothing_again_for_a_method_that_compares_nothing(desk, asked):
    before = asked.explanation["gradcam"][0]
    assert desk.again(asked, against=asked.explanation.prediction.top(3)[2][0]).explanation["gradcam"][0] is before


def test_examples_carry_grad_cam_where_the_large_map_takes_more_than_a_backward_pass(desk):
    asked = ask(desk, references=DATASET, limit=12)
    rows = asked.explanation["twins"]
    assert desk.again(asked, method="occlusion").explanation["twins"] is rows
    assert desk.again(asked, method="layercam").explanation["twins"] is not rows


def test_layers_joined_by_a_plus_are_one_layer_and_an_unknown_one_is_refused_in_words(desk, asked):
    first, second = [layer.name for layer in asked.query.classifier.target_layer.alternatives[:2]]
    fused = ask(desk, layer=f"{first} + {second}")
    assert fused.explanation.provenance["layer"] == f"{first} + {second}"
    with pytest.raises(
        TargetLayerError, match=r"no layer 'layer9'.* layers that give a map: .*resnet.encoder.stages\.1"
    ):
        ask(desk, layer=f"{first} + layer9")
    with pytest.raises(TargetLayerError, match="at most 300 letters"):
        ask(desk, layer=" + ".join([first] * 30))


def test_the_menu_of_layers_names_the_layer_in_use_and_references_at_another_one_are_told_by_it(desk, hub, tmp_path):
    asked = ask(desk, references=DATASET, limit=12)
    layer, other = asked.query.classifier.target_layer, asked.query.classifier.target_layer.alternatives[0].name
    assert layer_choices(asked.query.classifier)[0] == (f"chosen by proof: {layer.in_words}", "")
    hub.add_folder("alice/saved", asked.references.save(tmp_path / "references"), repo_type="dataset")
    moved = ask(desk, references="alice/saved", layer=other)
    assert layer_choices(moved.query.classifier)[0] == ("chosen by proof", "")
    told = unescape(beside(moved))
    assert f"{DATASET} as {MODEL} sees it at layer {layer.name}, and this answer is {MODEL}'s at layer {other}" in told


def test_settings_come_from_the_environment():
    settings = Settings.from_environment({"XAIHUB_QUEUE": "3", "XAIHUB_MODEL": "a/b", "XAIHUB_REFERENCES": " "})
    assert (settings.queue, settings.model, settings.opening_references) == (3, "a/b", "")
    assert settings.own == {("model", "a/b")}
    with pytest.raises(ValueError, match="XAIHUB_QUEUE is 'many'"):
        Settings.from_environment({"XAIHUB_QUEUE": "many"})


def test_what_the_hub_says_is_escaped(desk, hub):
    from xaihub.ui.drawing import bars, view
    from xaihub.ui.words import alarm, cautions, status

    tiny = TINY["resnet"]
    evil = "<script>alert(1)</script>"
    push(hub, "alice/evil", build(tiny, labels={0: evil, 1: evil + "2", 2: evil + "3"}), processor_of(tiny))
    asked = ask(desk, model="alice/evil")
    explanation = asked.explanation
    drawn = [
        bars(explanation.prediction, 0, evil),
        view(explanation, explanation["gradcam"][0], "Grad-CAM"),
        cautions(explanation, "gradcam"),
        status(asked.plan, asked.query.classifier),
        alarm(evil, ['"><script>']),
    ]
    assert all("<script" not in html for html in drawn)
    assert any("&lt;script" in html for html in drawn)


def test_the_app_is_built_without_the_slow_libraries():
    slow = ("torch", "transformers", "timm", "datasets", "torchvision", "safetensors")  # gradio itself brings pyarrow
    code = f"import sys, app; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]


def test_a_file_that_is_no_picture_reaches_the_library_as_it_is(tmp_path):
    from xaihub.images import open_picture
    from xaihub.ui.picture import picture_box

    box = picture_box()
    box.preprocess = partial(box.preprocess.func, tmp_path)
    file = tmp_path / "text.png"
    file.write_text("no picture")
    sent = box.preprocess(SimpleNamespace(url=None, path=str(file)))
    with pytest.raises(PictureError, match=r"'text.png' is not a picture"):
        open_picture(sent)
    assert box.preprocess(SimpleNamespace(url="data:image/png;base64,AAAA", path=None)) == b"\0\0\0"


def test_a_file_of_the_host_that_was_not_uploaded_is_no_picture(tmp_path):
    """A request names a path itself, and gradio vets it only if the request says that it is a file."""
    from xaihub.ui.picture import picture_box

    box = picture_box()
    own = tmp_path / "own.png"
    own.write_bytes(b"of the host")
    link = Path(box.GRADIO_CACHE) / "link.png"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(own)
    for path in (own, "/etc/hostname", "/etc/nothing", "xaihub/starter/examples/cat.png", link, "", None):
        assert box.preprocess(SimpleNamespace(url=None, path=path and str(path))) is None
    link.unlink()


def test_each_step_of_a_handler_brings_what_is_new_and_the_last_one_nothing_since_gradio_sends_it_twice():
    handlers = """
        import inspect
        from xaihub.ui.site import build
        for known in build().fns.values():
            if inspect.isgeneratorfunction(known.fn):
                print(known.fn.__code__.co_qualname)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(handlers)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = ran.stdout.split()
    assert len(names) >= 10  # four pages: the button and the example of each, and the menus of the first
    assert set(names) == {"said_once.<locals>.handler"}

    def steps(first, *, last):
        yield {"box": first, "menu": {"choices": ["a", "b"], "value": "a"}}
        yield {"box": last, "menu": {"choices": ["a", "b"], "value": "a"}}
        yield {"menu": {"choices": ["a", "b"], "value": "b"}}

    sent = list(said_once(steps, lambda: {"box": None})("1", last="2"))
    assert [step.get("box", "nothing") for step in sent] == ["1", "2", "nothing", None]
    assert [step.get("menu", {}).get("value") for step in sent] == ["a", None, "b", None]
