"""JSON of values: one table for both ways, in which unknown fields survive.

Two versions share a cluster, and the older one rewrites what the newer one wrote. So each value keeps, as
`unknown`, the fields of its body that this version does not know, and they are written again. A word that
only a newer version knows (a state, a reason) is kept likewise, as an `Unrecognized`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Generic, TypeVar

__all__ = [
    "Body",
    "Field",
    "Record",
    "Stored",
    "Unrecognized",
    "all_unknown",
    "maybe",
    "one",
    "several",
    "word",
]

Body = dict[str, Any]
Value = TypeVar("Value", bound="Stored")

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Stored:
    """A value that is stored. `unknown` has the fields of its body that only a newer version knows."""

    unknown: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, kw_only=True, hash=False, repr=False)


def all_unknown(leaves: Iterable[Stored]) -> Mapping[str, Any]:
    """What newer versions wrote on any leaf of a document; of two values, that of the later leaf given.

    A leaf may lack a field only because an older version began that branch: who knows a field writes it."""
    return {key: value for leaf in leaves for key, value in leaf.unknown.items()}


@dataclass(frozen=True, slots=True)
class Unrecognized:
    """A word that a newer version wrote where this one expects a member of an enumeration."""

    value: str


@dataclass(frozen=True, slots=True)
class Field:
    """Form of one field: its key where that is not its name, and its value as JSON and back."""

    key: str = ""
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None


class Record(Generic[Value]):
    """The table of one class of values: each field under its own name as it is, unless `forms` say otherwise.

    Fields named in `given` are no members of the body, and members named in `beside` belong to no field:
    whoever uses the table sees to both. `document` is the `kind` that a document says it is. A field that is
    absent from a body has its default: an older version did not know it yet."""

    def __init__(
        self,
        values: type[Value],
        *,
        document: str = "",
        given: Collection[str] = (),
        beside: Collection[str] = (),
        **forms: Field,
    ) -> None:
        self._make: Callable[..., Value] = values
        self._kind = {"kind": document} if document else {}
        names = [each.name for each in fields(values) if each.name not in {"unknown", *given}]
        members = [(name, forms.get(name, Field())) for name in names]
        self._members = [(name, form.key or name, form.encode, form.decode) for name, form in members]
        self._known = {*self._kind, *beside, *(key for _, key, _, _ in self._members)}

    def body(self, value: Value, **beside: Any) -> Body:
        """The JSON body of a value."""
        body = {**value.unknown, **self._kind, **beside}
        for name, key, encode, _ in self._members:
            member = getattr(value, name)
            body[key] = member if encode is None else encode(member)
        return body

    def value(self, body: Mapping[str, Any], **given: Any) -> Value:
        """The value of a JSON body; AttributeError, KeyError, TypeError or ValueError when there is none."""
        for name, key, _, decode in self._members:
            if key in body:
                given[name] = body[key] if decode is None else decode(body[key])
        unknown = body.keys() - self._known
        if unknown:
            given["unknown"] = {key: body[key] for key in unknown}
        return self._make(**given)


def one(record: Record[Any], key: str = "") -> Field:
    """A field that is a stored value of its own."""
    return Field(key, encode=record.body, decode=record.value)


def maybe(record: Record[Any], key: str = "") -> Field:
    """A field that is a stored value of its own, or None."""
    return Field(
        key,
        encode=lambda value: record.body(value) if value is not None else None,
        decode=lambda body: record.value(body) if body else None,
    )


def several(record: Record[Any], key: str = "") -> Field:
    """A field that is a tuple of stored values."""
    return Field(
        key,
        encode=lambda values: [record.body(value) for value in values],
        decode=lambda bodies: tuple(record.value(body) for body in bodies),
    )


def word(words: type[Enum], key: str = "") -> Field:
    """A field that is a member of an enumeration, or Unrecognized."""

    def decode(text: str) -> Enum | Unrecognized:
        try:
            return words(text)
        except ValueError:
            return Unrecognized(text)

    return Field(key, encode=lambda member: member.value, decode=decode)
