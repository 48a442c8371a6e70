#!/usr/bin/env bash
# Everything that must pass before a change lands: format, lints, tests, docs.
set -euo pipefail
cd "$(dirname "$0")"
step() { printf '\n== %s\n' "$*"; "$@"; }
step cargo fmt --check
step cargo clippy --all-targets --locked -- -D warnings
step cargo test --locked
RUSTDOCFLAGS="-D warnings" step cargo doc --no-deps --locked
if command -v cargo-deny >/dev/null; then
  step cargo deny check licenses bans sources
fi
