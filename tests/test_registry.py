"""A name that nobody knows is answered with the nearest one."""

import pytest

from xaihub.errors import UnknownNameError
from xaihub.registry import Registry, nearest_name


@pytest.fixture
def fruits():
    registry = Registry("fruit")
    for price, name in enumerate(("pear", "Apple", "plum")):
        registry.add(name, price)
    return registry


def test_a_registry_reads_like_a_dictionary_in_the_order_of_its_entries(fruits):
    assert list(fruits.items()) == [("pear", 0), ("Apple", 1), ("plum", 2)]
    assert (len(fruits), fruits["plum"], "plum" in fruits, "fig" in fruits) == (3, 2, True, False)
    assert (fruits.get("pear"), fruits.get("fig"), fruits.get("fig", 7)) == (0, None, 7)


def test_the_entry_comes_back_so_that_add_can_end_a_decorator(fruits):
    entry = object()
    assert fruits.add("fig", entry) is entry


def test_adding_a_name_again_replaces_its_entry_in_its_place(fruits):
    fruits.add("Apple", 9)
    assert list(fruits.items()) == [("pear", 0), ("Apple", 9), ("plum", 2)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("apple", r"There is no fruit called 'apple'\. Did you mean 'Apple'\? Known: pear, Apple, plum\.$"),
        ("PLUMS", r"There is no fruit called 'PLUMS'\. Did you mean 'plum'\? Known: pear, Apple, plum\.$"),
        ("zebra", r"There is no fruit called 'zebra'\. Known: pear, Apple, plum\.$"),
        ("", r"There is no fruit called ''\. Known: pear, Apple, plum\.$"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest_known_one(fruits, name, words):
    with pytest.raises(UnknownNameError, match=words):
        fruits[name]


def test_an_empty_registry_says_that_it_knows_nothing_yet():
    with pytest.raises(UnknownNameError, match=r"There is no metric called 'deletion'\. Known: none yet\.$"):
        Registry("metric")["deletion"]


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("tabby cat", " Did you mean 'Tabby Cat'?"),
        ("tabbi cet", " Did you mean 'Tabby Cat'?"),
        ("TIGER", " Did you mean 'tiger cat'?"),
        ("spaniel", ""),
    ],
)
def test_the_nearest_name_ignores_capitals_and_offers_nothing_far_away(name, offered):
    known = ["Tabby Cat", "tiger cat", "hen"]
    assert nearest_name(name, known) == nearest_name(name, dict.fromkeys(known)) == offered
