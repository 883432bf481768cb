"""Check the hashes of manifest.toml: python datasets/prepare/samples.py."""

import hashlib
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    sys.exit("datasets/prepare/samples.py: expected Python 3.11 or newer, for tomllib")

HERE = Path(__file__).parent.parent


def main() -> int:
    """Print each sample with its state; return 1 where one differs."""
    manifest = tomllib.loads((HERE / "manifest.toml").read_text(encoding="utf-8"))
    wrong = 0
    for name, expected in manifest["samples"]["files"].items():
        path = HERE / "samples" / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        state = "ok" if found == expected["sha256"] else f"differs: {found}"
        wrong += state != "ok"
        print(f"{name:14s} {state}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
