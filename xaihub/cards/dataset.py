"""The card of a dataset that scripts/build_dataset.py made, from its report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["dataset_card"]

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = {
    "image": "the picture, as a file in bytes",
    "label": "its class",
    "source": "the folder or the repository it is from",
    "source_key": "its name there: a file, a row of a split, or the seed it was made of",
    "generator": "of generated pictures: the pipeline that made it, where that is known",
    "generator_revision": "the commit of that pipeline",
    "original_width": "pixels, before it was cropped and resized",
    "original_height": "pixels, before it was cropped and resized",
    "original_format": "of its file, before it was encoded again",
    "original_sha256": "of its file, before anything was done to it",
    "pixels_sha256": "of its pixels as they are here: equal for equal pictures",
    "perceptual_hash": "64 bits in hex (dHash): near copies differ in few",
}
_DROPPED_SHOWN = 40


def dataset_card(report: Mapping[str, Any], name: str, *, licence: str | None = None) -> tuple[dict[str, Any], str]:
    """The head and the text of the card: what a stranger must know to rely on the dataset.

    Args:
        report: what `curation.build_dataset` gave, and dataset.json holds.
        name: OWNER/NAME on the Hub, or the folder's name.
        licence: of the whole; if not given, the sources' own where they have the same.
    """
    return _head(report, name, licence), "\n\n".join(part for part in _parts(report, name) if part) + "\n"


def _head(report: Mapping[str, Any], name: str, licence: str | None) -> dict[str, Any]:
    total = sum(sum(counts.values()) for counts in report["splits"].values())
    generated = any(source["generator"] for source in report["sources"])
    files = [{"split": split, "path": f"data/{split}-*"} for split in report["splits"]]
    return {
        "pretty_name": _title(name),
        "license": licence or _common_licence(report["sources"]),
        "task_categories": ["image-classification"],
        "size_categories": [next((words for limit, words in _SIZES if total < limit), "n>1M")],
        "tags": ["xaihub", *(["synthetic", "real-vs-generated"] if generated else [])],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _common_licence(sources: Sequence[Mapping[str, Any]]) -> str:
    """The sources' licence, if it is one; "other" sends the reader to the text, which names each."""
    known = {source["licence"] for source in sources}
    if None in known:
        return "unknown"
    return str(next(iter(known))) if len(known) == 1 else "other"


def _title(name: str) -> str:
    return name.rsplit("/", 1)[-1].replace("-", " ").replace("_", " ").strip() or "Pictures"


def _parts(report: Mapping[str, Any], name: str) -> list[str]:
    return [
        f"# {_title(name)}",
        _summary(report),
        _loading(name, next(iter(report["splits"]))),
        _counts(report),
        _sources(report["sources"]),
        _fairness(report),
        _leaks(report),
        _dropped(report),
        _duplicates(report),
        _columns(),
        _making(report),
    ]


def _summary(report: Mapping[str, Any]) -> str:
    total = sum(sum(counts.values()) for counts in report["splits"].values())
    classes = " and ".join(f"**{label}**" for label in report["classes"])
    how = (
        f"All went through the same crop, resize and encoding ({report['size']} x {report['size']} pixels, JPEG)."
        if report["fair"]
        else "The files are the originals, **not** treated alike: see what tells the classes apart below."
    )
    return f"{total:,} pictures of two classes, {classes}. {how}"


def _loading(name: str, split: str) -> str:
    return (
        "## How to load it\n\n```python\nfrom datasets import load_dataset\n\n"
        f'rows = load_dataset("{name}", split="{split}")\n'
        'print(rows[0]["image"], rows.features["label"].int2str(rows[0]["label"]))\n```'
    )


def _counts(report: Mapping[str, Any]) -> str:
    classes = report["classes"]
    rows = [
        f"| {split} | {' | '.join(f'{counts[label]:,}' for label in classes)} | {sum(counts.values()):,} |"
        for split, counts in report["splits"].items()
    ]
    head = f"| split | {' | '.join(classes)} | all |\n|---|{'---:|' * (len(classes) + 1)}"
    return "## How many\n\n" + "\n".join([head, *rows]) + (
        "\n\nEvery class has the same share in each split, drawn by seed"
        f" {report['seed']}; near copies are in one split. Class numbers:"
        f" {', '.join(f'{place} is {label}' for place, label in enumerate(classes))}."
    )  # fmt: skip


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    return "## Where the pictures are from\n\n" + "\n".join(_source(source) for source in sources)


def _source(source: Mapping[str, Any]) -> str:
    place = {"folder": "a folder named", "hub": "the Hub dataset", "generated": "made by the pipeline"}[source["kind"]]
    revision = f" at revision `{source['revision']}`" if source["revision"] else ""
    part = ", ".join(f"{name} `{source[name]}`" for name in ("config", "split") if source[name])
    details = [
        f"{source['pictures']:,} pictures, {place} `{source['id']}`{revision}{f' ({part})' if part else ''}.",
        f"Made by `{source['generator']}`." if source["generator"] and source["kind"] != "generated" else "",
        f"Of it: {source['note']}." if source["note"] else "",
        f"Settings: {_settings(source['settings'])}." if source["settings"] else "",
        f"Licence: **{source['licence']}**."
        if source["licence"]
        else "Licence: **not known**; find it out before you pass these pictures on.",
    ]
    return f"- **{source['label']}**: {' '.join(detail for detail in details if detail)}"


def _settings(settings: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in settings.items() if value not in (None, {}, [])}
    return ", ".join(f"{name} {_value(value)}" for name, value in shown.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={part}" for name, part in value.items())
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def _fairness(report: Mapping[str, Any]) -> str:
    steps = "\n".join(f"{place}. {step}" for place, step in enumerate(report["steps"], start=1))
    return f"## How every picture was treated, whichever its class\n\n{steps}"


def _leaks(report: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} {share:.0%}" for name, share in report["shortcuts"].items())
    known = "\n".join(f"- {sentence}" for sentence in report["leaks"]) or "- None that was measured."
    return (
        "## What tells the classes apart beside what the pictures show\n\n"
        f"The best simple rule on one fact about the stored file alone is right for: {told}; chance is 50%, and a rule"
        f" found on few pictures is right a little more often by luck.\n\n{known}"
    )


def _dropped(report: Mapping[str, Any]) -> str:
    dropped = report["dropped"]
    if not dropped:
        return "## What was left out\n\nNothing."
    many = Counter(one["label"] for one in dropped)
    lines = [f"- {one['label']}, {_code(one['key'])}: {_line(one['why'])}" for one in dropped[:_DROPPED_SHOWN]]
    if len(dropped) > _DROPPED_SHOWN:
        lines.append(f"- and {len(dropped) - _DROPPED_SHOWN:,} more: dataset.json names them all.")
    counts = ", ".join(f"{count:,} of {label}" for label, count in many.items())
    return f"## What was left out\n\n{counts}.\n\n" + "\n".join(lines)


def _duplicates(report: Mapping[str, Any]) -> str:
    groups = report["duplicates"]
    against = (
        f" Compared with {' and '.join(report['not_in'])}: what is there, or nearly, is not here."
        if report["not_in"]
        else ""
    )
    lines = "\n".join(f"- {', '.join(map(_code, group))}" for group in groups[:_DROPPED_SHOWN])
    found = (
        f"{len(groups):,} groups of near copies were found; each is in one split as a whole.\n\n{lines}"
        if groups
        else "No near copies were found among the pictures that are here."
    )
    return (
        "## Duplicates\n\nPictures equal pixel for pixel were dropped but for one. Near copies show the same content:"
        " moved onto each other they differ little everywhere, and less than pictures of this dataset do by chance."
        f"{against}\n\n{found}{_under_two_labels(report)}"
    )


def _under_two_labels(report: Mapping[str, Any]) -> str:
    groups = report.get("two_labels") or []  # older reports have none
    if not groups:
        return ""
    lines = "\n".join(f"- {', '.join(map(_code, group))}" for group in groups[:_DROPPED_SHOWN])
    return f"\n\n{len(groups):,} of these groups have the same image under two labels: correct one of them.\n\n{lines}"


def _line(text: str) -> str:
    """The text on one line: names of files may hold anything."""
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"`{_line(text).replace('`', chr(39))}`"


def _columns() -> str:
    return "## Columns\n\n" + "\n".join(f"- `{name}`: {what}" for name, what in _COLUMNS.items())


def _making(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    command = f"```\n{report['command']}\n```\n\n" if report["command"] else ""
    same = "The same command on the same sources gives the same bytes."
    return f"## How it was made\n\n{command}Made with {versions}. {same}"
