#!/bin/sh
# Check .github/workflows with actionlint. It is a Go program and has no wheel, so it is built here once,
# through the Go module proxy. Without Go, or offline, this check is left to CI.
set -eu

cd "$(dirname "$0")/.."
version=v1.7.12
tool=.local/tools/actionlint-$version

left_to_ci() {
  echo "actionlint: left to CI ($1)." >&2
  if [ -n "${GITHUB_ACTIONS:-}" ]; then exit 1; fi
  exit 0
}

if [ ! -x "$tool" ]; then
  command -v go >/dev/null || left_to_ci "Go is not installed"
  mkdir -p .local/tools
  folder=$(mktemp -d .local/tools/build.XXXXXX)
  trap 'rm -rf "$folder"' EXIT
  GOBIN="$PWD/$folder" GOFLAGS=-trimpath \
    go install "github.com/rhysd/actionlint/cmd/actionlint@$version" 2>"$folder/log" ||
    { tail -n 5 "$folder/log" >&2; left_to_ci "it could not be built"; }
  mv "$folder/actionlint" "$tool"
fi

# The same result everywhere, whether or not these two are installed.
"$tool" -shellcheck= -pyflakes=
