"""The endpoints about files: trees, commits, uploads and downloads."""

import base64
import json
import mimetypes
import re
import secrets
from fnmatch import fnmatch
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from .cards import front_matter, timestamp
from .server import GIT_REPO, REPO, REVISION, Answer, HubError, Request, paged, route
from .store import REGULAR_LIMIT, Commit, File, Repo

if TYPE_CHECKING:
    from .hub import LoopbackHub


@route("GET", REPO + "/tree/" + REVISION + "(?:/(?P<path>.+))?")
def tree(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str, path: str) -> Answer:
    repo = hub.readable(request, kind, name)
    commit = repo.resolve(revision)
    folder = path.strip("/")
    if not commit.is_folder(folder):
        raise _absent(commit, f"{folder} does not exist on {revision}")
    start = len(folder) + 1 if folder else 0
    inside = [p for p in sorted({*commit.files, *commit.folders()}) if not folder or p.startswith(f"{folder}/")]
    expand = request.flag("expand")
    nodes = [_node(repo, commit, p, expand) for p in inside if request.flag("recursive") or "/" not in p[start:]]
    return paged(hub, request, nodes, int(request.query.get("limit", ["50" if expand else "1000"])[0]))


@route("POST", REPO + "/paths-info/" + REVISION)
def paths_info(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str) -> Answer:
    repo = hub.readable(request, kind, name)
    commit = repo.resolve(revision)
    form = parse_qs(request.body.decode(), keep_blank_values=True)
    expand = form.get("expand", [""])[0].lower() == "true"
    paths = [path.strip("/") for path in form.get("paths", [])]
    there = [path for path in paths if path in commit.files or (path and commit.is_folder(path))]
    return Answer.json([_node(repo, commit, path, expand) for path in there])


def _node(repo: Repo, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """A file or a folder as the tree shows it."""
    file = commit.files.get(path)
    if file is None:
        node: dict[str, Any] = {"type": "directory", "oid": commit.folder_oid(path), "size": 0, "path": path}
    else:
        node = {"type": "file", "oid": file.oid, "size": len(file.content), "path": path}
    if file is not None and file.lfs:
        node["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
    if expand:
        change = repo.last_change(commit, path)
        node["lastCommit"] = {"id": change.sha, "title": change.title, "date": timestamp(change.date)}
    return node


def _absent(commit: Commit, message: str) -> HubError:
    """The 404 of a file; with the commit in it, the client remembers that there is no such file."""
    error = HubError(404, message, "EntryNotFound")
    error.headers["X-Repo-Commit"] = commit.sha
    return error


@route("POST", REPO + "/preupload/" + REVISION)
def preupload(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str) -> Answer:
    repo = hub.writable(request, kind, name)
    commit = _branch_head(repo, revision)
    asked = request.json()
    ignore = asked.get("gitIgnore") or (commit.read(".gitignore") or b"").decode()
    files = []
    for wanted in asked["files"]:
        path = wanted["path"]
        mode = "lfs" if repo.keeps_as_lfs(path, wanted["size"]) else "regular"
        file = {"path": path, "uploadMode": mode, "shouldIgnore": _is_ignored(path, ignore)}
        if path in commit.files:
            file["oid"] = commit.files[path].upload_oid
        files.append(file)
    return Answer.json({"files": files})


def _is_ignored(path: str, gitignore: str) -> bool:
    """Whether a .gitignore names the file, one of its folders or its ending; negations are left out."""
    patterns = [line.strip().strip("/") for line in gitignore.splitlines() if line.strip() and line[0] not in "#!"]
    parts = path.split("/")
    candidates = [*parts, *("/".join(parts[:i]) for i in range(1, len(parts) + 1))]
    return any(fnmatch(candidate, pattern) for pattern in patterns for candidate in candidates)


def _branch_head(repo: Repo, revision: str) -> Commit:
    """The commit a push to this branch starts from; only branches can be pushed to."""
    branch = revision.removeprefix("refs/heads/")
    if branch not in repo.branches:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return repo.commits[repo.branches[branch]]


@route("POST", REPO + "/commit/" + REVISION)
def commit(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str) -> Answer:
    repo = hub.writable(request, kind, name)
    if request.flag("create_pr"):
        raise HubError(403, "This Hub keeps no pull requests: push to a branch")
    head = _branch_head(repo, revision)
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    expected = header.get("parentCommit")
    if expected and not head.sha.startswith(expected):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for line in lines:
        _apply(repo, head, files, line["key"], line["value"])
    made = repo.commit(
        files,
        author=hub.signed_in(request).name,
        title=header["summary"],
        message=header.get("description", ""),
        branch=revision.removeprefix("refs/heads/"),
    )
    url = f"{hub.endpoint}/{repo.url_path}/commit/{made.sha}"
    return Answer.json({"success": True, "commitOid": made.sha, "commitUrl": url})


def _apply(repo: Repo, head: Commit, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
    """One line of a commit, carried out on the files."""
    path = value.get("path", "").strip("/")
    if key == "file":
        files[path] = File(_regular_content(path, value), lfs=False)
    elif key == "lfsFile":
        if value["oid"] not in repo.objects:
            raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
        files[path] = File(repo.objects[value["oid"]], lfs=True)
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise _absent(head, f"A file with this name doesn't exist: {path}")
    elif key == "deletedFolder":
        gone = [name for name in files if name.startswith(f"{path}/")]
        if not gone:
            raise _absent(head, f"A folder with this name doesn't exist: {path}")
        for name in gone:
            del files[name]
    elif key != "header":
        raise HubError(400, f"Unknown line in a commit: {key}")


def _regular_content(path: str, value: dict[str, Any]) -> bytes:
    content = base64.b64decode(value["content"])
    if len(content) >= REGULAR_LIMIT:
        raise HubError(400, f"Files of 10 MiB or more have to be LFS files: {path}")
    if path == "README.md":
        try:
            front_matter(content.decode(errors="replace"))
        except ValueError as error:
            raise HubError(400, f"Invalid metadata in README.md. {error}".replace("\n", " ")) from error
    return content


@route("POST", GIT_REPO + r"\.git/info/lfs/objects/batch")
def lfs_batch(hub: "LoopbackHub", request: Request, kind: str, name: str) -> Answer:
    repo = hub.writable(request, kind or "models", name)
    objects = []
    for wanted in request.json()["objects"]:
        item = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in repo.objects:
            ticket = secrets.token_hex(16)  # stands for the signature of a storage address: it is not signed in for
            hub.tickets[ticket] = (repo, wanted["oid"])
            upload = {"href": f"{hub.endpoint}/lfs-upload/{ticket}", "header": {}}
            item["actions"] = {"upload": upload, "verify": {"href": f"{hub.endpoint}/{repo.url_path}/lfs-verify"}}
        objects.append(item)
    return Answer.json({"transfer": "basic", "objects": objects})


@route("PUT", "/lfs-upload/(?P<ticket>[^/]+)")
def lfs_upload(hub: "LoopbackHub", request: Request, ticket: str) -> Answer:
    if ticket not in hub.tickets:
        raise HubError(403, "This upload address has expired")
    repo, oid = hub.tickets[ticket]
    if sha256(request.body).hexdigest() != oid:
        raise HubError(400, f"The content does not have the sha256 {oid}")
    repo.objects[oid] = request.body
    return Answer(headers={"ETag": f'"{oid}"'})


@route("POST", GIT_REPO + "/lfs-verify")
def lfs_verify(hub: "LoopbackHub", request: Request, kind: str, name: str) -> Answer:
    repo = hub.writable(request, kind or "models", name)
    asked = request.json()
    if len(repo.objects.get(asked["oid"], b"")) != asked["size"]:
        raise HubError(404, f"No object {asked['oid']} of {asked['size']} bytes has arrived")
    return Answer.json({})


@route("GET", GIT_REPO + "/resolve/" + REVISION + "/(?P<path>.+)")
def resolve(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str, path: str) -> Answer:
    repo = hub.downloadable(request, kind or "models", name)
    commit = repo.resolve(revision)
    file = commit.files.get(path)
    if file is None:
        raise _absent(commit, "Entry not found")
    body, status, headers = _ranged(file.content, request.headers.get("Range"))
    filename = path.rpartition("/")[2].encode("ascii", "replace").decode().replace('"', "'")
    headers |= {
        "X-Repo-Commit": commit.sha,
        "ETag": f'"{file.upload_oid}"',
        "Accept-Ranges": "bytes",
        "Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream",
        "Content-Disposition": f'inline; filename="{filename}"',
    }
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
    return Answer(body, status, headers)


def _ranged(content: bytes, wanted: str | None) -> tuple[memoryview, int, dict[str, str]]:
    """The part of the content that a Range header asks for, with its status and headers; all of it without one."""
    view = memoryview(content)
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if match is None or match.group(0) == "bytes=-":
        return view, 200, {}
    first, last = match.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last) + 1 if first and last else len(content), len(content))
    if start >= end:
        error = HubError(416, f"Nothing of {len(content)} bytes is in the range {wanted}")
        error.headers["Content-Range"] = f"bytes */{len(content)}"
        raise error
    return view[start:end], 206, {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
