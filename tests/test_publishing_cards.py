"""Cards: what is written is what is read back, by the client, by the Hub and by YAML of either version."""

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from xaihub import hub as hub_room
from xaihub.errors import HubError

NAMES = [
    "no", "yes", "on", "y", "1", "007", "1e5", "0o14", "1_000", "-1", ".5", "null", "~", "true", "2026-01-01", "12:30",
    "", " ", "a: b", "- a", "#a", "'a'", '"a"', "a\nb", "a\n---\nb", "---", "{a}", "[a]", "&a", "*a", "!a", "%", "@",
    "`", "\\", "\t", "\u2028", "é", "猫", "🔍", "a" * 300,
]  # fmt: skip
METRICS = {
    "accuracy": 0.9,
    "n": 20,
    "per_class": {
        "real": {"precision": 0.8, "recall": 1.0, "f1": 0.9, "support": 10},
        "no": {"precision": 1.0, "recall": 0.5, "f1": 0.7, "support": 10},
    },
    "macro_f1": 0.8,
    "auroc": 0.95,
    "dataset": "alice/cats",
    "dataset_revision": "a" * 40,
    "split": "test",
}


def head(text: str) -> str:
    return text.split("\n---\n")[0].removeprefix("---\n")


def test_any_name_of_a_class_survives():
    classes = {str(index): name for index, name in enumerate(NAMES)}
    info = {"features": [{"name": "label", "dtype": {"class_label": {"names": classes}}}]}
    text = hub_room.card_text({"license": "mit", "tags": NAMES, "dataset_info": info}, "# Cats\n\nOne\n---\ntwo.")

    card = DatasetCard(text)
    assert card.data.to_dict() == {"license": "mit", "tags": NAMES, "dataset_info": info}
    assert card.text == "# Cats\n\nOne\n---\ntwo.\n"


@pytest.mark.parametrize("name", ["1e5", "0o14", "1_000", "0b1", "+1", ".5", "1.", "0x1F"])
def test_numbers_of_the_newer_yaml_are_quoted_too(name):
    assert f'"{name}"' in hub_room.card_text({"tags": [name]}, "# x")


def test_fields_keep_their_order_and_those_that_are_none_are_left_out():
    text = hub_room.card_text({"license": "mit", "language": None, "tags": ("b", "a")}, "# x\n\n\n")

    assert text == "---\nlicense: mit\ntags:\n- b\n- a\n---\n# x\n"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "'wrong' of the card is nan, which YAML gives back as nan"),
        ({"a", "b"}, "'wrong' of the card holds .*, a set. Write it as a string"),
        ({"a": [object()]}, "'wrong' of the card holds <object.*, a object"),
        ({1: "a"}, "'wrong' of the card has the key 1, which is no string"),
        (b"x", "'wrong' of the card holds b'x', a bytes"),
    ],
)
def test_a_field_that_cannot_be_written_is_named(value, words):
    with pytest.raises(ValueError, match=words):
        hub_room.card_text({"license": "mit", "wrong": value}, "# x")


def test_a_model_index_that_the_client_cannot_read_is_refused():
    with pytest.raises(ValueError, match="model_index"):
        hub_room.card_text({"model-index": [{"name": "x", "results": [{"task": {}}]}]}, "# x")


def test_what_was_measured_is_read_back_by_the_client():
    index = hub_room.model_index("cats: real or no?", METRICS, config="default")
    card = ModelCard(hub_room.card_text({"license": "mit", "model-index": index}, "# x"))

    assert card.data.model_name == "cats: real or no?"
    results = {result.metric_type: result for result in card.data.eval_results}
    values = {kind: result.metric_value for kind, result in results.items()}
    assert values == {"accuracy": 0.9, "f1": 0.8, "precision": 0.9, "recall": 0.75, "roc_auc": 0.95}
    first = results["accuracy"]
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == ("alice/cats", "default", "test")
    assert first.dataset_revision == "a" * 40
    assert first.task_type == "image-classification"


def test_what_was_not_measured_is_not_claimed_and_no_path_of_a_machine_is_shown():
    index = hub_room.model_index(
        "x", {"accuracy": 1.0, "auroc": None, "dataset": "/home/alice/D2", "macro_f1": float("nan")}
    )

    (result,) = index[0]["results"]
    assert [metric["type"] for metric in result["metrics"]] == ["accuracy"]
    assert result["dataset"] == {"name": "D2", "type": "imagefolder"}
    assert hub_room.model_index("x", {}) == []


def test_the_hub_reads_the_same_head(hub):
    text = hub_room.card_text({"license": "mit", "tags": NAMES[:-1]}, "# x")
    hub.add_files("alice/cats", {"README.md": text})

    assert hub_room.look("alice/cats").card == {"license": "mit", "tags": NAMES[:-1]}
    assert yaml.safe_load(head(text)) == {"license": "mit", "tags": NAMES[:-1]}
    hub_room.check_card(text, "alice/cats", "model", False)
    with pytest.raises(HubError, match='"datasets" must be an array of strings'):
        hub_room.check_card("---\ndatasets: [1]\n---\n", "alice/cats", "model", False)
