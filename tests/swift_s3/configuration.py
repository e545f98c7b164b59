"""Configuration files and rings of a Swift that keeps one copy of everything in one folder.

Runs in Swift's own virtual environment (see tests/swift_venv.py).
"""

from __future__ import annotations

from pathlib import Path

from swift.common.ring import RingBuilder

__all__ = ["BACKENDS", "write_configuration"]

BACKENDS = ("account", "container", "object")
PROXY_PIPELINE = ("catch_errors", "listing_formats", "s3api", "tempauth", "bulk", "slo", "symlink",
                  "versioned_writes")  # fmt: skip
FILTER_OPTIONS = {
    "s3api": {"s3_acl": "false", "location": "us-east-1", "check_bucket_owner": "true"},
    "slo": {"rate_limit_under_size": "0"},
    "versioned_writes": {"allow_object_versioning": "true"},
}
PARTITION_POWER = 4


def write_configuration(folder: Path, ports: dict[str, int], access_key: str, secret_key: str) -> None:
    """Write `<service>.conf` and `<backend>.ring.gz` for the proxy and its backends on their ports."""
    (folder / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    _write(
        folder / "swift.conf",
        {
            "swift-hash": {"swift_hash_path_prefix": "dcron", "swift_hash_path_suffix": "tests"},
            "storage-policy:0": {"name": "one-copy", "default": "yes"},
            # Signed requests carry long headers.
            "swift-constraints": {"max_header_size": "16384"},
        },
    )
    for name in BACKENDS:
        main = {"pipeline": f"{name}-server"}
        app = {"use": f"egg:swift#{name}"}
        sections = {
            "DEFAULT": _defaults(folder, ports[name]),
            "pipeline:main": main,
            f"app:{name}-server": app,
        }
        _write(folder / f"{name}.conf", sections)
        _write_ring(folder / f"{name}.ring.gz", ports[name])
    account, user = access_key.split(":")
    users = {f"user_{account}_{user}": f"{secret_key} .admin"}
    _write_proxy(folder, ports["proxy"], users)


def _write_proxy(folder: Path, port: int, users: dict[str, str]) -> None:
    sections = {
        "DEFAULT": _defaults(folder, port),
        "pipeline:main": {"pipeline": " ".join([*PROXY_PIPELINE, "proxy-server"])},
        "app:proxy-server": {
            "use": "egg:swift#proxy",
            "account_autocreate": "true",
            "allow_account_management": "true",
        },
    }
    for name in PROXY_PIPELINE:
        options = users if name == "tempauth" else FILTER_OPTIONS.get(name, {})
        sections[f"filter:{name}"] = {"use": f"egg:swift#{name}", **options}
    path = folder / "proxy.conf"
    path.touch(mode=0o600)
    _write(path, sections)


def _defaults(folder: Path, port: int) -> dict[str, str]:
    return {
        "swift_dir": str(folder),
        "devices": str(folder / "devices"),
        "mount_check": "false",
        "bind_ip": "127.0.0.1",
        "bind_port": str(port),
        "log_level": "ERROR",
        # A test may run where less is free than a real server would keep in reserve.
        "fallocate_reserve": "0",
        "disable_fallocate": "true",
    }


def _write(path: Path, sections: dict[str, dict[str, str]]) -> None:
    lines = []
    for title, options in sections.items():
        lines += [f"[{title}]", *(f"{name} = {value}" for name, value in options.items()), ""]
    path.write_text("\n".join(lines))


def _write_ring(path: Path, port: int) -> None:
    builder = RingBuilder(PARTITION_POWER, 1, 0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(str(path))
