"""What every test shares. The Hub comes first: the client libraries read HF_ENDPOINT when they are imported."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser_fixture import BROKEN, chromium, shown_on
from hub_fixture import forget_downloads, start_hub_for_session
from loopback_hub import LoopbackHub

HUB = start_hub_for_session()


def pytest_configure(config: pytest.Config) -> None:
    # huggingface_hub 2.4 sends LFS content by a deprecated argument of its own HTTP client.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>' to upload raw:DeprecationWarning")


def pytest_unconfigure() -> None:
    HUB.stop()


@pytest.fixture(scope="module")
def module_hub() -> Iterator[LoopbackHub]:
    """The Hub for fixtures that live as long as a file's tests: what they put there is gone after these."""
    before = HUB.snapshot()
    yield HUB
    HUB.restore(before)
    forget_downloads()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for a file's tests; they are skipped where there is none."""
    with chromium() as running:
        yield running


@pytest.fixture
def hub(module_hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """The Hub for one test: users, repositories, requests and faults made during it are gone afterwards."""
    before = module_hub.snapshot()
    module_hub.requests.clear()
    yield module_hub
    module_hub.restore(before)
    forget_downloads()


@pytest.fixture(autouse=True)
def _pages_are_closed(request: pytest.FixtureRequest) -> Iterator[None]:
    """A page that was left open goes on drawing and asking; those of a module's own fixtures stay."""
    if "browser" not in request.fixturenames:
        yield
        return
    browser = request.getfixturevalue("browser")
    before = list(browser.contexts)
    yield
    for context in [context for context in browser.contexts if context not in before]:
        context.close()


@pytest.fixture(autouse=True)
def _no_page_is_broken() -> Iterator[None]:
    """An error of a page's own script fails the test in which it happens, whether the test looks for it or not."""
    BROKEN.clear()
    yield
    told, BROKEN[:] = list(BROKEN), []
    assert not told, f"The pages' scripts told of errors: {told}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Where a test of a page fails, the report tells what the page showed: nobody can look at it afterwards."""
    report = yield
    if report.failed and "browser" in getattr(item, "fixturenames", ()):
        report.sections.append(("the pages", shown_on(item.funcargs.get("browser"))))
    return report
