"""What a host can set: every XAIHUB_* that the pages read, in one place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import xaihub
from xaihub.curated import STARTER

__all__ = ["RepoType", "Settings", "starter_examples"]

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True)
class Settings:
    """A field `queue` is read from XAIHUB_QUEUE, and so on; XAIHUB_MAX_* are the library's own (`xaihub.Limits`)."""

    model: str = STARTER  # in the box on opening; the starter answers without a network
    references: str = ""  # beside that model; empty for the starter's own, or for none beside another model
    queue: int = 20  # questions waiting; one more is told that the app is busy
    queue_each: int = 2  # of them, of one visitor
    asks_per_minute: int = 60  # of one visitor, while others wait
    short_seconds: int = 2  # what takes longer goes on beside the quick questions, one such piece of work at a time
    proxies: int = -1  # of the host, between it and its visitors; -1 for one on a Space and none elsewhere
    upload: str = "10mb"  # a photograph of a telephone is 3 to 8 MB
    download_seconds: int = 180  # 700 MB at 4 MB/s; nobody waits longer
    compute_seconds: int = 120  # RISE with a MobileNet on two cores; what takes longer says so in the menu
    compare_seconds: int = 240  # all maps of one comparison together
    embed_seconds: int = 600  # 1,000 pictures through a ViT-B on two cores
    embed_pictures: int = 200  # what the slider starts with: about half a minute for a ResNet-18
    disk_megabytes: int = 0  # of models and data fetched for visitors; 0 for as much as the disk has
    reserve_megabytes: int = 2000  # of the disk that stay free; what was used longest ago goes before
    memory_megabytes: int = 2000  # of loaded classifiers: a free Space has 16 GB, and passes need some too
    embedders_megabytes: int = 800  # of networks by whose eye pictures look alike: a CLIP of the usual size has 605
    references_megabytes: int = 500  # of references embedded here: about 20,000 pictures
    keep_minutes: int = 30  # how long a visitor's result can be asked further questions
    sessions: int = 100  # whose results are kept; the oldest go first
    quiz_folder: str = ""  # where answers of the quiz are kept of those who agree; empty for "quiz" in XAIHUB_CACHE
    quiz_dataset: str = ""  # of the Hub, to which they are sent as well with the host's token; empty for none

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings that the environment states, else the defaults."""
        given = {}
        for field in fields(cls):
            text = environment.get(f"XAIHUB_{field.name.upper()}", "").strip()
            if text:
                given[field.name] = text if isinstance(field.default, str) else _whole(field.name, text)
        return cls(**given)  # type: ignore[arg-type]

    @property
    def opening_references(self) -> str:
        return self.references or (STARTER if self.model == STARTER else "")

    @property
    def sign_in(self) -> bool:
        """Whether visitors can sign in with the Hub: on a Space whose card asks for it (`hf_oauth: true`)."""
        return os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))

    @property
    def proxies_in_front(self) -> int:
        return self.proxies if self.proxies >= 0 else int(os.environ.get("SYSTEM") == "spaces")

    @property
    def own(self) -> frozenset[tuple[RepoType, str]]:
        """Repositories that the host itself configured, each of its kind: a model and a dataset may have one name.

        Only these may be read with the host's own token.
        """
        configured: tuple[tuple[RepoType, str], ...] = ("model", self.model), ("dataset", self.references)
        return frozenset((kind, name) for kind, name in configured if name not in ("", STARTER))


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"XAIHUB_{name.upper()} is {text!r}; it must be a whole number.") from None


def starter_examples() -> list[Path]:
    """The pictures that come with the package, in the order of their names."""
    return sorted((Path(xaihub.__file__).parent / "starter" / "examples").glob("*.png"))
