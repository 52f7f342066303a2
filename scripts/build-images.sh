#!/usr/bin/env bash
# Builds Sluice's images with docker, podman or buildah, whichever is there.
#
#   scripts/build-images.sh [gateway] [worker-cpu] [worker-cuda]     default: the first two
#
# IMAGE_PREFIX (sluice-) and IMAGE_TAG (the version) name them; BASE_IMAGE and TORCH_INDEX_URL go to
# the Dockerfiles; BUILD_FLAGS is passed on to the tool.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' services/gateway/pyproject.toml)
prefix=${IMAGE_PREFIX:-sluice-}
tag=${IMAGE_TAG:-$version}

if [ -n "${BUILD_TOOL:-}" ]; then
  tool=$BUILD_TOOL
else
  for tool in docker podman buildah none; do
    command -v "$tool" >/dev/null && "$tool" info >/dev/null 2>&1 && break
  done
fi
case $tool in
  docker | podman) build=("$tool" build) ;;
  buildah) build=(buildah build) ;;
  *)
    echo "build-images: neither docker nor podman nor buildah works here; install one of them" >&2
    exit 1
    ;;
esac

[ $# -eq 0 ] && set -- gateway worker-cpu
for name in "$@"; do
  arguments=(--build-arg "VERSION=$version")
  [ -n "${BASE_IMAGE:-}" ] && arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
  [ "$name" = worker-cpu ] && [ -n "${TORCH_INDEX_URL:-}" ] &&
    arguments+=(--build-arg "TORCH_INDEX_URL=$TORCH_INDEX_URL")
  echo "== $prefix$name:$tag, with $tool"
  # BUILD_FLAGS holds several words.
  # shellcheck disable=SC2086
  "${build[@]}" "${arguments[@]}" ${BUILD_FLAGS:-} \
    -f "docker/$name.Dockerfile" -t "$prefix$name:$tag" .
done
