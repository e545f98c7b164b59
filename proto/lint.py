"""Hold proto/dcron.proto to the field's conventions.

They are the rules of `buf lint` as proto/buf.yaml has them, and of https://google.aip.dev those on spans of
time, instants and pages."""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

__all__ = ["file_of", "findings", "main"]

SOURCE = Path(__file__).resolve().parent / "dcron.proto"
RESOURCES = frozenset({"Job", "JobRevision", "Execution", "Node", "ClusterStatus"})
"""What methods may return as it is: each is the thing itself, not the answer to one question."""

_PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_WORD = re.compile(r"(?<!^)(?=[A-Z])")
# Numbers of fields in descriptor.proto, of which the paths to comments are made.
_MESSAGES, _ENUMS, _SERVICES, _FIELDS, _VALUES, _METHODS = 4, 5, 6, 2, 2, 2


def file_of(source: Path) -> FileDescriptorProto:
    """The parsed file with its comments; exits when protoc refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set"
        arguments = [
            "protoc",
            f"--proto_path={source.parent}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            "--include_source_info",
            f"--descriptor_set_out={target}",
            source.name,
        ]
        if protoc.main(arguments) != 0:
            sys.exit(f"protoc refused {source.name}: see above")
        [file] = FileDescriptorSet.FromString(target.read_bytes()).file
    return file


def findings(file: FileDescriptorProto) -> list[str]:
    """One line for each breach, with the name at fault."""
    messages = {message.name: message for message in file.message_type}
    return [
        *(line for message in file.message_type for line in _in_message(message)),
        *(line for enum in file.enum_type for line in _in_enum(enum)),
        *(line for service in file.service for line in _in_service(service, messages)),
        *_shared_requests(file),
        *_without_comment(file),
    ]


def _in_message(message: DescriptorProto) -> Iterator[str]:
    if not _PASCAL.fullmatch(message.name):
        yield f"{message.name}: a message is named in PascalCase"
    for field in message.field:
        yield from _in_field(f"{message.name}.{field.name}", field)


def _in_field(name: str, field: FieldDescriptorProto) -> Iterator[str]:
    if not _SNAKE.fullmatch(field.name):
        yield f"{name}: a field is named in lower_snake_case"
    if field.name.endswith("_seconds"):
        yield f"{name}: a span of time is a google.protobuf.Duration, without a unit in its name (AIP-142)"
    if field.name.endswith("_at") and field.type_name != ".google.protobuf.Timestamp":
        yield f"{name}: an instant is a google.protobuf.Timestamp (AIP-142)"


def _in_enum(enum: EnumDescriptorProto) -> Iterator[str]:
    if not _PASCAL.fullmatch(enum.name):
        yield f"{enum.name}: an enum is named in PascalCase"
    prefix = _WORD.sub("_", enum.name).upper() + "_"
    for value in enum.value:
        if not value.name.startswith(prefix):
            yield f"{enum.name}.{value.name}: a value begins with {prefix}"
        if value.number == 0 and value.name != f"{prefix}UNSPECIFIED":
            yield f"{enum.name}.{value.name}: the value 0 is {prefix}UNSPECIFIED"


def _in_service(service: ServiceDescriptorProto, messages: dict[str, DescriptorProto]) -> Iterator[str]:
    if not _PASCAL.fullmatch(service.name):
        yield f"{service.name}: a service is named in PascalCase"
    for method in service.method:
        name = f"{service.name}.{method.name}"
        if not _PASCAL.fullmatch(method.name):
            yield f"{name}: a method is named in PascalCase"
        names = (method.name, f"{service.name}{method.name}")
        if _type(method.input_type) not in {f"{each}Request" for each in names}:
            yield f"{name}: what it takes is named {method.name}Request"
        if _type(method.output_type) not in RESOURCES | {f"{each}Response" for each in names}:
            yield f"{name}: what it returns is a resource or named {method.name}Response"
        if method.name.startswith("List"):
            yield from _in_list(name, method, messages)


def _in_list(name: str, method: MethodDescriptorProto, messages: dict[str, DescriptorProto]) -> Iterator[str]:
    asked = {field.name: field.type for field in messages[_type(method.input_type)].field}
    answered = {field.name: field.type for field in messages[_type(method.output_type)].field}
    text, number = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_INT32
    if asked.get("page_size") != number or asked.get("page_token") != text:
        yield f"{name}: a list takes an int32 page_size and a string page_token (AIP-158)"
    if answered.get("next_page_token") != text:
        yield f"{name}: a list returns a string next_page_token (AIP-158)"


def _shared_requests(file: FileDescriptorProto) -> Iterator[str]:
    """No two methods share a message, but for resources: one of them will want another field."""
    used = Counter(
        _type(each)
        for service in file.service
        for method in service.method
        for each in (method.input_type, method.output_type)
    )
    for name, count in used.items():
        if count > 1 and name not in RESOURCES:
            yield f"{name}: {count} methods take or return it; give each its own"


def _without_comment(file: FileDescriptorProto) -> Iterator[str]:
    comments = {
        tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()
    }
    for path, name in _named(file):
        if path not in comments:
            yield f"{name}: has no comment"


def _named(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Everything that has a name, with its path in the descriptor."""
    groups = (
        (_MESSAGES, file.message_type, _FIELDS, "field"),
        (_ENUMS, file.enum_type, _VALUES, "value"),
        (_SERVICES, file.service, _METHODS, "method"),
    )
    for kind, elements, member_kind, members in groups:
        for place, element in enumerate(elements):
            yield (kind, place), element.name
            for number, member in enumerate(getattr(element, members)):
                yield (kind, place, member_kind, number), f"{element.name}.{member.name}"


def _type(name: str) -> str:
    return name.rpartition(".")[2]


def main() -> None:
    """Run as a program: exits 1 when there are findings."""
    if found := findings(file_of(SOURCE)):
        sys.exit("\n".join([*found, "proto/dcron.proto: see proto/lint.py and proto/buf.yaml"]))


if __name__ == "__main__":
    main()
