"""Generate dcron/rpc from proto/dcron.proto, or with --check say whether what is there is stale."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

__all__ = ["generate", "main", "stale_files"]

ROOT = Path(__file__).resolve().parent.parent
PROTO_FOLDER = ROOT / "proto"
PACKAGE = Path("dcron/rpc")
TOOLS = Path(sys.executable).parent
PACKAGE_DOCSTRING = '"""Generated from proto/dcron.proto by `make proto`; never edited."""\n'


def generate(target: Path) -> Path:
    """Write the generated package below `target` and return its folder; exits when protoc fails."""
    package = target / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(PACKAGE_DOCSTRING)
    arguments = [
        "protoc",
        # Compiled under the package's own path, so that the generated imports are absolute.
        f"--proto_path={PACKAGE}={PROTO_FOLDER}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        *(f"--plugin={name}={TOOLS / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")),
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        f"{PACKAGE}/dcron.proto",
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc refused proto/dcron.proto: see above")
    return package


def stale_files() -> list[str]:
    """Names in dcron/rpc that are missing, superfluous, or differ from what would be generated now."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = _contents(generate(Path(folder)))
    found = _contents(ROOT / PACKAGE)
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def main() -> None:
    """Run as a program: exits 1 when `--check` finds stale files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when dcron/rpc is stale")
    if not parser.parse_args().check:
        generate(ROOT)
    elif stale := stale_files():
        sys.exit(f"stale in {PACKAGE}: {', '.join(stale)}; run `make proto`")


if __name__ == "__main__":
    main()
