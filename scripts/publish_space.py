"""Create or update a Space that runs this checkout's app, with its settings.

What is uploaded: app.py, requirements.txt, pyproject.toml, LICENSE, README.md (whose head configures the Space), the
pictures it shows, and xaihub/. Example:

    HF_TOKEN=... python scripts/publish_space.py --to you/why --model you/cats-resnet18 --references you/cats-references

A private model needs a token on the Space, too. Export one that may only read, say as SPACE_TOKEN, and name it:
--secret HF_TOKEN:SPACE_TOKEN. Its value is taken from the environment and goes to the Space's secrets and nowhere else.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from xaihub import hub, kaggle, terminal
from xaihub.curated import STARTER
from xaihub.errors import HubError, RepoNotFoundError
from xaihub.folders import folder_named

ROOT = Path(__file__).resolve().parents[1]
FILES = ("app.py", "requirements.txt", "pyproject.toml", "LICENSE", "README.md")
PACKAGE = "xaihub"
OWNED = (f"{PACKAGE}/**", "docs/*.jpg", "docs/*.png")  # modules and pictures that are gone here go there, too
MARK = "space.json"  # of a folder that this wrote; app.py would tell it from no checkout, which must not be replaced
SHOWN = re.compile(r"!\[[^\]]*\]\((docs/[^)\s]+)\)")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TOKEN = "HF_TOKEN"  # noqa: S105  the name of a variable


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = made.add_argument_group("settings of the Space (what is not given stays as it is there)")
    group.add_argument("--model", metavar="ID", help="the classifier its page opens with: XAIHUB_MODEL")
    group.add_argument("--references", metavar="ID", help="the references beside it: XAIHUB_REFERENCES")
    group.add_argument(
        "--max-parameters", type=_positive, metavar="MILLIONS", help="largest classifier: XAIHUB_MAX_PARAMETERS"
    )
    group.add_argument("--max-megabytes", type=_positive, metavar="MB", help="largest download: XAIHUB_MAX_MEGABYTES")
    group.add_argument(
        "--secret", action="append", default=[], metavar="NAME[:VARIABLE]",
        help="set this secret to the value that the variable NAME (or VARIABLE) has here; may be given several times",
    )  # fmt: skip
    terminal.add_destination(made, "the Space")
    return made


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


def work(arguments: argparse.Namespace) -> None:
    settings = hub.SpaceSettings(variables_of(arguments), secrets_named(arguments.secret))
    to = terminal.destination(arguments.to)
    if isinstance(to, Path) and settings.secrets:
        raise HubError(
            f"{str(to)!r} is a folder, and a folder keeps no secrets. Give OWNER/NAME for --to, or no secret."
        )
    if isinstance(to, str) and not arguments.dry_run:
        hub.check_destination(to, "space", public=arguments.public)
    warn(closed_to_strangers(arguments), _secrets_there(to), settings)
    if isinstance(to, Path) or arguments.dry_run:
        with terminal.delivering(arguments, kind="space", mark=MARK) as draft:
            fill(draft)
            if isinstance(to, Path):
                (draft / MARK).write_text(json.dumps({"variables": settings.variables}, indent=2), "utf-8")
            _say(settings)
    else:
        print(_published(to, settings, public=arguments.public))


def _published(to: str, settings: hub.SpaceSettings, *, public: bool) -> str:
    progress = terminal.bar()
    with tempfile.TemporaryDirectory() as temporary:
        fill(Path(temporary))
        url = hub.publish(
            Path(temporary), to, repo_type="space", public=public, message="Publish from a checkout", owned=OWNED,
            space=settings, progress=progress,
        )  # fmt: skip
    progress(1.0, "")
    _say(settings)
    return url


def _say(settings: hub.SpaceSettings) -> None:
    for name, value in settings.variables.items():
        print(f"{name}={value}")
    for name in settings.secrets:
        print(f"{name} (a secret)")


def variables_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Name -> value of the variables that were given."""
    given = {
        "XAIHUB_MODEL": arguments.model,
        "XAIHUB_REFERENCES": arguments.references,
        "XAIHUB_MAX_PARAMETERS": arguments.max_parameters,
        "XAIHUB_MAX_MEGABYTES": arguments.max_megabytes,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def secrets_named(given: Sequence[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Name -> value, the values from the environment alone: of the variable NAME, or VARIABLE in NAME:VARIABLE.

    Raises:
        HubError: a value was typed, or there is none.
    """
    found = {}
    for text in given:
        name, _, variable = text.partition("=")[0].partition(":")
        if "=" in text:
            raise HubError(
                f"--secret {name}=... would stay in the shell's history and show in the list of processes. Export the"
                f" value, and give the name alone: --secret {name}"
            )
        variable = variable or name
        if not NAME.fullmatch(name):
            raise HubError(f"--secret {name!r} cannot be the name of a variable. Letters, digits and _ can.")
        if not environment.get(variable):
            raise HubError(f"--secret {text}: the environment has no {variable}. Export it, and run the same again.")
        found[name] = environment[variable]
    return found


def closed_to_strangers(arguments: argparse.Namespace) -> list[str]:
    """The repositories among the settings that only a token opens.

    Raises:
        HubError: one that is not there, or that is a folder of this machine.
    """
    asked: list[tuple[str | None, hub.RepoType]] = [(arguments.model, "model"), (arguments.references, "dataset")]
    return [text for text, kind in asked if text and _is_closed(text, kind)]


def _is_closed(text: str, kind: hub.RepoType) -> bool:
    if folder_named(text):
        raise RepoNotFoundError(f"{text} is a folder of this machine, which a Space cannot see. Publish it first.")
    elsewhere = kind == "model" and (text.startswith("torchvision/") or kaggle.is_handle(text))
    if text == STARTER or elsewhere:
        return False
    repo = hub.look(hub.clean_repo_id(text), repo_type=kind)
    return repo.private or repo.gated


def _secrets_there(to: Path | str) -> set[str]:
    """The names of the secrets that the Space has already; none where it cannot be asked, or is not there yet."""
    try:
        return hub.space_secret_names(to) if isinstance(to, str) else set()
    except HubError:
        return set()


def warn(closed: Sequence[str], there: set[str], settings: hub.SpaceSettings) -> None:
    """Says on the error stream what would not work, or could be safer.

    Raises:
        AccessDeniedError: the Hub does not know the token that is to be the Space's.
    """
    if closed and TOKEN not in {*there, *settings.secrets}:
        print(
            f"{' and '.join(closed)} cannot be opened by everyone, and the Space has no secret {TOKEN}: it will not"
            f" open there. Export a token that may read, and run this again with --secret {TOKEN}:ITS_VARIABLE.",
            file=sys.stderr,
        )
    if TOKEN in settings.secrets and hub.may_write(settings.secrets[TOKEN]):
        print(
            f"The token that the Space is given may write in your name, and one that may only read would do:"
            f" --secret {TOKEN}:ITS_VARIABLE",
            file=sys.stderr,
        )


def fill(draft: Path) -> None:
    """Copies the files of the Space, chosen by name: nothing else that lies in the checkout comes along."""
    for path in files():
        place = draft / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def files() -> list[Path]:
    """Every file of the checkout that the Space needs."""
    shown = SHOWN.findall((ROOT / "README.md").read_text("utf-8"))
    named = [ROOT / name for name in (*FILES, *dict.fromkeys(shown))]
    if missing := [path.name for path in named if not path.is_file()]:
        raise HubError(f"{ROOT} has no {missing[0]}. Run this from a whole checkout of the repository.")
    return [*named, *sorted(path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and not _cached(path))]


def _cached(path: Path) -> bool:
    inside = path.relative_to(ROOT).parts
    return any(part.startswith(".") or part == "__pycache__" for part in inside) or path.suffix == ".pyc"


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
