# SPDX-License-Identifier: BSD-3-Clause
"""As in tests/faults: each program is a job of its own."""

from faults.conftest import job, pytest_collection_modifyitems  # noqa: F401
