"""The time until the first page is served, against a bare gradio page. Each start is a process of its own."""

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks.timing import table

ROOT = Path(__file__).parents[1]

BARE = """
import gradio as gr
with gr.Blocks() as page:
    gr.Markdown("hello")
page.launch(server_port={port}, server_name="127.0.0.1", quiet=True)
"""


def seconds_to_first_page(command: list[str], port: int) -> float:
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - start < 120:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    if answer.status == 200 and b"gradio" in answer.read():
                        return time.perf_counter() - start
            except OSError:
                time.sleep(0.01)
        raise TimeoutError(command)
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_page_ratio(rounds: int) -> None:
    bare, ours = [], []
    for turn in range(rounds + 1):
        port = free_port()
        first = seconds_to_first_page([sys.executable, "-c", BARE.format(port=port)], port)
        port = free_port()
        mine = seconds_to_first_page([sys.executable, "app.py"], port)
        if turn:  # the first start compiles files
            bare.append(first)
            ours.append(mine)
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    row = [f"{statistics.median(bare):.2f}", f"{statistics.median(ours):.2f}", f"{ratio:.2f}"]
    table("First page served, seconds from the start of the process", [row], ["bare gradio page", "xaihub", "ratio"])
