"""The app under load: 50 programs at once, a newcomer beside a greedy visitor and an audit, 60 models in a row.

The app runs in a process of its own, the programs in this one, all on the same cores; the Hub is the tests' own.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.first_page import free_port
from benchmarks.timing import table
from xaihub.curated import STARTER
from xaihub.ui.settings import starter_examples

__all__ = ["load"]

ROOT = Path(__file__).parents[1]
PROGRAMS, SECONDS, MODELS = 50, 60.0, 60
AUDITS = 2  # of a visitor each; one of the starter alone takes three seconds
IN_WORDS = re.compile("queue is full|questions? waiting already|times in a minute", re.IGNORECASE)


@contextmanager
def app(endpoint: str, **settings: str) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a running app with empty caches of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="xaihub-load-") as home:
        environment = os.environ | {
            "HF_ENDPOINT": endpoint, "HF_HOME": f"{home}/hf", "XAIHUB_CACHE": f"{home}/cache",
            "GRADIO_TEMP_DIR": f"{home}/gradio", "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1", **settings,
        }  # fmt: skip
        with open(f"{home}/log", "w") as log:
            process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, process)
            yield address, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(address, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise TimeoutError("the app did not answer")


class Program:
    """One program that asks `/explain`, with a session of its own."""

    def __init__(self, address: str) -> None:
        from gradio_client import Client, handle_file

        self.client = Client(address, verbose=False, download_files=False)
        self.picture = handle_file(str(starter_examples()[0]))
        self.answers, self.errors = 0, Counter[str]()

    def ask(self, model: str = STARTER, method: str = "gradcam") -> Any:
        return self.client.predict(self.picture, model, "", method, "", api_name="/explain")

    def go_on(self, end: float) -> None:
        while time.monotonic() < end:
            try:
                self.ask()
                self.answers += 1
            except Exception as error:  # noqa: BLE001  whatever it is, it is counted by its words
                self.errors[str(error)] += 1


def throughput(address: str, count: int, seconds: float) -> tuple[float, Counter[str]]:
    """Answers a second of so many programs, and what went wrong, by its words."""
    programs = [Program(address) for _ in range(count)]
    begun = time.monotonic()
    threads = [threading.Thread(target=one.go_on, args=(begun + seconds,)) for one in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun  # the last answers come after the end
    return sum(one.answers for one in programs) / took, sum((one.errors for one in programs), Counter[str]())


def start_audit(address: str) -> threading.Event:
    """Presses Audit on its page, with what its boxes say when it is opened; set once the audit has ended."""
    config = httpx.get(f"{address}/config", timeout=30).json()
    boxes = {part["id"]: part["props"] for part in config["components"]}
    button = next(key for key, props in boxes.items() if props.get("value") == "Audit")
    event = next(one for one in config["dependencies"] if [button, "click"] in one["targets"] and one["inputs"])
    session, ended = uuid.uuid4().hex[:11], threading.Event()
    data = [boxes[key].get("value") for key in event["inputs"]]
    asked = {"data": data, "fn_index": event["id"], "session_hash": session, "trigger_id": button}
    httpx.post(f"{address}/gradio_api/queue/join", json=asked, timeout=30).raise_for_status()

    def listen() -> None:
        events = f"{address}/gradio_api/queue/data?session_hash={session}"
        with suppress(httpx.HTTPError), httpx.stream("GET", events, timeout=None) as stream:  # the app may end first
            for line in stream.iter_lines():
                if line.startswith("data:") and json.loads(line[5:])["msg"] == "process_completed":
                    break
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    return ended


def newcomer_seconds(address: str) -> tuple[float, bool, int]:
    """Until a newcomer's first answer, while audits run and another visitor asks as much as it may.

    Returns:
        The seconds, whether an audit was still running then, and how many of the other's questions were refused.
    """
    greedy, newcomer = Program(address), Program(address)  # connected before, which takes seconds
    audits = [start_audit(address) for _ in range(AUDITS)]
    time.sleep(4)  # long enough for both to be long work
    jobs = [greedy.client.submit(greedy.picture, STARTER, "", "rise", "", api_name="/explain") for _ in range(10)]
    time.sleep(0.5)
    begun = time.monotonic()
    newcomer.ask()
    took, audited = time.monotonic() - begun, not all(ended.is_set() for ended in audits)
    refused = sum(job.done() and job.exception() is not None for job in jobs)
    for job in jobs:
        job.cancel()
    return took, audited, refused


def memory_over_models(count: int) -> tuple[float, float]:
    """Megabytes of the app's memory after a sixth of the models and after all of them, one question each."""
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    from tests.loopback_hub import LoopbackHub

    with LoopbackHub() as hub, tempfile.TemporaryDirectory(prefix="xaihub-models-") as folder:
        names = [f"alice/model-{i:02d}" for i in range(count)]
        for i, name in enumerate(names):
            hub.add_folder(name, small_model(Path(folder) / str(i), i))
        with app(hub.endpoint, XAIHUB_MEMORY_MEGABYTES="64") as (address, process):
            program, sizes = Program(address), []
            for name in names:
                program.ask(name)
                sizes.append(process.memory_info().rss / 2**20)
    return sizes[count // 6 - 1], sizes[-1]


def small_model(folder: Path, seed: int) -> Path:
    """A ResNet of 8 MB with random weights, as its library saves it."""
    import torch
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(seed)
    labels = {i: f"class {i}" for i in range(10)}
    config = ResNetConfig(depths=[1, 1, 1, 1], hidden_sizes=[64, 64, 128, 256], layer_type="basic", id2label=labels)
    network = ResNetForImageClassification(config)
    torch.nn.init.normal_(network.classifier[1].weight)
    network.save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 224}).save_pretrained(folder)
    return folder


def load(quick: bool = False) -> None:
    """Prints all three tables."""
    programs, seconds, models = (8, 10.0, 12) if quick else (PROGRAMS, SECONDS, MODELS)
    with app(f"http://127.0.0.1:{free_port()}") as (address, process):
        Program(address).ask()  # what is slow the first time
        alone, _ = throughput(address, 1, seconds)
        together, errors = throughput(address, programs, seconds)
        took, audited, refused = newcomer_seconds(address)
        resident = process.memory_info().rss / 2**20
    unknown = {words: count for words, count in errors.items() if not IN_WORDS.search(words)}
    rows = [
        ["answers a second, 1 program", f"{alone:.2f}"],
        [f"answers a second, {programs} programs", f"{together:.2f}"],
        ["ratio (at least 0.9)", f"{together / alone:.2f}"],
        ["refused in words", str(sum(errors.values()) - sum(unknown.values()))],
        ["other errors (none)", str(unknown or 0)],
        ["a newcomer's first answer, seconds (at most 5)", f"{took:.1f}"],
        ["an audit was still running", str(audited)],
        ["the greedy visitor's questions refused, of 10", str(refused)],
        ["memory of the app, MB", f"{resident:.0f}"],
    ]
    table(f"/explain with the starter for {seconds:.0f} s", rows, ["figure"])
    early, late = memory_over_models(models)
    rows = [[f"MB after {models // 6} and after {models} models", f"{early:.0f} and {late:.0f}"]]
    table("Memory over models", [*rows, ["ratio (at most 1.05)", f"{late / early:.3f}"]], ["figure"])
