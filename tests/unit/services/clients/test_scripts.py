"""What is stored as a script is what was meant."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.errors import InvalidInput
from dcron.services.clients.scripts import Scripts
from tests.unit.services.doubles import SCRIPT, SCRIPT_TEXT


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_an_uploaded_script_is_present_afterwards(scripts: Scripts) -> None:
    text = b"echo 1\n"
    digest = hashlib.sha256(text).hexdigest()
    assert not (await scripts.prepare_upload(digest, len(text))).present
    assert await scripts.upload(digest, stream(text[:3], text[3:])) == len(text)
    assert (await scripts.prepare_upload(digest, len(text))).present


async def test_an_upload_with_another_digest_stores_nothing(
    scripts: Scripts, objects: MemoryObjectStore
) -> None:
    digest = hashlib.sha256(b"meant").hexdigest()
    with pytest.raises(InvalidInput, match="upload it again") as caught:
        await scripts.upload(digest, stream(b"other"))
    assert caught.value.field == "sha256"
    assert await objects.size(f"scripts/{digest}") is None


@pytest.mark.parametrize("text", [b"", b"x" * 1001])
async def test_an_empty_or_oversized_upload_is_refused(scripts: Scripts, text: bytes) -> None:
    digest = hashlib.sha256(text).hexdigest()
    with pytest.raises(InvalidInput, match="script"):
        await scripts.upload(digest, stream(text))


async def test_a_known_script_needs_no_upload(scripts: Scripts) -> None:
    assert (await scripts.prepare_upload(SCRIPT.sha256, len(SCRIPT_TEXT))).present
