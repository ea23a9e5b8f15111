#!/bin/sh
# Find a Python that this project runs on, and let ops/bootstrap.py make an environment with it.
# Usage: ops/bootstrap.sh dev|emulator|scanner      PYTHON=/path/to/python chooses the Python.
set -eu

cd "$(dirname "$0")/.."

# 3.15 and later have no wheels in the locks and no runtime in template.yaml yet.
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'

if [ -n "${PYTHON:-}" ]; then
  if ! "$PYTHON" -c "$supported" 2>/dev/null; then
    echo "PYTHON=$PYTHON is not a Python 3.11 to 3.14." >&2
    echo "  Do: make ... PYTHON=python3.13   (or leave PYTHON out, to have one found)" >&2
    exit 3
  fi
  exec "$PYTHON" ops/bootstrap.py "$@"
fi

for python in .venv/bin/python python3 python3.13 python3.12 python3.11 python3.14 python; do
  if "$python" -c "$supported" 2>/dev/null; then
    exec "$python" ops/bootstrap.py "$@"
  fi
done

echo "No Python 3.11 to 3.14 was found ($(python3 --version 2>&1 || true))." >&2
echo "  Debian, Ubuntu: apt-get install python3 python3-venv     macOS: brew install python@3.13" >&2
echo "  Elsewhere: https://www.python.org/downloads/, or: make ... PYTHON=/path/to/python3.13" >&2
exit 3
