#!/bin/sh
# Copies the small fixtures as first inputs of the `adapter` target. Run it before `cargo fuzz run`.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/adapter
find ../tests/parity/adapters -name '*.safetensors' -size -16k | while read -r file; do
    cp "$file" "corpus/adapter/$(echo "${file#../tests/parity/adapters/}" | tr '/' '-')"
done
