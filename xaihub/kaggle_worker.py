"""What asks Kaggle, in a process of its own: the only importer of kagglehub. Run by `kaggle.py`, as a plain script.

kagglehub finds credentials by itself in many places (the environment, three files, a notebook's secrets) and has no
switch against it. So it runs where only those are within reach that may be used, and can be stopped at any time.
It imports nothing of xaihub, whose modules are not on this process's path.
"""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["fetch", "listing", "looked", "main"]

MOST_FILES = 1000


def main(argv: list[str]) -> int:
    """Reads a task as JSON, does it, and writes the answer as JSON, or what went wrong: `worker.py TASK ANSWER`."""
    task = json.loads(Path(argv[0]).read_text("utf-8"))
    sys.modules["IPython"] = None  # type: ignore[assignment]  # half a second, to learn that this is no notebook
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit; `kaggle.py` watches the size as well
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (task["most_bytes"], task["most_bytes"]))
    try:
        answer = {"fetched": fetch(task, task["files"])} if task.get("files") else looked(task)
    except Exception as error:  # noqa: BLE001  all of it is told on the other side, in words
        answer = _trouble(error)
    Path(argv[1]).write_text(json.dumps(answer), "utf-8")
    return 0


def listing(task: dict[str, Any]) -> dict[str, Any]:
    """The version, the files with their sizes, and the licence."""
    from kagglehub.clients import build_kaggle_client
    from kagglehub.exceptions import handle_call
    from kagglehub.handle import parse_model_handle
    from kagglesdk.models.types.model_api_service import (
        ApiGetModelInstanceRequest,
        ApiListModelInstanceVersionFilesRequest,
    )

    handle = parse_model_handle(task["handle"])
    with build_kaggle_client() as client:
        api = client.models.model_api_client

        def about(request: Any) -> Any:
            request.owner_slug, request.model_slug = handle.owner, handle.model
            request.framework, request.instance_slug = handle.framework_enum(), handle.variation
            return request

        instance = handle_call(lambda: api.get_model_instance(about(ApiGetModelInstanceRequest())))
        version = handle.version or instance.version_number
        files: dict[str, int] = {}
        asked = about(ApiListModelInstanceVersionFilesRequest())
        asked.version_number, asked.page_size = version, 200
        while True:
            page = handle_call(lambda: api.list_model_instance_version_files(asked))
            files |= {str(file.name): int(file.size) for file in page.files or ()}
            if not page.next_page_token or len(files) >= MOST_FILES:
                return {"version": version, "files": files, "licence": instance.license_name or None}
            asked.page_token = page.next_page_token


def looked(task: dict[str, Any]) -> dict[str, Any]:
    """The listing, and which of the files asked for along with it were fetched: there, small, and not kept already."""
    found = listing(task)
    kept = Path(task["kept"]) / str(found["version"])
    small = [name for name in task["along"] if 0 <= found["files"].get(name, -1) <= task["most_bytes"]]
    small = [name for name in small if not (kept / name).is_file()]
    handle = "/".join([*task["handle"].split("/")[:4], str(found["version"])])
    return {**found, "fetched": fetch({**task, "handle": handle}, small)}


def fetch(task: dict[str, Any], names: list[str]) -> list[str]:
    """The named files in the folder of the task, one by one: no archive of a stranger's is ever opened."""
    import kagglehub

    folder = Path(task["folder"])
    for name in names:
        found = Path(kagglehub.model_download(task["handle"], path=name, output_dir=str(folder)))
        if found.resolve() != (folder / name).resolve():  # on Kaggle's own machines it is mounted elsewhere
            shutil.copyfile(found, folder / name)
    return names


def _trouble(error: Exception) -> dict[str, Any]:
    """What went wrong: the status that Kaggle answered with, if it answered, and the first line of what was said."""
    import requests

    response = getattr(error, "response", None)
    silent = isinstance(error, requests.ConnectionError | requests.Timeout)
    lines = str(error).strip().splitlines()
    return {
        "error": type(error).__name__,
        "errno": getattr(error, "errno", None),
        "status": getattr(response, "status_code", None),
        "unreachable": silent and response is None,
        "said": lines[0][:300] if lines else "",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
