"""The card of published references: who made them, from what, and how they are used."""

from collections.abc import Mapping, Sequence
from typing import Any

from xaihub import hub

__all__ = ["reference_card"]

_MOST = 50  # classes listed; of ImageNet's thousand the rest is one line


def reference_card(
    made: Mapping[str, Any],
    counts: Mapping[str, int],
    agreement: Mapping[str, int],
    repo_id: str,
    record: Mapping[str, Any],
    *,
    left_out: Sequence[str] = (),
) -> str:
    """The text of README.md.

    Args:
        made: the fields of `Made`.
        counts: predicted class -> pictures.
        agreement: "labelled" pictures whose label is one of the classifier's classes, and how many of them it "named".
        repo_id: what the references will be called: an id on the Hub, or a folder.
        record: what references.json says: of its "spaces", its "pictures" and its "fidelity".
        left_out: spaces that are not passed on, since the pictures are not.
    """
    data = {
        "pretty_name": f"References of {made['classifier']}",
        "tags": ["xaihub", "xaihub-references", "explainability"],
        "task_categories": ["image-classification"],
        "configs": [{"config_name": "default", "data_files": "rows.parquet"}],
    }
    return hub.card_text(data, _body(made, counts, agreement, repo_id, record, left_out))


def _body(
    made: Mapping[str, Any],
    counts: Mapping[str, int],
    agreement: Mapping[str, int],
    repo_id: str,
    record: Mapping[str, Any],
    left_out: Sequence[str],
) -> str:
    at = f" at revision `{made['classifier_revision']}`" if made["classifier_revision"] else ""
    commit = f" at revision `{made['dataset_revision']}`" if made["dataset_revision"] else ""
    chosen = made["chosen"] or "all of them"
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, others = ordered[:_MOST], ordered[_MOST:]
    if others:
        shown.append((f"{len(others):,} more classes", sum(count for _, count in others)))
    table = "\n".join(f"| {_cell(name)} | {count:,} |" for name, count in shown)
    part = f"configuration {made['dataset_config'] or '–'}, split {made['dataset_split'] or '–'}"
    return f"""# References of {made["classifier"]}

{sum(counts.values()):,} labelled pictures as one classifier sees them. xaihub searches them for **twins** (nearest
pictures of the same predicted class) and **counterfactuals** (nearest pictures that it calls something else).

```python
from xaihub import explain, load_classifier, load_references

classifier = load_classifier("{made["classifier"]}")
explain(classifier, "picture.jpg", references=load_references("{repo_id}"))["counterfactuals"]
```

## How they were made

| | |
|---|---|
| classifier | `{made["classifier"]}`{at} |
| weights (sha256) | `{made["weights"] or "not recorded"}` |
| target layer | `{made["target_layer"]}` |
| preprocessing | {_cell(made["preprocessing"])} |
| pictures | `{made["dataset"]}`{commit}, {part}; {_cell(chosen)} |
| left out, broken | {made["skipped"]:,} |
| versions | {", ".join(f"{name} {version}" for name, version in made["versions"].items())} |

They are refused beside other weights or another layer, since distances between the two would mean nothing.

## What makes two pictures alike

{_spaces(record["spaces"])}

{_measured(record["fidelity"])}

## What is in it

`rows.parquet`: key of the row in the dataset, its label, what the classifier predicts and how surely, hashes, the
address of the row on the Hub, and {_crops(record["pictures"])}. `embeddings.safetensors`: embeddings in half precision
and logits, in the same order; each further embedder has a file of its own. `references.json`: the tables above and
checksums. Nothing is pickled.

{_agreed(agreement)}

| predicted class | pictures |
|---|---|
{table}

## Limits

{_terms(made["dataset"], record["pictures"], left_out)}

A twin shows what this classifier treats alike, which is no proof that two pictures *are* alike; the neighbours in a
class of few pictures are far away.
"""


def _spaces(spaces: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for space in spaces:
        at = f" at revision `{space['revision']}`" if space["revision"] else ""
        weighed = ", weighed by the picture asked about" if space["weighted"] else ""
        leaks = ". **It knows the predicted class, so that agreement is no merit**" if space["leaks"] else ""
        who = "the classifier" if space["kind"] == "decided" else "another network"
        rows.append(f"| `{space['name']}`{at} | {who} | {_cell(space['alike'])}{weighed}{leaks} |")
    head = "| embedder | asks | a high cosine means |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n\nA search takes the first unless another is named."


def _measured(fidelity: Mapping[str, Any] | None) -> str:
    """A table of figures: embedder -> name -> a number, or [value, low, high]."""
    if not fidelity:
        return "How far neighbours agree with the classifier was not measured."
    names = [name for name, value in next(iter(fidelity.values())).items() if not isinstance(value, bool)]
    lines = [
        f"| `{embedder}` | {' | '.join(_figure(figures.get(name)) for name in names)} |"
        for embedder, figures in fidelity.items()
    ]
    table = "\n".join([f"| embedder | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|", *lines])
    return (
        "How far neighbours agree with the classifier, each picture asked about without itself and its near copies,"
        f" among all classes (95 % intervals):\n\n{table}"
    )


def _figure(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})" if None not in value else "–"
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _crops(pictures: bool) -> str:
    return "the crop that the classifier saw" if pictures else "an empty column for the picture"


def _terms(dataset: str, pictures: bool, left_out: Sequence[str]) -> str:
    if pictures:
        return f"The pictures are copies, so the licence and the terms of `{dataset}` hold for them."
    return (
        f"`{dataset}` is not open to everyone, so its pictures are not passed on: who may read it sees them from there,"
        " each checked against the hash in its row, and the address of a row shows it on the Hub."
        + "".join(
            f" The embeddings by `{name}` are left out, too: small pictures could be drawn from them."
            for name in left_out
        )
    )


def _agreed(agreement: Mapping[str, int]) -> str:
    labelled, named = agreement["labelled"], agreement["named"]
    if not labelled:
        return "The labels of these pictures are not the classifier's classes: how often it is right is not known here."
    return (
        f"The classifier names {named:,} of {labelled:,} labelled pictures as their label does"
        f" ({named / labelled:.1%}). It may have been trained on them: this is no measure of its accuracy."
    )


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
