"""The app as a visitor meets it: `app.py` in a process of its own, and headless Chromium in front of it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCREENSHOTS = Path(__file__).parent / "screenshots"  # git-ignored: to be looked at, not compared
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SECONDS_TO_START = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(endpoint: str, **settings: str) -> Iterator[str]:
    """The address of a running app whose Hub is at `endpoint`, with empty caches of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="xaihub-app-") as home:
        environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": f"{home}/hf",
            "XAIHUB_CACHE": f"{home}/cache",
            "GRADIO_TEMP_DIR": f"{home}/gradio",
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "OMP_NUM_THREADS": "2",
            **settings,
        }
        with open(f"{home}/log", "w+") as log:
            app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
            try:
                address = f"http://127.0.0.1:{port}"
                _wait_for(address, app, log)
                yield address
            finally:
                app.send_signal(signal.SIGTERM)
                app.wait(20)


def _wait_for(address: str, app: subprocess.Popen[bytes], log: Any) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and app.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    log.seek(0)
    pytest.fail(f"The app did not answer. Its log:\n{log.read()[-3000:]}")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served_offline(**settings: str) -> Iterator[str]:
    """The same where nobody answers for the Hub; skipped where the built-in starter has not been made yet."""
    from xaihub.ui.settings import starter_examples

    if not starter_examples():
        pytest.skip("the built-in starter has not been made yet")
    with served(f"http://127.0.0.1:{free_port()}", **settings) as address:
        yield address


NOISE = "/heartbeat/|AbortError: signal is aborted|Connection errored out"  # of gradio, when a page or a server is left
BROKEN: list[str] = []  # what went wrong in the scripts of any page since the last test; `conftest` fails the test


def watched(page: Any, *, allowed: str = "") -> Any:
    """The page, whose uncaught errors and console errors are collected, in `page.broken` and for the test as a whole.

    Args:
        allowed: a pattern of console errors that the test provokes.
    """
    page.broken, page.allowed = [], allowed

    def tell(text: str) -> None:
        if re.search(NOISE, text) or (page.allowed and re.search(page.allowed, text)):
            return
        page.broken.append(text)
        BROKEN.append(f"{page.url}: {text}")

    page.on("pageerror", lambda error: tell(str(error)))
    page.on("console", lambda message: message.type == "error" and tell(f"{message.text} ({message.location['url']})"))
    return page


def open_page(
    browser: Any,
    address: str,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    ready: str = "#xh-explain",
    before: str = "",
) -> Any:
    """The page, ready to be used; an error of its own script fails the test (`watched`).

    Args:
        before: a script that runs before those of the page.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    context.add_init_script(before)
    page = watched(context.new_page())
    page.goto(address)
    page.wait_for_selector(ready)
    return page


def send_picture(page: Any, file: Path | dict[str, Any]) -> None:
    """Uploads a picture and waits until the server has it."""
    with page.expect_response(lambda answer: "/upload" in answer.url and answer.request.method == "POST"):
        page.set_input_files("#xh-picture input[type=file]", file)
    page.wait_for_timeout(300)


def settled(page: Any) -> None:
    """Waits for the smallest change, which is drawn last."""
    page.wait_for_selector("[data-method=swap]:not(:has-text('Looking for it'))", timeout=60_000)


def choose(page: Any, box: str, value: str, *, until: str = "") -> None:
    """Types into a menu, and leaves it; `until` is what the choice brings."""
    page.fill(f"{box} input", value)
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    if until:
        page.wait_for_selector(until, timeout=60_000)


def appears(page: Any, selector: str, timeout: float) -> bool:
    """Whether it is seen within so many milliseconds."""
    from playwright.sync_api import TimeoutError as TooLate

    try:
        page.wait_for_selector(selector, timeout=timeout)
    except TooLate:
        return False
    return True


def shot(page: Any, name: str) -> None:
    """A screenshot to be looked at, once nothing moves any more."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.wait_for_timeout(400)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def sentence(page: Any, *, timeout: float = 40_000) -> str:
    """The words of the alert, once there are any."""
    page.wait_for_selector("#xh-alert [role=alert]", timeout=timeout)
    return page.inner_text("#xh-alert")


_SHOWN = """() => JSON.stringify({
  boxes: [...document.querySelectorAll("[id^=xh-] input, [id^=xh-] textarea")].map((box) => box.value).filter(Boolean),
  focus: document.activeElement?.closest("[id]")?.id,
  text: document.body.innerText.slice(0, 3000),
}, null, 1)"""


def shown_on(browser: Any) -> str:
    """What the open pages say, for the report of a test that failed."""
    from playwright.sync_api import Error

    told = []
    for page in [page for context in browser.contexts for page in context.pages] if browser else []:
        try:
            told.append(f"{page.url}\n{page.evaluate(_SHOWN)}\nerrors: {getattr(page, 'broken', [])}")
        except Error as error:  # it has gone meanwhile
            told.append(str(error))
    return "\n".join(told[-2:])
