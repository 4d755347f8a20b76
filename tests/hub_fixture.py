"""Starts the tests' own Hub before any client library can be imported."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from loopback_hub import LoopbackHub

# Whatever the machine is set to would reach past the test: a token, a cache, an offline switch, a proxy.
FORGOTTEN = (
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ASSETS_CACHE",
    "HF_XET_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "TRANSFORMERS_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
)


def start_hub_for_session() -> LoopbackHub:
    """A running Hub, with the environment set so that every client talks to it and to nothing else.

    huggingface_hub, datasets and diffusers read `HF_ENDPOINT` at import, hence the check.
    """
    if "huggingface_hub" in sys.modules:
        raise RuntimeError(
            "huggingface_hub was imported before the tests' Hub was started, so it would talk to the real one."
            " Start the Hub at the head of conftest.py, and import no client library above it."
        )
    hub = LoopbackHub().start()
    home = tempfile.mkdtemp(prefix="xaihub-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in FORGOTTEN:
        os.environ.pop(name, None)
    os.environ.update(_environment(hub.endpoint, home))
    if os.environ.get("PYTEST_XDIST_WORKER"):  # workers share the cores; torch would take all of them in each
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
    return hub


def _environment(endpoint: str, home: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": home,
        "HF_HUB_DISABLE_XET": "1",  # the tests' Hub has LFS only
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # else datasets asks s3.amazonaws.com
        "DISABLE_SAFETENSORS_CONVERSION": "1",  # else transformers sends repo id and token to a Space
        "GRADIO_ANALYTICS_ENABLED": "False",  # this spelling: gradio compares with "True"
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def forget_downloads() -> None:
    """Empties what the clients keep between calls, so that a test cannot be answered from an earlier one's files.

    datasets, for one, answers for a private repository out of its cache, without a token and without asking.
    """
    for folder in ("hub", "datasets"):
        shutil.rmtree(Path(os.environ["HF_HOME"]) / folder, ignore_errors=True)
    if "huggingface_hub.hf_file_system" in sys.modules:
        from huggingface_hub import HfFileSystem

        HfFileSystem.clear_instance_cache()  # it remembers the files of a repository by name
