"""Grouping by the month's database that keeps an execution, its outcome, or a skip record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from dcron.ports import executions_database

__all__ = ["by_month"]

_Item = TypeVar("_Item")


def by_month(items: Iterable[_Item], instant: Callable[[_Item], datetime]) -> dict[str, list[_Item]]:
    """Group items by the executions database of their instant, in the order in which they are given."""
    groups: dict[str, list[_Item]] = {}
    for item in items:
        groups.setdefault(executions_database(instant(item)), []).append(item)
    return groups
