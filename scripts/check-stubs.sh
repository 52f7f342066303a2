#!/bin/sh
# Fails when the committed stubs are not what proto/ generates.
set -eu
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/generate-stubs.sh "$fresh"
for file in "$fresh"/sluice/worker/v1/*; do
  if ! cmp -s "$file" "proto/sluice/worker/v1/$(basename "$file")"; then
    echo "proto/sluice/worker/v1/$(basename "$file") is stale: run 'make proto'" >&2
    exit 1
  fi
done
echo "The stubs are fresh."
