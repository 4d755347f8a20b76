"""A folder to be published, and what the tests' Hub then holds."""

from pathlib import Path

import numpy as np
from loopback_hub import LoopbackHub
from safetensors.numpy import save

from xaihub import hub as hub_room

TOKEN = "hf_alice"
CARD = "---\nlicense: mit\ntags: [tiny]\n---\n# Tiny\n"
FILES = {
    "README.md": CARD.encode(),
    "config.json": b'{"id2label": {"0": "real"}}',
    "model.safetensors": save({"weight": np.arange(6.0)}),
    "notes/b.safetensors": save({"weight": np.arange(3.0)}),
    "notes/\u00fcn\u00ef #1.md": b"one\r\ntwo",
    "notes/empty.txt": b"",
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def publish(folder: Path, repo_id: str = "alice/tiny", **options) -> str:
    given = {"repo_type": "model", "token": TOKEN, "message": "Publish", **options}
    return hub_room.publish(folder, repo_id, **given)


def on_hub(hub: LoopbackHub, repo_id: str = "alice/tiny", repo_type: str = "model") -> dict[str, bytes]:
    files = hub.repo(repo_id, repo_type).head.files
    return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def titles(hub: LoopbackHub, repo_id: str = "alice/tiny") -> list[str]:
    repo = hub.repo(repo_id)
    return [commit.title for commit in repo.history(repo.head)]


def uploads(hub: LoopbackHub) -> int:
    return sum(seen.path.startswith("/lfs-upload/") and seen.status == 200 for seen in hub.requests)


def writes(hub: LoopbackHub) -> list[str]:
    """Requests that change something; whether a card is right is only asked."""
    return [s.path for s in hub.requests if s.method not in ("GET", "HEAD") and s.path != "/api/validate-yaml"]
