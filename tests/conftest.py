"""What all tests share: where the real data lies, and how property tests run."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
_SHARED_DATA = Path(os.environ.get("MMKG_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))

# No deadline: two cores are shared. In CI the same few examples every time, so that a red run is about the change.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, max_examples=30)
settings.load_profile("ci" if _IN_CI else "default")


def pytest_configure(config: pytest.Config) -> None:
    """Let through what other packages warn of among themselves."""
    # Ibis 12 asks DuckDB 2 for the old name of a method.
    config.addinivalue_line("filterwarnings", r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")


def _missing_shared_data() -> str | None:
    if (_SHARED_DATA / "MANIFEST.tsv").is_file():
        return None
    return f"needs the shared data: expected MANIFEST.tsv in {_SHARED_DATA}; set MMKG_SHARED_DATA to where it lies"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the shared data where that is missing; in CI that is a failure."""
    if item.get_closest_marker("shared") is None:
        return
    if missing := _missing_shared_data():
        if _IN_CI:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def shared_data(request: pytest.FixtureRequest) -> Path:
    """Folder of the shared data; only for tests marked `shared`, which are skipped where it is missing."""
    if missing := _missing_shared_data():
        pytest.fail(f"{missing}; and the test that asks for it is not marked `shared`")
    return _SHARED_DATA


@pytest.fixture(autouse=True)
def _log_levels_are_put_back() -> Iterator[None]:
    """The command line sets how much is logged; a test that runs it must not decide that for the next one."""
    levels = {name: logging.getLogger(name).level for name in ("mmkg", "mmkg.training")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
