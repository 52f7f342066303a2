#!/bin/sh
# Generates the stubs of the contract into the folder given, from proto/.
set -eu
out=$1
bin=.venv/bin
mkdir -p "$out"
"$bin/python" -m grpc_tools.protoc -I proto \
  --plugin=protoc-gen-mypy="$bin/protoc-gen-mypy" \
  --plugin=protoc-gen-mypy_grpc="$bin/protoc-gen-mypy_grpc" \
  --python_out="$out" --grpc_python_out="$out" \
  --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  proto/sluice/worker/v1/worker.proto
