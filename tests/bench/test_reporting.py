"""What the bench says of what it measured."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import records
from tests.bench.failover_report import describe_machine
from tests.bench.figures import Bound, Curve, Figure, Measured, Results, percentile
from tests.bench.plots import HEIGHT, LEFT, RIGHT, WIDTH, draw
from tests.bench.table import cells

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(share: float, expected: float):
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_a_target_is_kept_by_the_median_of_the_runs():
    runs = Measured("lateness", "s", (1.0, 2.0, 9.0))
    assert Bound("", 2.0).holds(runs)
    assert not Bound("", 1.9).holds(runs)
    assert Bound("", 2.0, at_most=False).holds(runs)
    assert not Bound("", 2.1, at_most=False).holds(runs)


def test_a_target_for_every_value_is_missed_by_one():
    nodes = Measured("requests", "/s", (1.0, 1.0, 9.0))
    assert not Bound("", 8.0, every=True).holds(nodes)
    assert Bound("", 9.0, every=True).holds(nodes)
    assert not Bound("", 2.0, at_most=False, every=True).holds(nodes)


def test_a_line_of_the_table_has_the_yardstick_beside_the_figure():
    yardstick = Measured("spawn loop", "s", (0.5,))
    figure = Figure(
        "due at once", "SQLite", Measured("p99", "s", (3.0, 1.0, 2.0)), (yardstick,), (Bound("twice", 1.0),)
    )
    assert list(cells(figure)) == [
        "due at once: p99",
        "SQLite",
        "1.00 s",
        "2.00 s",
        "3.00 s",
        "spawn loop 0.50 s",
        "≤ 1.00 s (twice)",
        "no",
    ]


def test_results_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    measured = Measured("p99", "s", (1.0, 2.0))
    bound = Bound("each", 1.5, at_most=False, every=True)
    results = Results(
        [Figure("due at once", "SQLite", measured, (measured,), (bound,))],
        [Curve("plot", "line", "x", "y", ((0.0, 1.0), (2.0, 3.0)))],
        ["a note"],
    )
    path = records.save(results, "quick", records.Machine.this())
    assert records.load(path) == results


def test_a_plot_is_an_image_with_each_line_within_its_axes():
    curves = [
        Curve("plot", f"line <{number}>", "x", "y", tuple((x * 0.1, x * number) for x in range(1000)))
        for number in (1, 7)
    ]
    image = ET.fromstring(draw(curves))  # noqa: S314 - it was made a line above
    lines = image.findall(f".//{SVG}polyline")
    assert len(lines) == 2
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert LEFT <= x <= WIDTH - RIGHT
            assert 0 <= y <= HEIGHT
    assert {"line <1>", "line <7>"} <= {text.text for text in image.iter(f"{SVG}text")}


class _Guarded(BaseHTTPRequestHandler):
    """A CouchDB that tells nobody anything without a password (`require_valid_user`)."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Basic {b64encode(b'user:secret').decode()}"
        body = {"couchdb": "Welcome", "version": "3.5.0"} if known else {"error": "unauthorized"}
        self.send_response(HTTPStatus.OK if known else HTTPStatus.UNAUTHORIZED)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_couchdb_that_wants_a_password_even_for_its_version_is_described():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            machine = describe_machine(
                f"couchdb://user:secret@127.0.0.1:{server.server_port}/x", "file:///tmp"
            )
        finally:
            server.shutdown()
            serving.join()
    assert machine.store == "CouchDB 3.5.0, 1 address"
