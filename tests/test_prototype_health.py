"""The health of prototypes: what is measured on networks whose prototypes are known, and when the alarm is raised."""

from concurrent.futures import CancelledError
from dataclasses import replace

import pytest
import torch
from test_prototype_sheet import FEW, SIZE, Patches, pictures
from toy_networks import classifier_of

from xaihub.errors import XaihubError
from xaihub.prototype_fitting import fit_prototypes
from xaihub.prototype_health import health, nearest_patches
from xaihub.prototype_maps import look
from xaihub.prototypes.alarms import collapse


@pytest.fixture(scope="module")
def black_box():
    return classifier_of(Patches(), size=SIZE)


@pytest.fixture(scope="module")
def looked(black_box):
    return look(black_box, pictures(24, spots=1))


@pytest.fixture(scope="module")
def made(black_box, looked):
    return fit_prototypes(black_box, looked, settings=FEW)


def with_sources(made, places):
    """The same classifier, some of whose prototypes, by number, are copies of others."""
    network, gallery = made.prototypes.network, list(made.prototypes.gallery)
    head = type(network.head)(network.head.settings)
    head.load_state_dict(network.head.state_dict())
    with torch.no_grad():
        for place, source in places.items():
            head.vectors[place] = head.vectors[source]
            gallery[place] = replace(gallery[source], owner=gallery[place].owner)
    changed = type(network)(network.black_box, network.views, head)
    return replace(made, module=changed, prototypes=replace(made.prototypes, network=changed, gallery=tuple(gallery)))


def test_good_prototypes_raise_no_alarm(made, looked):
    found = health(made, looked)
    assert found.alarms == ()
    assert found.largest == pytest.approx(1 / 9)
    assert [(each.label, each.prototypes, each.sources) for each in found.classes] == [
        ("red", 3, 3), ("green", 3, 3), ("blue", 3, 3),
    ]  # fmt: skip
    assert found.coverage == 1
    strongest = [found.prototypes[place] for place in made.prototypes.network.head.weights.argmax(1).tolist()]
    assert [each.owner for each in strongest] == [0, 1, 2]
    assert all(each.purity == 1 for each in strongest), "each of the six nearest spots has the prototype's colour"
    assert all(each.stability > 0.5 for each in strongest), "a shift of a pixel moves no spot to another cell"
    used = sum(each.used for each in found.prototypes)
    assert f"{used} of 9 prototypes are used, from 9 pictures" in found.in_words
    assert "of a class have an active prototype of it" in found.in_words


def test_the_alarm_fires_on_a_network_made_to_collapse(made, looked):
    collapsed = with_sources(made, {1: 0, 2: 0, 4: 3, 5: 3})
    found = health(collapsed, looked)
    key = collapsed.prototypes.gallery[0].key
    assert found.alarms[0].startswith(f"3 of 9 prototypes come from one picture ({key})")
    assert "3 prototypes of class 'red' come from 1 picture only" in found.in_words
    assert found.largest == pytest.approx(3 / 9)
    assert found.prototypes[0].duplicates == (1, 2)
    assert found.prototypes[4].duplicates == (3, 5)
    assert found.duplicates >= 4
    assert collapse(made.prototypes) == ()


def test_the_alarm_fires_where_a_class_has_nothing_to_say(made, looked):
    silent = with_sources(made, {})
    with torch.no_grad():
        silent.prototypes.network.head.weights[1] = 0
    found = health(silent, looked)
    assert found.alarms == (
        "Nothing can be recognised of class 'green': none of its 3 prototypes counts. Give more pictures of it.",
    )
    assert found.classes[1].coverage == 0
    assert [each.used for each in found.prototypes[3:6]] == [False] * 3
    without = replace(made.prototypes, labels=made.prototypes.labels)
    kept = [place for place, each in enumerate(without.gallery) if each.owner != 1]
    settings = replace(without.network.head.settings, owners=tuple(without.gallery[place].owner for place in kept))
    head = type(without.network.head)(settings)
    network = type(without.network)(without.network.black_box, without.network.views, head)
    none = replace(without, network=network, gallery=tuple(without.gallery[place] for place in kept))
    assert any("'green': it has no prototype" in alarm for alarm in collapse(none))


def test_the_nearest_patches_are_spots_of_its_colour(made, looked):
    place = next(i for i, each in enumerate(health(made, looked).prototypes) if each.used)
    source = made.prototypes.gallery[place]
    found = nearest_patches(made, looked, place, 6)
    assert looked.keys[found[0].row] == source.key
    assert found[0].cell == source.cell
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert [each.similarity for each in found] == sorted((each.similarity for each in found), reverse=True)
    assert len({each.row for each in found}) == 6
    assert {looked.predicted[each.row] for each in found} == {made.labels[source.owner]}


def test_labels_are_what_counts_where_they_were_fitted_to(black_box):
    rows = pictures(12)
    named = [(key, "warm" if label == "red" else "cold", get) for key, label, get in rows.sources]
    looked = look(black_box, replace(rows, sources=named))
    made = fit_prototypes(black_box, looked, fitted_to="labels", settings=FEW)
    found = health(made, looked)
    assert [each.label for each in found.classes] == ["cold", "warm"]
    assert found.classes[1].coverage == 1


def test_what_cannot_be_measured_is_none_and_what_does_not_fit_is_refused(black_box, made, looked):
    one = look(black_box, pictures(1))
    found = health(made, one)
    assert [each.coverage for each in found.classes][1:] == [None, None]
    with pytest.raises(XaihubError, match="no prototypes to look at"):
        health(black_box, looked)
    with pytest.raises(XaihubError, match="2 channels, but these prototypes read 9"):
        health(made, replace(looked, maps=looked.maps[:, :2]))

    def stop(share, stage):
        if "Shifting" in stage:
            raise CancelledError

    with pytest.raises(CancelledError):
        health(made, looked, progress=stop)


def test_the_same_seed_gives_the_same_health(made, looked):
    assert health(made, looked) == health(made, looked)
