"""The endpoints about accounts and repositories: who asks, what there is, and what it is called."""

import re
from typing import TYPE_CHECKING, Any

from .cards import describe, front_matter, listed, siblings, timestamp
from .server import REPO, REVISION, Answer, HubError, Request, paged, route
from .spaces import keep
from .store import new_repo

if TYPE_CHECKING:
    from .hub import LoopbackHub

KINDS = r"/api/(?P<kind>models|datasets|spaces)"
ORDERS = {"lastModified", "createdAt", "downloads", "likes", "trendingScore"}


@route("GET", "/api/whoami-v2")
def whoami(hub: "LoopbackHub", request: Request) -> Answer:
    account = hub.signed_in(request)
    orgs = [
        {"type": "org", "name": name, "roleInOrg": "write"}
        for name, members in hub.organisations.items()
        if account.name in members
    ]
    token = {"displayName": account.role, "role": account.role}
    auth = {"type": "access_token", "accessToken": token}
    return Answer.json({"type": "user", "name": account.name, "fullname": account.name, "orgs": orgs, "auth": auth})


@route("POST", "/api/repos/create")
def create(hub: "LoopbackHub", request: Request) -> Answer:
    asked = request.json()
    account = hub.signed_in(request)
    kind = asked.get("type") or "model"
    if kind not in ("model", "dataset", "space"):
        raise HubError(400, f"Invalid repo type: {kind}")
    name = f"{asked.get('organization') or account.name}/{asked['name']}"
    hub.check_write(account, name.partition("/")[0], f"You don't have the rights to create a {kind} under {name}")
    repo = hub.repos.get((kind, name))
    if repo is not None:
        # exist_ok=True reads the url out of the refusal
        raise HubError(409, f"You already created this {kind} repo", url=f"{hub.endpoint}/{repo.url_path}")
    repo = new_repo(kind, name, private=asked.get("visibility") == "private", sdk=asked.get("sdk"))
    hub.repos[kind, name] = repo
    for store in ("variables", "secrets"):
        for entry in asked.get(store) or ():
            keep(getattr(repo, store), entry)
    return Answer.json({"url": f"{hub.endpoint}/{repo.url_path}", "name": name})


@route("DELETE", "/api/repos/delete")
def delete(hub: "LoopbackHub", request: Request) -> Answer:
    asked = request.json()
    kind = asked.get("type") or "model"
    account = hub.signed_in(request)
    repo = hub.writable(request, f"{kind}s", f"{asked.get('organization') or account.name}/{asked['name']}")
    del hub.repos[repo.kind, repo.name]
    return Answer.json({})


@route("PUT", REPO + "/settings")
def settings(hub: "LoopbackHub", request: Request, kind: str, name: str) -> Answer:
    repo = hub.writable(request, kind, name)
    asked = request.json()
    if "visibility" in asked:
        repo.private = asked["visibility"] == "private"
    if "gated" in asked:
        repo.gated = asked["gated"]
    return Answer.json({"private": repo.private, "gated": repo.gated})


@route("GET", KINDS)
def list_repos(hub: "LoopbackHub", request: Request, kind: str) -> Answer:
    readable = [r for r in hub.repos.values() if r.kind == kind[:-1] and hub.may_read(request.account, r)]
    found = [info for info in (describe(repo, repo.head) for repo in readable) if _asked_for(info, request)]
    order = request.query.get("sort", ["trendingScore"])[0]
    if order not in ORDERS:
        raise HubError(400, f"Invalid sort parameter: {order}")
    found.sort(key=lambda info: info[order], reverse=True)
    also = [name for name in ("config", "cardData") if request.flag(name)]
    expand = request.query.get("expand")
    items = [
        _expanded(info, expand) if expand else listed(info, kind[:-1], full=request.flag("full"), also=also)
        for info in found
    ]
    return paged(hub, request, items, int(request.query.get("limit", ["1000"])[0]))


def _asked_for(info: dict[str, Any], request: Request) -> bool:
    """Whether a repository passes every filter of the query."""
    query = request.query
    gated = query.get("gated", [None])[0]
    return (
        set(query.get("filter", [])) <= set(info["tags"])
        and all(words.lower() in info["id"].lower() for words in query.get("search", []))
        and info["author"] in query.get("author", [info["author"]])
        and info.get("pipeline_tag") in query.get("pipeline_tag", [info.get("pipeline_tag")])
        and (gated is None or bool(info["gated"]) == (gated.lower() == "true"))
        and _has_parameters(info, query.get("num_parameters", [""])[0])
    )


def _has_parameters(info: dict[str, Any], asked: str) -> bool:
    """Whether the number of parameters is within e.g. "min:10M,max:1B"; a model that tells none never is."""
    total = info.get("safetensors", {}).get("total")
    for bound, number, unit in re.findall(r"(min|max):([\d.]+)([KMBT]?)", asked):
        limit = float(number) * 1000 ** " KMBT".index(unit or " ")
        if total is None or (total < limit if bound == "min" else total > limit):
            return False
    return True


def _expanded(info: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: info[name] for name in ("_id", "id", *names) if name in info}


@route("GET", REPO + "/refs")
def refs(hub: "LoopbackHub", request: Request, kind: str, name: str) -> Answer:
    repo = hub.readable(request, kind, name)
    branches = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": sha} for b, sha in repo.branches.items()]
    tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": sha} for t, sha in repo.git_tags.items()]
    return Answer.json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("GET", REPO + "/commits/" + REVISION)
def commits(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str) -> Answer:
    repo = hub.readable(request, kind, name)
    history = [
        {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.message,
            "date": timestamp(commit.date),
            "authors": [{"user": commit.author}],
        }
        for commit in repo.history(repo.resolve(revision))
    ]
    return paged(hub, request, history, 50)


@route("POST", REPO + "/branch/(?P<branch>[^/]+)")
def create_branch(hub: "LoopbackHub", request: Request, kind: str, name: str, branch: str) -> Answer:
    repo = hub.writable(request, kind, name)
    if branch.startswith("refs/"):
        raise HubError(400, f"Invalid reference for a branch: {branch}")
    if branch in repo.branches:
        raise HubError(409, f"Reference already exists: {branch}")
    repo.branches[branch] = repo.resolve(request.json().get("startingPoint") or "main").sha
    return Answer.json({})


@route("DELETE", REPO + "/branch/(?P<branch>[^/]+)")
def delete_branch(hub: "LoopbackHub", request: Request, kind: str, name: str, branch: str) -> Answer:
    repo = hub.writable(request, kind, name)
    if branch == "main":
        raise HubError(403, "The main branch can't be deleted")
    if repo.branches.pop(branch, None) is None:
        raise HubError(404, f"Reference does not exist: {branch}", "RevisionNotFound")
    return Answer.json({})


@route("POST", REPO + "/tag/" + REVISION)
def create_tag(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str) -> Answer:
    repo = hub.writable(request, kind, name)
    tag = request.json()["tag"]
    target = repo.resolve(revision)
    if tag in repo.git_tags:
        raise HubError(409, f"Tag reference exists already: {tag}")
    repo.git_tags[tag] = target.sha
    return Answer.json({})


@route("DELETE", REPO + "/tag/(?P<tag>[^/]+)")
def delete_tag(hub: "LoopbackHub", request: Request, kind: str, name: str, tag: str) -> Answer:
    if hub.writable(request, kind, name).git_tags.pop(tag, None) is None:
        raise HubError(404, f"Tag does not exist: {tag}", "RevisionNotFound")
    return Answer.json({})


@route("GET", REPO + "/auth-check(?P<write>/write)?")
def auth_check(hub: "LoopbackHub", request: Request, kind: str, name: str, write: str) -> Answer:
    hub.downloadable(request, kind, name)
    if write:
        hub.writable(request, kind, name)
    return Answer.json({})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: "LoopbackHub", request: Request) -> Answer:
    try:
        card = front_matter(request.json()["content"])
    except ValueError as error:
        return Answer.json({"errors": [{"message": str(error)}], "warnings": []}, status=400)
    warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
    return Answer.json({"errors": [], "warnings": warnings})


# Last: two words that end like another endpoint are still the name of a repository.
@route("GET", REPO + "(?:/revision/" + REVISION + ")?")
def repo_info(hub: "LoopbackHub", request: Request, kind: str, name: str, revision: str) -> Answer:
    repo = hub.readable(request, kind, name)
    commit = repo.resolve(revision or "main")
    info = describe(repo, commit)
    if expand := request.query.get("expand"):
        return Answer.json(_expanded(info, expand))
    if request.flag("blobs"):
        info["siblings"] = siblings(commit, blobs=True)
    if request.flag("securityStatus"):
        info["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": []}
    return Answer.json(info)
