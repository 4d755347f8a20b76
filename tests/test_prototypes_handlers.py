"""The Prototypes page without a browser: what a question costs, who may ask it, and what its answer says."""

import io
import re

import pytest
import torch
from tiny_models import TINY, TOKEN, build, picture, processor_of, push
from tiny_prototypes import black_box_folder, saved

from xaihub.errors import (
    CancelledError,
    DatasetError,
    ReferencesError,
    RepoNotFoundError,
    UnknownNameError,
    XaihubError,
)
from xaihub.progress import silent
from xaihub.ui.desk import Desk, Question
from xaihub.ui.desk_prototypes import RUNNER_UP, PrototypesDesk
from xaihub.ui.drawing_patches import gallery_shown, near_shown
from xaihub.ui.drawing_prototypes import account_shown, fired_shown, made_shown, said_shown, sheet_shown
from xaihub.ui.settings import Settings

MODEL, OWN, DATASET = "alice/tiny-resnet", "alice/tiny-prototypes", "alice/shapes"


def png(image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def shapes(count=12, kinds=("dog", "cat")):
    return {f"train/{kinds[i % 2]}/{i}.png": png(picture(80, 80, seed=i + 1)) for i in range(count)}


def torn(tiny, **settings):
    """A network whose answers differ from picture to picture, as an untrained one's do not."""
    network = build(tiny, **settings)
    with torch.no_grad():
        pixels = torch.stack([processor_of(tiny)(picture(80, 80, seed=i + 1), return_tensors="pt").pixel_values[0]
                              for i in range(12)])  # fmt: skip
        network.classifier[-1].bias -= network(pixel_values=pixels).logits.mean(0)
    return network


@pytest.fixture(scope="module")
def published(module_hub):
    push(module_hub, MODEL, torn(TINY["resnet"]), processor_of(TINY["resnet"]))
    module_hub.add_files(DATASET, shapes(), repo_type="dataset")
    return module_hub


@pytest.fixture(scope="module")
def prototypes(published):
    """Asked by many tests, as by many visitors: what is fitted once stays."""
    return PrototypesDesk(Desk(Settings()))


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    return black_box_folder(tmp_path_factory.mktemp("black"))


@pytest.fixture
def own(hub, own_folder, tmp_path):
    """A model that comes with prototypes, and with their pictures."""
    hub.add_folder(OWN, saved(tmp_path / "own", own_folder))
    return PrototypesDesk(Desk(Settings()))


def steps(desk, progress=silent, **changes):
    question = {"picture": png(picture(seed=3)), "model": MODEL, "references": DATASET, "limit": 20, **changes}
    return list(desk.answer(Question(**question), progress))


def answered(desk, **changes):
    step = steps(desk, **changes)[-1]
    return step.recognised, step.kept


def passes_of(desk, recognised):
    passes: list[int] = []
    desk.desk.loaded(recognised.plan).module.register_forward_hook(lambda _, given, output: passes.append(1))
    return passes


def figures(html: str) -> list[float]:
    return [float(value.replace("−", "-")) for value in re.findall(r"[+−]\d+\.\d+|(?<=span>)0(?= )", html)]


def test_the_answer_comes_before_the_health_and_both_are_kept(published):
    prototypes = PrototypesDesk(Desk(Settings()))
    told: list[tuple[float, str]] = []
    first, second = steps(prototypes, lambda *step: told.append(step))
    assert first.kept.health is None
    assert "being measured" in gallery_shown(first.kept, 0)
    assert second.measured
    assert second.kept.health.pictures == 12
    assert "Stable:" in gallery_shown(second.kept, 0)
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    passes = passes_of(prototypes, first.recognised)
    (again,) = steps(prototypes, picture=png(picture(seed=8)))
    assert again.kept is second.kept
    assert len(passes) == 1  # gives what the prototypes say, and what the network itself says


def test_points_and_bias_are_the_logit_as_it_is_shown(prototypes):
    recognised, kept = answered(prototypes)
    account = prototypes.account(recognised, kept)
    assert account.whole.lines
    points, bias, logit = figures(account_shown(kept, recognised, account))
    assert points + bias == pytest.approx(logit, abs=0.0016)  # three figures, rounded
    assert account.whole.points + account.whole.bias == pytest.approx(account.whole.logit, abs=1e-4)
    lines = re.findall(r"similarity ([\d.]+)</span> <span>× weight ([\d.]+)</span> <span>= <strong>\+([\d.]+)",
                       sheet_shown(kept, recognised, account))  # fmt: skip
    assert len(lines) == len(account.whole.lines)
    assert sum(float(points) for *_, points in lines) == pytest.approx(points, abs=0.01)


def test_switching_off_is_no_pass_and_all_of_a_class_leave_the_bias(prototypes):
    recognised, kept = answered(prototypes)
    passes = passes_of(prototypes, recognised)
    whole = prototypes.account(recognised, kept).whole
    best = whole.lines[0]
    without = prototypes.without(recognised, [best.prototype])
    left = prototypes.account(without, kept)
    assert left.left.logit == pytest.approx(whole.logit - best.points, abs=1e-5)
    assert left.after.probabilities[whole.target] < recognised.said.probabilities[whole.target]
    assert "Without " in account_shown(kept, without, left)
    html = sheet_shown(kept, without, left)
    assert html.count('type="checkbox"') - html.count(" checked") == 1
    none = prototypes.without(recognised, [line.prototype for line in whole.lines])
    account = prototypes.account(none, kept)
    assert account.left.logit == account.left.bias
    assert "points of no prototypes" in account_shown(kept, none, account)
    assert passes == []
    with pytest.raises(XaihubError, match="There are only prototypes 0 to"):
        prototypes.without(recognised, [10**6])


def test_another_class_has_its_own_sheet_and_the_switches_stay(prototypes):
    recognised, kept = answered(prototypes)
    passes = passes_of(prototypes, recognised)
    off = prototypes.without(recognised, [prototypes.account(recognised, kept).whole.lines[0].prototype])
    other = prototypes.about(off, RUNNER_UP)
    account = prototypes.account(other, kept)
    assert account.whole.target == recognised.said.probabilities.argsort()[-2]
    assert f'data-others="{off.without[0]}"' in sheet_shown(kept, other, account)
    named = prototypes.about(recognised, kept.made.labels[account.whole.target])
    assert prototypes.target(named, kept) == account.whole.target
    assert passes == []
    with pytest.raises(UnknownNameError, match="no class 'cow'"):
        prototypes.about(recognised, "cow")


def test_where_one_fires_and_its_nearest_patches_are_windows(prototypes):
    recognised, kept = answered(prototypes)
    fired = prototypes.fired(recognised, 0, silent)
    html = fired_shown(kept, recognised, fired)
    assert html.count("Deletion score") == 2
    assert f"Parts taken by lot score {fired.by_lot:.3f}" in html
    passes = passes_of(prototypes, recognised)
    near, _ = prototypes.near(recognised, 0)
    assert near_shown(kept, near).count("<figure") >= 6
    assert passes == []
    for ask in (lambda: prototypes.near(recognised, 999), lambda: prototypes.fired(recognised, -1, silent)):
        with pytest.raises(XaihubError, match="There are only prototypes"):
            ask()


def test_what_they_are_is_said_and_that_they_differ(prototypes):
    recognised, kept = answered(prototypes)
    said = made_shown(kept, recognised)
    assert "were fitted here" in said
    assert f"patches of {DATASET}" in said
    assert "fitted to what the model predicts of 12 pictures" in said
    assert "so on others expect less" in said
    labels = kept.made.labels
    recognised.black_box.probabilities[:] = 0
    recognised.black_box.probabilities[kept.made.black_box_labels.index(labels[1 - recognised.said.index])] = 1
    assert "They differ: the prototypes say" in said_shown(kept, recognised, 0)


def test_without_references_or_with_one_class_fitting_is_refused(prototypes, hub):
    with pytest.raises(ReferencesError, match="has no prototypes of its own"):
        steps(prototypes, references="")
    one = {f"train/cat/{i}.png": png(picture(80, 80, seed=1)) for i in range(4)}
    hub.add_files("alice/one", one, repo_type="dataset")
    with pytest.raises(DatasetError, match="prototypes tell one class from another"):
        steps(prototypes, references="alice/one")


def test_a_model_with_prototypes_shows_its_own_without_any_references(own):
    recognised, kept = answered(own, model=OWN, references="")
    assert kept.own
    assert "came with the model" in made_shown(kept, recognised)
    assert "Choose references" in gallery_shown(kept, 0)
    assert "data:image" in sheet_shown(kept, recognised, own.account(recognised, kept))
    with pytest.raises(XaihubError, match="Choose some in the box References"):
        own.near(recognised, 0)
    recognised, kept = answered(own, model=OWN, references="alice/nothing")
    assert "There is no dataset 'alice/nothing'" in recognised.trouble
    assert own.account(recognised, kept).whole.lines


def test_a_model_with_prototypes_beside_references_is_not_fitted_again(published, own):
    recognised, kept = answered(own, model=OWN)
    assert kept.made is own.desk.loaded(recognised.plan).prototypes
    assert kept.health.pictures == 12
    assert len(own.near(recognised, 1)[0].patches) == 6


def test_a_picture_that_is_not_published_is_a_grey_tile_with_the_reason(hub, own_folder, tmp_path):
    hub.add_folder(OWN, saved(tmp_path / "own", own_folder, pictures=False))
    desk = PrototypesDesk(Desk(Settings()))
    recognised, kept = answered(desk, model=OWN, references="")
    html = sheet_shown(kept, recognised, desk.account(recognised, kept))
    assert "not shown" in html
    assert "is not kept with this model" in html
    assert 'href="https://hub/' in html
    assert "xh-grey" in gallery_shown(kept, 0)


def test_what_was_fitted_for_its_owner_is_not_shown_to_others(prototypes, hub):
    hub.add_files("alice/hidden", shapes(), repo_type="dataset", private=True)
    assert steps(prototypes, references="alice/hidden", token=TOKEN)
    with pytest.raises(RepoNotFoundError):
        steps(prototypes, references="alice/hidden")


def test_stop_is_heard_and_what_had_to_leave_says_so(published):
    prototypes = PrototypesDesk(Desk(Settings()))

    def stop(share: float, stage: str) -> None:
        if "Reading the maps" in stage:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        steps(prototypes, stop)
    recognised, kept = answered(prototypes)
    prototypes.kept.room = 0
    prototypes.kept.put("another", kept)
    with pytest.raises(XaihubError, match="Press Recognise again"):
        prototypes.of(recognised)


def test_only_so_many_references_are_looked_at(prototypes, hub, tmp_path):
    _, kept = answered(prototypes)
    hub.add_folder("alice/saved", kept.references.save(tmp_path / "references"), repo_type="dataset")
    _, few = answered(prototypes, references="alice/saved", limit=8)
    assert len(few.looked) == 8
    assert len(few.references) == 12


def test_what_the_hub_says_is_escaped(hub):
    tiny, evil = TINY["resnet"], '"><script>alert(1)</script>'
    push(hub, "alice/evil", torn(tiny, labels={0: evil, 1: evil + "2", 2: evil + "3"}), processor_of(tiny))
    hub.add_files("alice/wicked", shapes(kinds=("<script>1", "<script>0")), repo_type="dataset")
    desk = PrototypesDesk(Desk(Settings()))
    recognised, kept = answered(desk, model="alice/evil", references="alice/wicked")
    recognised = desk.without(recognised, [0])
    account = desk.account(recognised, kept)
    html = "".join((
        said_shown(kept, recognised, 0), made_shown(kept, recognised), sheet_shown(kept, recognised, account),
        account_shown(kept, recognised, account), gallery_shown(kept, 0), near_shown(kept, desk.near(recognised, 0)[0]),
        fired_shown(kept, recognised, desk.fired(recognised, 0, silent)),
    ))  # fmt: skip
    assert "<script" not in html
    assert "&lt;script" in html
