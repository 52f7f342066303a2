#!/usr/bin/env bash
# Makes a stand-in for the Python base image out of Debian's packages, for machines that cannot pull
# images:  stand-in-base.sh NAME  (needs root, debootstrap and podman). Does nothing if it is there.
set -euo pipefail

name=$1
podman image exists "$name" && exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,libpython3-dev,ca-certificates \
  bookworm "$folder/root" >"$folder/log" 2>&1 || { tail -20 "$folder/log" >&2; exit 1; }
# As slim images have it: Python's headers and no others, no static libraries, no manuals, no
# translations, no package lists.
find "$folder"/root/usr/include -type f -not -path '*/python3*' -delete
rm -rf "$folder"/root/usr/share/{doc,locale,man}/* "$folder"/root/usr/lib/*/*.a \
  "$folder"/root/usr/lib/python3.11/config-*/*.a \
  "$folder"/root/var/cache/apt/archives/*.deb "$folder"/root/var/lib/apt/lists/*
tar -C "$folder/root" -c . | podman import - "$name"
