"""What the scripts and the command line share: where a result goes, a line of progress, and how a run ends."""

import argparse
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xaihub import hub
from xaihub.datasets.splits import Source
from xaihub.downloads import cache_folder
from xaihub.errors import HubError, XaihubError
from xaihub.folders import folder_named, refuse_taken, replacing
from xaihub.progress import Progress

__all__ = [
    "add_destination",
    "add_pictures",
    "add_reading",
    "bar",
    "delivering",
    "destination",
    "name_at",
    "pictures_named",
    "run",
]

_SECONDS_BETWEEN_LINES = 20  # where nobody watches a terminal: enough to see in a log that it still runs


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None], argv: Sequence[str] | None) -> int:
    """0, or 2 with the reason on the error stream, or 130 when somebody pressed Ctrl-C."""
    _stop_when_asked()
    try:
        work(parser.parse_args(argv))
        sys.stdout.flush()
    except (XaihubError, FileExistsError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"{parser.prog}: {_in_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: stopped; the same command goes on from what was kept.", file=sys.stderr)
        return 130
    return 0


def _stop_when_asked() -> None:
    """SIGTERM ends the work as Ctrl-C does, drafts tidied away; a page's own server is left alone."""

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _in_words(error: OSError) -> str:
    if error.errno is None:  # a sentence already
        return str(error)
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}. Nothing half-made is left; make room or name another folder, run again."


def add_pictures(parser: argparse.ArgumentParser, split: str) -> None:
    """The options that name labelled pictures; `split` says what its own means."""
    parser.add_argument(
        "--data", required=True, help="a folder of class folders, a dataset folder, or a dataset's Hub id"
    )
    parser.add_argument("--config", help="of a Hub dataset")
    parser.add_argument("--split", help=split)
    parser.add_argument("--limit", type=int, help="take at most so many pictures, evenly from the classes")
    add_reading(parser)


def add_reading(parser: argparse._ActionsContainer) -> None:
    """The options that choose where a dataset can be read in several ways."""
    parser.add_argument("--layout", help="what each level of a folder is, such as {split}/{label} (default: found)")
    parser.add_argument("--label-column", metavar="NAME", help="of a table or a dataset (default: found)")
    parser.add_argument("--image-column", metavar="NAME", help="of a dataset (default: found)")


def pictures_named(arguments: argparse.Namespace) -> Source:
    """What these options name."""
    return Source(
        arguments.data, config=arguments.config, split=arguments.split, limit=arguments.limit, layout=arguments.layout,
        label_column=arguments.label_column, image_column=arguments.image_column,
    )  # fmt: skip


def bar() -> Progress:
    """One line on the error stream that overwrites itself; in a log, a line now and then."""
    watched, said = sys.stderr.isatty(), time.monotonic() - _SECONDS_BETWEEN_LINES / 2

    def progress(share: float, stage: str) -> None:
        nonlocal said
        if watched:
            print(f"\r\033[K{f'{share:4.0%}  {stage}' if stage else ''}", end="", file=sys.stderr, flush=True)
        elif stage and time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            print(f"{share:4.0%}  {stage}", file=sys.stderr, flush=True)

    return progress


def add_destination(parser: argparse.ArgumentParser, what: str) -> None:
    """--to, --public and --dry-run, the same for everything that is made."""
    group = parser.add_argument_group("where it goes")
    group.add_argument(
        "--to", required=True, metavar="FOLDER_OR_ID",
        help=f"where {what} goes: a folder, or OWNER/NAME on the Hub (./OWNER/NAME is a folder again)",
    )  # fmt: skip
    group.add_argument(
        "--public", action="store_true", help="for everyone to see; without it a Hub repository is private"
    )
    group.add_argument("--dry-run", action="store_true", help="build, list every file and the card, deliver nothing")


def destination(text: str) -> Path | str:
    """The folder that is meant, or the id of a repository on the Hub.

    OWNER/NAME is an id unless there is such a folder, or a folder OWNER to put it into.
    """
    looks_like_id = re.fullmatch(r"\w[\w.-]*/[\w.-]*\w", text, re.ASCII) is not None
    if looks_like_id and not folder_named(text) and not folder_named(text.split("/")[0]):
        return hub.clean_repo_id(text)
    return Path(text).expanduser()


def name_at(to: str) -> str:
    """What the thing delivered there will be called: the repository's id, or the folder's name alone."""
    place = destination(to)
    return place if isinstance(place, str) else place.resolve().name


@contextmanager
def delivering(
    arguments: argparse.Namespace,
    *,
    kind: hub.RepoType,
    mark: str,
    owned: Sequence[str] = (),
    message: str = "Built with xaihub",
    progress: Progress | None = None,
) -> Iterator[Path]:
    """A draft folder to fill; when the block ends well it goes where `--to` says, whole, and its place is printed.

    The destination is checked first: nobody should learn after a night of training that the token cannot write.

    Args:
        arguments: parsed, with what `add_destination` added.
        kind: of repository, for the Hub.
        mark: the file that tells a folder of this kind from other folders, which are never replaced.
        owned: patterns of files that a run before this one may have left on the Hub and that then must go.

    Raises:
        HubError: no right to write there.
        FileExistsError: the folder holds something else.
    """
    to = destination(arguments.to)
    if arguments.dry_run:
        with _draft(f"dry-run-{kind}") as draft:
            yield draft
            _list(draft, arguments.to)
    elif isinstance(to, Path):
        refuse_taken(to, mark)
        with replacing(to, mark) as draft:
            yield draft
        print(to)
    else:
        _check(to, kind, arguments.public)
        with _draft(f"{kind}s--{to.replace('/', '--')}", keep_on_error=True) as draft:
            yield draft
            options = {"owned": owned, "message": message, "public": arguments.public, "progress": progress or bar()}
            print(hub.publish(draft, to, repo_type=kind, **options))


def _check(repo_id: str, kind: hub.RepoType, public: bool) -> None:
    try:
        hub.check_destination(repo_id, kind, public=public)
    except HubError as error:
        raise type(error)(f"{error} (If {repo_id!r} is meant as a folder, write ./{repo_id})") from error


@contextmanager
def _draft(name: str, *, keep_on_error: bool = False) -> Iterator[Path]:
    """An empty folder of the cache; after a failed upload what was built stays there."""
    folder = cache_folder() / "outbox" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    except XaihubError:
        if keep_on_error and any(folder.iterdir()):
            print(f"What was built so far is kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _list(folder: Path, to: str) -> None:
    """Every file with its size, and the card."""
    for path, size in hub.planned(folder):
        print(f"{size:>12,}  {path}")
    card = folder / "README.md"
    if card.is_file():
        print(f"\n{card.read_text('utf-8')}")
    print(f"A dry run: nothing was written to {to}.")
