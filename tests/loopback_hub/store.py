"""The repositories: files, commits, branches and tags, all in memory.

A file and a commit never change. A commit's name is computed from its parent, its message and its files, so the
same pushes give the same names on every run.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from .server import HubError

REGULAR_LIMIT = 10 * 1024 * 1024  # bytes; anything larger has to be an LFS file
# The Hub's default .gitattributes, for every repository and then for datasets alone.
LFS_SUFFIXES = (
    "7z arrow bin bz2 ckpt ftz gz h5 joblib mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl pt pth rar"
    " safetensors tar tflite tgz wasm xz zip zst"
)
DATASET_LFS_SUFFIXES = "bmp gif jpeg jpg png tiff webp aac flac mp3 ogg wav mp4 webm lz4 mds"


def _clock() -> Iterator[datetime]:
    """The time, but never the same millisecond twice: what came last must also sort last."""
    latest = datetime.now(UTC)
    while True:
        latest = max(datetime.now(UTC), latest + timedelta(milliseconds=1))
        yield latest


CLOCK = _clock()


def lfs_suffixes(kind: str) -> list[str]:
    """The endings of the files that a repository of this kind keeps in the large file storage."""
    return f"{LFS_SUFFIXES} {DATASET_LFS_SUFFIXES if kind == 'dataset' else ''}".split()


def git_oid(kind: str, content: bytes) -> str:
    """The name git gives to this content."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content).hexdigest()


@dataclass(frozen=True)
class File:
    """Content, and whether git itself or the large file storage holds it."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """The text that git keeps in place of an LFS file."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return text.encode()

    @cached_property
    def oid(self) -> str:
        """The name git gives to the file, or to its pointer."""
        return git_oid("blob", self.pointer if self.lfs else self.content)

    @property
    def upload_oid(self) -> str:
        """What a client compares its own file with, to skip an upload that changes nothing."""
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """All the files at one moment, by path."""

    sha: str
    parent: str | None
    title: str
    message: str
    author: str
    date: datetime
    files: Mapping[str, File]

    def is_folder(self, path: str) -> bool:
        return path == "" or any(name.startswith(f"{path}/") for name in self.files)

    def folders(self) -> set[str]:
        """Every folder that holds a file, at any depth; not the root."""
        return {name[:i] for name in self.files for i, letter in enumerate(name) if letter == "/"}

    def folder_oid(self, path: str) -> str:
        inside = sorted((name, file.oid) for name, file in self.files.items() if name.startswith(f"{path}/"))
        return git_oid("tree", repr(inside).encode())

    def read(self, path: str) -> bytes | None:
        file = self.files.get(path)
        return None if file is None else file.content


@dataclass
class Repo:
    """A model, a dataset or a Space: its settings and its history."""

    kind: str
    name: str
    private: bool = False
    gated: str | bool = False
    sdk: str | None = None
    pipeline_tag: str | None = None
    library_name: str | None = None
    tags: tuple[str, ...] = ()
    downloads: int = 0
    likes: int = 0
    allowed: set[str] = field(default_factory=set)
    created: datetime = field(default_factory=lambda: next(CLOCK))
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    git_tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # LFS content by its sha256, committed or not yet
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)  # of a Space: name to value and time of change
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)  # the same; no answer ever holds a value

    @property
    def author(self) -> str:
        return self.name.partition("/")[0]

    @property
    def url_path(self) -> str:
        return self.name if self.kind == "model" else f"{self.kind}s/{self.name}"

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]

    @property
    def last_modified(self) -> datetime:
        return max(self.commits[sha].date for sha in self.branches.values())

    def copy(self) -> "Repo":
        """The same repository, whose later changes are its own; files and commits are shared, they never change."""
        containers: dict[str, Any] = {
            key: value.copy() for key, value in vars(self).items() if isinstance(value, (dict, set))
        }
        return replace(self, **containers)

    def keeps_as_lfs(self, path: str, size: int) -> bool:
        suffix = path.rpartition("/")[2].rpartition(".")[2].lower()
        return size > 0 and (size >= REGULAR_LIMIT or suffix in lfs_suffixes(self.kind))

    def file(self, path: str, content: bytes) -> File:
        return File(content, self.keeps_as_lfs(path, len(content)))

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, or a name of seven letters or more stands for."""
        short = revision.removeprefix("refs/heads/")
        sha = self.branches.get(short) or self.git_tags.get(revision)
        if sha is None and len(revision) >= 7:
            sha = next((sha for sha in self.commits if sha.startswith(revision)), None)
        if sha is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def commit(self, files: Mapping[str, File], *, author: str, title: str, message: str = "", branch: str) -> Commit:
        """A new commit of exactly these files on top of the branch."""
        parent = self.branches.get(branch)
        tree = sorted((path, file.oid) for path, file in files.items())
        sha = git_oid("commit", repr((parent, title, message, tree)).encode())
        commit = Commit(sha, parent, title, message, author, next(CLOCK), dict(files))
        self.commits[sha] = commit
        self.branches[branch] = sha
        self.objects |= {file.sha256: file.content for file in files.values() if file.lfs}
        return commit

    def history(self, commit: Commit) -> list[Commit]:
        """The commit and its ancestors, newest first."""
        found = [commit]
        while (parent := found[-1].parent) is not None:
            found.append(self.commits[parent])
        return found

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The commit that last touched a file, or anything in a folder."""
        history = self.history(commit)
        for newer, older in pairwise(history):
            if _part(newer, path) != _part(older, path):
                return newer
        return history[-1]


def _part(commit: Commit, path: str) -> dict[str, str]:
    return {name: file.oid for name, file in commit.files.items() if name == path or name.startswith(f"{path}/")}


def new_repo(kind: str, name: str, **settings: Any) -> Repo:
    """A repository with its first commit, which holds .gitattributes alone, as on the Hub."""
    repo = Repo(kind, name, **settings)
    attributes = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in lfs_suffixes(kind))
    files = {".gitattributes": File(attributes.encode(), lfs=False)}
    repo.commit(files, author=repo.author, title="initial commit", branch="main")
    return repo
