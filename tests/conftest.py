"""What every test shares. The Hub comes first: the client libraries read HF_ENDPOINT when they are imported."""

from collections.abc import Iterator

import pytest
from hub_fixture import forget_downloads, start_hub_for_session
from loopback_hub import LoopbackHub

HUB = start_hub_for_session()


def pytest_configure(config: pytest.Config) -> None:
    # huggingface_hub 2.4 sends LFS content by a deprecated argument of its own HTTP client.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>' to upload raw:DeprecationWarning")


def pytest_unconfigure() -> None:
    HUB.stop()


@pytest.fixture(scope="session")
def session_hub() -> LoopbackHub:
    """The Hub for fixtures that live as long as the session: what they put there stays."""
    return HUB


@pytest.fixture
def hub(session_hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """The Hub for one test: users, repositories, requests and faults made during it are gone afterwards."""
    before = session_hub.snapshot()
    session_hub.requests.clear()
    yield session_hub
    session_hub.restore(before)
    forget_downloads()
