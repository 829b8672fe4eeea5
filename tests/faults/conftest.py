# SPDX-License-Identifier: BSD-3-Clause
"""Each test of a fault is a job of its own, which may crash, hang or be killed without taking the test along."""

import pytest

from launch import Jobs


def pytest_collection_modifyitems(items):  # type: ignore[no-untyped-def]
    """A test that is there for several numbers of ranks is slow but for one of them: 3, or what is next to it."""
    chosen = {}
    for item in items:
        if "ranks" in getattr(item, "callspec", item).__dict__.get("params", {}):
            others = {name: value for name, value in item.callspec.params.items() if name != "ranks"}
            chosen.setdefault((item.function, str(others)), []).append(item)
    for group in chosen.values():
        group.sort(key=lambda item: abs(item.callspec.params["ranks"] - 3))
        for item in group[1:]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def job(tmp_path):  # type: ignore[no-untyped-def]
    """Start jobs: `job(3, script)` gives `.code .out .err .seconds` of an ended one, `job.start` a running one."""
    jobs = Jobs(tmp_path)
    yield jobs
    jobs.end()
