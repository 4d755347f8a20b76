"""Answers in parquet, one file a round, in a folder that the datasets library reads as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from xaihub.folders import replacing_file
from xaihub.quiz.answers import Answer

__all__ = ["card", "read_answers", "write_answers"]

FOLDER = "data"
_KINDS = {str: "string", int: "int64", float: "float64"}
_CARD = """---
pretty_name: Answers of a quiz about an image classifier
tags: [xaihub, explainability, human-evaluation]
configs:
- config_name: default
  data_files: data/*.parquet
---

# Answers of a quiz about image classifiers

People guessed what a classifier answers for a picture, with and without an explanation (forward simulation), on the
Quiz page of xaihub. Each row is one guess of somebody who agreed that it is kept. There is nothing of the person in it:
no name, no address, no session, no free text, no picture; `round` is a random number made for the round, and of the
time a row holds the day alone. Each round is a file of its own: the host of the page can see when it was written, and
whoever may read this dataset when it was sent, which is every five minutes.

| column | what it is |
|---|---|
{rows}
"""
_SAYS = {
    "round": "a random name of the round that the guess belongs to",
    "day": "of the guess",
    "place": "which question of its round, from 1",
    "model": "the classifier", "revision": "its commit", "references": "the labelled pictures that were asked about",
    "picture": "which of them",
    "method": "the explanation that was shown, empty for none",
    "said": "what the classifier answered",
    "label": "what the dataset says, empty where that is no class of the classifier",
    "guess": "what the person thought that the classifier answers",
    "confidence": "how sure the person was, in (0, 1]",
    "choices": "how many classes there were to choose from",
}  # fmt: skip


def card() -> str:
    """The README of a dataset of answers."""
    return _CARD.format(rows="\n".join(f"| `{each.name}` | {_SAYS[each.name]} |" for each in fields(Answer)))


def write_answers(folder: Path, answers: Sequence[Answer]) -> Path:
    """The file that now holds the answers of one round; written again, it takes the earlier one's place at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rounds = {each.round for each in answers}
    if len(rounds) != 1:
        raise ValueError(f"A file holds the answers of one round, not of {len(rounds)}.")
    file = folder / FOLDER / f"{answers[0].day}-{answers[0].round}.parquet"
    kinds = [(each.name, _KINDS[each.type]) for each in fields(Answer)]  # type: ignore[index]
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in kinds])
    table = pa.Table.from_pylist([asdict(each) for each in answers], schema=schema)
    with replacing_file(file) as draft:
        pq.write_table(table, draft)
    return file


def read_answers(folder: Path) -> list[Answer]:
    """All answers that were kept in a folder; files that are none of ours are passed over."""
    return [answer for file in sorted((folder / FOLDER).glob("*.parquet")) for answer in _read(file)]


def _read(file: Path) -> Iterable[Answer]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [each.name for each in fields(Answer)]
    try:
        rows = pq.read_table(file, columns=names, partitioning=None).to_pylist()
        return [Answer(**row) for row in rows]
    except (OSError, TypeError, pa.ArrowException):
        return []
