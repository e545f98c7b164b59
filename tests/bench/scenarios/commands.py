"""How long a person waits for the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.figures import Bound, Figure, Measured
from tests.bench.measuring import FAR, Bench, Marks, cluster_on, seeded, serving, uploaded
from tests.bench.stores import local

__all__ = ["run"]

NAME = "command line"
PROGRAM = str(Path(sys.executable).with_name("dcron"))
LISTED = 20
_MOST_SECONDS = ((("job", "list"), 0.4), (("--help",), 0.15))


def run(bench: Bench) -> None:
    """Measure both commands, each run beside a Python that does nothing."""
    with bench.opened(local) as (stores, folder):
        cluster = cluster_on(folder, stores, nodes=1)
        seeded(cluster, "listed", LISTED, uploaded(stores, Marks(folder).script), FAR)
        with serving(cluster):
            environment = {**os.environ, "DCRON_SERVER": cluster.nodes[0].address}
            for words, limit in _MOST_SECONDS:
                bare: list[float] = []
                taken: list[float] = []
                for _ in range(bench.scale.commands):
                    bare.append(_seconds([sys.executable, "-c", ""], environment))
                    taken.append(_seconds([PROGRAM, *words], environment))
                measured = Measured(f"dcron {' '.join(words)}", "s", tuple(taken))
                yardstick = Measured("python -c ''", "s", tuple(bare))
                bench.results.figures.append(Figure(NAME, "any", measured, (yardstick,), (Bound("", limit),)))


def _seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
