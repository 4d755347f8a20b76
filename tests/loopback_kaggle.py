"""A small Kaggle on 127.0.0.1, which the real kagglehub talks to: models, versions, files, and who may have them.

kagglehub knows five addresses and takes no other. KAGGLE_API_ENVIRONMENT tells it to use `http://localhost`, and
http_proxy to reach that through a proxy: this server is the proxy, so nothing of kagglehub is replaced.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

from loopback_hub.server import Answer, Fault, HubError, Request, Server

SERVICE = "/api/v1/models.ModelApiService/"


class Asked(NamedTuple):
    """One request: what was asked for, with which Authorization, and which file."""

    what: str
    authorization: str | None
    file: str = ""


@dataclass
class Model:
    """One variation of a model: its versions from 1, each file -> content."""

    versions: list[dict[str, bytes]] = field(default_factory=list)
    private: bool = False
    licence: str = "Apache 2.0"
    claims: dict[str, int] = field(default_factory=dict)  # sizes that the listing states falsely


class LoopbackKaggle:
    """A Kaggle from `start()` to `stop()`.

    Attributes:
        asked: every request so far.
        page_size: the most files in one page of the listing.
        tokens: which Authorization headers belong to somebody who may read everything.
        zipped: whether a file comes as a ZIP of itself, as Kaggle sends some.
    """

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.asked: list[Asked] = []
        self.requests: list[Any] = []
        self.faults: list[Fault] = []
        self.page_size = 200
        self.tokens = {"Bearer KGAT_host", "Basic " + base64.b64encode(b"host:key").decode()}
        self._running = ExitStack()

    def start(self) -> Self:
        server = Server(self, 0)  # type: ignore[arg-type]  it needs `answer`, `take_fault` and `requests`
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        self._running.enter_context(server.running())
        return self

    def stop(self) -> None:
        self._running.close()

    @property
    def environment(self) -> dict[str, str]:
        """What makes kagglehub talk to this server; the tests' Hub, at 127.0.0.1, is still reached directly."""
        proxies = {"http_proxy": self.endpoint, "HTTP_PROXY": self.endpoint, "https_proxy": "", "HTTPS_PROXY": ""}
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", **proxies}

    def add(self, handle: str, files: Mapping[str, bytes], **settings: Any) -> Model:
        """One more version of the variation "owner/model/framework/variation"."""
        model = self.models.setdefault(handle.lower(), Model())
        model.versions.append(dict(files))
        for name, value in settings.items():
            setattr(model, name, value)
        return model

    # What the server calls

    def take_fault(self, request: Request) -> Fault | None:
        fault = next((fault for fault in self.faults if fault.fits(request)), None)
        if fault is not None:
            fault.times -= 1
        return fault

    def answer(self, request: Request) -> Answer:
        path = unquote(urlsplit(request.target).path)
        try:
            if path.startswith("/bucket/"):
                return self._file(request, path)
            return self._service(request, path.removeprefix(SERVICE), request.json())
        except HubError as error:
            body = {"code": error.status, "message": error.message}
            return Answer.json(body, error.status)

    def _service(self, request: Request, what: str, asked: dict[str, Any]) -> Answer:
        framework = asked["framework"].removeprefix("MODEL_FRAMEWORK_").replace("_", "")
        handle = f"{asked['ownerSlug']}/{asked['modelSlug']}/{framework}/{asked['instanceSlug']}".lower()
        authorization = request.headers.get("Authorization")
        self.asked.append(Asked(what, authorization, asked.get("path", "")))
        model = self.models.get(handle)
        if model is None or (model.private and authorization not in self.tokens):
            raise HubError(403, "Permission 'models.get' was denied")
        if what == "GetModelInstance":
            return Answer.json({"versionNumber": len(model.versions), "licenseName": model.licence})
        number = asked.get("versionNumber") or len(model.versions)
        if number > len(model.versions):
            raise HubError(404, "Not found")
        files = model.versions[number - 1]
        if what == "ListModelInstanceVersionFiles":
            return self._listing(model, files, asked)
        if asked.get("path") not in files:
            raise HubError(404, "Not found")
        where = f"{self.endpoint}/bucket/{handle}/{number}/{quote(asked['path'])}"
        return Answer(status=302, headers={"Location": where})

    def _listing(self, model: Model, files: Mapping[str, bytes], asked: dict[str, Any]) -> Answer:
        start = int(asked.get("pageToken") or 0)
        end = start + min(self.page_size, asked.get("pageSize") or self.page_size)
        names = sorted(files)
        page = [{"name": name, "size": model.claims.get(name, len(files[name]))} for name in names[start:end]]
        return Answer.json({"files": page, "nextPageToken": str(end) if end < len(names) else ""})

    def _file(self, request: Request, path: str) -> Answer:
        """The bytes, as the storage behind Kaggle sends them: with their hash, and asked without credentials."""
        *handle, number, name = path.removeprefix("/bucket/").split("/", 5)
        self.asked.append(Asked("bucket", request.headers.get("Authorization"), name))
        body = self.models["/".join(handle)].versions[int(number) - 1][name]
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        return Answer(body, headers={"x-goog-hash": f"md5={md5}", "Content-Type": "application/octet-stream"})


def credentials_file(home: Any) -> None:
    """A ~/.kaggle/kaggle.json that kagglehub would find, and one for the tool that downloads behind it."""
    (home / ".kaggle").mkdir(parents=True, exist_ok=True)
    (home / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "host", "key": "key"}))
    (home / ".netrc").write_text(
        "machine localhost login host password key\nmachine 127.0.0.1 login host password key\n"
    )
    (home / ".netrc").chmod(0o600)
