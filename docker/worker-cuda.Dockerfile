# The CUDA worker: a thin layer on vLLM's own image, whose Python, torch and CUDA it uses.
#   docker build -f docker/worker-cuda.Dockerfile -t sluice-worker-cuda .
# The vllm engine is not part of this version yet: the worker says so and exits.
ARG BASE_IMAGE=vllm/vllm-openai:v0.32.0

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sluice CUDA worker" \
      org.opencontainers.image.description="Serves one language model with vLLM to Sluice gateways" \
      org.opencontainers.image.version="${VERSION}"
WORKDIR /src
COPY constraints.txt ./
COPY proto ./proto
COPY services/worker ./services/worker
# --no-deps for ours: vLLM's image has its own versions of torch and transformers, which stay.
RUN python3 -m pip install --no-cache-dir grpcio-health-checking==1.85.1 grpcio-reflection==1.85.1 \
      prometheus-client==0.26.0 pydantic-settings==2.16.3 \
 && python3 -m pip install --no-cache-dir --no-deps ./proto ./services/worker \
 && mkdir -p /home/sluice /cache /models \
 && chgrp -R 0 /home/sluice /cache && chmod -R g=u /home/sluice /cache
ENV HOME=/home/sluice \
    HF_HOME=/cache \
    PYTHONUNBUFFERED=1 \
    MODEL_DEVICE=cuda \
    WORKER_ADDRESS=0.0.0.0:50051 \
    METRICS_ADDRESS=0.0.0.0:9464
USER 10001:0
WORKDIR /home/sluice
EXPOSE 50051 9464
ENTRYPOINT ["python3", "-m", "sluice_worker"]
