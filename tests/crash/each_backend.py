"""Runs a command once with each backend, one after the other; fails if one of them does.

python tests/crash/each_backend.py pytest -m slow
"""

from __future__ import annotations

import os
import subprocess
import sys

if __name__ == "__main__":
    failed = [
        backend
        for backend in ("jax", "torch", "tensorflow")
        if subprocess.call(sys.argv[1:], env={**os.environ, "KERAS_BACKEND": backend})
    ]
    sys.exit(f"failed on {', '.join(failed)}" if failed else 0)
