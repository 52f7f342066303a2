# The gateway: no torch, no transformers; what compiled a part of it stays behind.
#   docker build -f docker/gateway.Dockerfile -t sluice-gateway .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY constraints.txt ./
COPY proto ./proto
COPY services/gateway ./services/gateway
# Its short way for tokens is compiled with the base image's compiler, or one that pip fetches for that. It
# needs Python's headers, which Python's own images have; without them it is interpreted, and slower.
# tokenizers names huggingface_hub as a dependency, for fetching files, which the gateway never does.
RUN python3 -m venv /opt/sluice \
 && { command -v cc >/dev/null \
   || { python3 -m venv /opt/compiler \
     && /opt/compiler/bin/python -m pip install --no-cache-dir ziglang==0.17.1 \
     && export CC="/opt/compiler/bin/python -m ziglang cc -mcpu=baseline"; }; } \
 && /opt/sluice/bin/python -m pip install --no-cache-dir -c constraints.txt \
      ./proto ./services/gateway \
 && /opt/sluice/bin/python -m pip uninstall --yes \
      huggingface_hub hf-xet fsspec filelock tqdm pyyaml httpx2 httpcore2 truststore \
      setuptools pip

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sluice gateway" \
      org.opencontainers.image.description="OpenAI-compatible HTTP in front of Sluice workers" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/sluice /opt/sluice
# Group 0 owns the home, as clusters that choose a random user id expect.
RUN mkdir -p /home/sluice && chgrp -R 0 /home/sluice && chmod -R g=u /home/sluice
ENV PATH=/opt/sluice/bin:$PATH \
    HOME=/home/sluice \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_ADDRESS=0.0.0.0:8080
USER 10001:0
WORKDIR /home/sluice
EXPOSE 8080
ENTRYPOINT ["python", "-m", "sluice_gateway"]
