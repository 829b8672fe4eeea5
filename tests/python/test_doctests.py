# SPDX-License-Identifier: BSD-3-Clause
"""The examples in the package's docstrings."""

import doctest
import importlib
import pkgutil

import pytest
from support import alive

import nodeshare

pytestmark = pytest.mark.ranks(1)
MODULES = ["nodeshare"] + [f"nodeshare.{module.name}" for module in pkgutil.iter_modules(nodeshare.__path__)]
WITH_EXAMPLES = {"nodeshare", "nodeshare.creating", "nodeshare.memory", "nodeshare.shared_array", "nodeshare.topology"}
WITH_EXAMPLES |= {
    f"nodeshare.{name}"
    for name in (
        *("arena", "barrier", "counter", "dict", "io", "list", "locks", "map", "map_blocks", "pipe", "queue", "share"),
        *("work", "writing"),
    )
}
WITH_EXAMPLES |= {f"nodeshare.from_{what}" for what in ("function", "parts", "source")}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_do_what_they_say(name):
    alive()  # trims what other tests have left
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
    assert results.attempted > 0 or name not in WITH_EXAMPLES


def test_every_public_function_says_its_scope():
    scopes = ("Collective over the communicator", "Collective over the node", "Local")
    for name in nodeshare.__all__:
        thing = getattr(nodeshare, name)
        if not isinstance(thing, type):
            assert thing.__doc__.startswith(scopes), name
