#!/bin/sh
# Pin requirements/*.in: writes requirements/*.txt and src/requirements.txt.
# Keeps the versions that are already pinned; --upgrade takes the newest.
set -eu

cd "$(dirname "$0")/.."
export UV_CUSTOM_COMPILE_COMMAND="make lock"

compile() {
  # One lock for every platform and every Python from 3.11, with each file's hash. --no-config because
  # uv.toml is for `sam build` and would leave out all dependencies of dependencies.
  .venv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes "$@"
}

compile requirements/dev.in --output-file requirements/dev.txt "$@"
compile requirements/emulator.in --output-file requirements/emulator.txt "$@"
compile requirements/scanner.in --output-file requirements/scanner.txt "$@"
# The same versions as in dev.txt. requirements/runtime.in says why these are left out.
compile requirements/runtime.in --constraint requirements/dev.txt --output-file src/requirements.txt \
  --no-emit-package requests --no-emit-package certifi --no-emit-package charset-normalizer \
  --no-emit-package idna "$@"
