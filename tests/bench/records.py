"""Results as JSON: everything that the table and the plots show, and on what machine it was measured."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Self

from dcron import __version__
from tests.bench.disk import file_milliseconds, file_system
from tests.bench.figures import Bound, Curve, Figure, Measured, Results

__all__ = ["Machine", "load", "save"]

FOLDER = Path("bench/results")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured, and what else went on there."""

    cores: int
    memory_gib: float
    system: str
    python: str
    load_average_before: float
    disk: str
    """The file system of the folder for temporary files, where all nodes, SQLite and MinIO keep theirs."""
    file_milliseconds: float
    """See `disk.file_milliseconds`."""

    @classmethod
    def this(cls) -> Self:
        """This one, as it is now."""
        folder = Path(gettempdir())
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(
            cores=os.cpu_count() or 1,
            memory_gib=round(memory_bytes / 2**30, 1),
            system=platform.platform(),
            python=platform.python_version(),
            load_average_before=round(os.getloadavg()[0], 2),
            disk=file_system(folder),
            file_milliseconds=round(file_milliseconds(folder), 3),
        )


def save(results: Results, mode: str, machine: Machine) -> Path:
    """Write the results of a run to a file named by the time."""
    now = datetime.now(UTC)
    record = {
        "measured_at": now.isoformat(timespec="seconds"),
        "mode": mode,
        "dcron": __version__,
        "machine": asdict(machine),
        **asdict(results),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{now:%Y-%m-%dT%H-%M-%SZ}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def load(path: Path) -> Results:
    """What `save` has written."""
    record = json.loads(path.read_text())
    figures = [
        Figure(
            each["scenario"],
            each["store"],
            _measured(each["measured"]),
            tuple(map(_measured, each["yardsticks"])),
            tuple(Bound(**bound) for bound in each["targets"]),
        )
        for each in record["figures"]
    ]
    curves = [
        Curve(**{**each, "points": tuple((x, y) for x, y in each["points"])}) for each in record["curves"]
    ]
    return Results(figures, curves, record["notes"])


def _measured(body: Mapping[str, Any]) -> Measured:
    return Measured(body["name"], body["unit"], tuple(body["values"]))
