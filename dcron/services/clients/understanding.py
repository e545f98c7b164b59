"""Documents that this node does not understand: one of them must not hide the others of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog

from dcron.domain.errors import NotUnderstood
from dcron.ports import Document

__all__ = ["understood"]

_Value = TypeVar("_Value")

log = structlog.get_logger()


def understood(value_of: Callable[[str, Mapping[str, Any]], _Value], document: Document) -> _Value | None:
    """The value of a document; None, and a line in the log, where this node does not understand it."""
    try:
        return value_of(document.id, document.body)
    except NotUnderstood as error:
        log.warning("a document is left out of a list", action="list", document=document.id, error=str(error))
        return None
