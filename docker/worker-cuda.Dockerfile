# The CUDA worker: a thin layer on vLLM's own image, whose Python, torch and CUDA it uses.
#   docker build -f docker/worker-cuda.Dockerfile -t sluice-worker-cuda .
ARG BASE_IMAGE=vllm/vllm-openai:v0.32.0

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY proto ./proto
COPY services/worker ./services/worker
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ./proto ./services/worker

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sluice CUDA worker" \
      org.opencontainers.image.description="Serves one language model with vLLM to Sluice gateways" \
      org.opencontainers.image.version="${VERSION}"
# What vLLM's image may lack or have older; of all else it has its own versions, which stay. The user
# has a name, for libraries ask for it. Group 0 owns what is written to, as clusters that choose a random
# user id expect.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python3 -m pip install --no-cache-dir grpcio-health-checking==1.85.1 grpcio-reflection==1.85.1 \
      prometheus-client==0.26.0 pydantic-settings==2.16.3 huggingface-hub==2.4.0 httpx2==2.16.2 \
      python-json-logger==4.2.0 \
 && python3 -m pip install --no-cache-dir --no-deps /wheels/*.whl \
 && useradd --uid 10001 --gid 0 --no-log-init --no-create-home --home-dir /home/sluice sluice \
 && mkdir -p /home/sluice /cache /models \
 && chgrp -R 0 /home/sluice /cache && chmod -R g=u /home/sluice /cache
# Compiled kernels are kept beside the models: with a cache that stays, only the first start compiles.
# USER stands in for the entry in /etc/passwd that a random user id has not.
ENV HOME=/home/sluice \
    USER=sluice \
    HF_HOME=/cache \
    XDG_CACHE_HOME=/cache/.cache \
    VLLM_CACHE_ROOT=/cache/.cache/vllm \
    TORCHINDUCTOR_CACHE_DIR=/cache/.cache/torchinductor \
    TRITON_CACHE_DIR=/cache/.cache/triton \
    FLASHINFER_WORKSPACE_BASE=/cache \
    CUDA_CACHE_PATH=/cache/.cache/nv \
    XDG_CONFIG_HOME=/tmp/.config \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MODEL_DEVICE=cuda \
    WORKER_ADDRESS=0.0.0.0:50051 \
    METRICS_ADDRESS=0.0.0.0:9464
USER 10001:0
WORKDIR /home/sluice
EXPOSE 50051 9464
ENTRYPOINT ["python3", "-m", "sluice_worker"]
