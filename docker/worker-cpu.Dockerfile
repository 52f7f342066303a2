# The CPU worker, with the demo model. PyTorch's CPU build is a wheel that pip finds by itself (a mirror's,
# say), else one from TORCH_INDEX_URL: PyTorch's installation page has the address for CPU builds.
#   docker build -f docker/worker-cpu.Dockerfile -t sluice-worker-cpu \
#     --build-arg TORCH_INDEX_URL=... .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG TORCH_VERSION=2.13.0+cpu
ARG TORCH_INDEX_URL=
WORKDIR /src
RUN python3 -m venv /opt/sluice \
 && { /opt/sluice/bin/python -m pip install --no-cache-dir "torch==${TORCH_VERSION}" \
   || { [ -n "${TORCH_INDEX_URL}" ] && /opt/sluice/bin/python -m pip install --no-cache-dir \
          --index-url "${TORCH_INDEX_URL}" "torch==${TORCH_VERSION}"; } \
   || { echo "torch==${TORCH_VERSION} was not found: set TORCH_INDEX_URL to PyTorch's index of" \
          "CPU builds, whose address is on PyTorch's installation page" >&2; exit 1; }; }
COPY constraints.txt ./
COPY proto ./proto
COPY services/worker ./services/worker
# The kernels are compiled here: with the base image's compiler, or one that pip fetches for that.
# What runs neither a model nor Python is left out: headers, static libraries, tests.
RUN /opt/sluice/bin/python -m pip install --no-cache-dir -c constraints.txt \
      ./proto ./services/worker/kernels './services/worker[hf]' \
 && /opt/sluice/bin/python -m pip uninstall --yes setuptools pip \
 && find /opt/sluice -depth \
      \( -path '*/torch/include' -o -path '*/torch/share' -o -path '*/torch/test' \
      -o -name tests -path '*/numpy/*' -o -name '*.a' \) -exec rm -rf {} +

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sluice CPU worker" \
      org.opencontainers.image.description="Serves one language model on CPU to Sluice gateways" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/sluice /opt/sluice
RUN mkdir -p /home/sluice /cache /models \
 && chgrp -R 0 /home/sluice /cache && chmod -R g=u /home/sluice /cache
ENV PATH=/opt/sluice/bin:$PATH \
    HOME=/home/sluice \
    HF_HOME=/cache \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WORKER_ADDRESS=0.0.0.0:50051 \
    METRICS_ADDRESS=0.0.0.0:9464
USER 10001:0
WORKDIR /home/sluice
EXPOSE 50051 9464
ENTRYPOINT ["python", "-m", "sluice_worker"]
