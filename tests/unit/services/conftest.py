"""Stores for services that act for clients; modules with others of these names use their own."""

from __future__ import annotations

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from tests.unit.services.doubles import SplitStore, objects_with_script


@pytest.fixture
async def store() -> SplitStore:
    store = SplitStore()
    await store.prepare()
    return store


@pytest.fixture
async def objects() -> MemoryObjectStore:
    return await objects_with_script()
