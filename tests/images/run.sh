#!/usr/bin/env bash
# Builds the images on a machine that cannot pull any, and tests them:  run.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/../.."

export IMAGE_PREFIX=localhost/sluice- IMAGE_TAG=test BUILD_TOOL=buildah
export BASE_IMAGE=localhost/sluice-base:bookworm
tests/images/stand-in-base.sh "$BASE_IMAGE"

# What pip is told on this machine (indexes, folders with wheels, certificates), it is told in the
# build too: its settings in one file, and the files and folders that they name.
settings=$(mktemp)
trap 'rm -f "$settings"' EXIT
env -u PIP_CONSTRAINT "$1" tests/images/pip_settings.py >"$settings"
flags=(--isolation chroot --network host -v "$settings:/etc/pip.conf:ro")
[ -d /etc/ssl/certs ] && flags+=(-v /etc/ssl/certs:/etc/ssl/certs:ro)
while read -r path; do
  flags+=(-v "$path:$path:ro")
done < <("$1" tests/images/pip_settings.py --paths <"$settings")
export BUILD_FLAGS="${flags[*]}"
scripts/build-images.sh gateway worker-cpu

"$1" -m pytest -q tests/images
