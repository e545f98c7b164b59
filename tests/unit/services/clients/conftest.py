"""What registers jobs for the tests of services that clients ask; modules may use others of their own."""

from __future__ import annotations

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.services.clients.registrar import Registrar
from dcron.services.clients.scripts import Scripts
from tests.unit.services.doubles import START, SplitStore


@pytest.fixture
def scripts(objects: MemoryObjectStore) -> Scripts:
    return Scripts(objects, max_script_bytes=1000)


@pytest.fixture
def registrar(store: SplitStore, scripts: Scripts) -> Registrar:
    return Registrar(store, scripts, lambda: START)
