# The server and the command line in one image. README.md, "In a container", says how it is run:
#   docker build --tag aigve .
#   docker run --rm --gpus all --publish 127.0.0.1:2200:2200 aigve

# The pinned torch is built for CUDA 13.0, and the pinned nvidia-* wheels are CUDA 13.0.3's
# libraries. So `base` is enough, of the same release: it names the driver that is needed and what
# of it is wanted. `runtime` would hold the libraries a second time.
FROM nvidia/cuda:13.0.3-base-ubuntu24.04

# Packages of a release of Ubuntu are replaced by their security updates: a version that is pinned
# here could not be installed next month. ca-certificates: for judges and weights behind https.
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates python3 python3-venv

# 1000 is the first user of most machines, who so may write to mounted folders; in this Ubuntu it is
# taken by a user `ubuntu`. By number, since that is how orchestrators see that it is not root.
RUN userdel ubuntu \
    && rm -rf /home/ubuntu \
    && groupadd --gid 1000 aigve \
    && useradd --uid 1000 --gid 1000 --create-home aigve \
    && install --directory --owner=1000 --group=1000 \
        /app/data /app/out /app/state /app/weights

ENV PATH=/opt/aigve/bin:$PATH \
    PYTHONUNBUFFERED=1

# Gigabytes that a change of the source leaves as they are. All are pinned, so nothing is resolved;
# `pip check` below says if one is missing.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=docker/constraints.txt,target=/tmp/constraints.txt \
    python3 -m venv /opt/aigve \
    && pip install --no-deps --requirement /tmp/constraints.txt

RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,target=/tmp/source \
    pip install --no-deps /tmp/source \
    && pip check

COPY --chmod=755 entrypoint.sh /app/
COPY scripts /app/scripts/
COPY server /app/server/

# Everything that is fetched, and the server's jobs, below folders that outlast the container where a
# volume is mounted. No VOLUME: each `docker run` would make a nameless one, and fetch again.
ENV AIGVE_WEIGHTS_DIR=/app/weights \
    AIGVE_CACHE_DIR=/app/weights/cache \
    HF_HOME=/app/weights/huggingface \
    AIGVE_SERVER_STATE_DIR=/app/state

USER 1000:1000

# Results go to the current folder unless a flag says otherwise.
WORKDIR /app/out

EXPOSE 2200
STOPSIGNAL SIGTERM

# Without the proxy that a container may be given, which has another 127.0.0.1.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-c", "import os, urllib.request as web; port = os.environ.get('PORT') or os.environ.get('AIGVE_SERVER_PORT') or 2200; web.build_opener(web.ProxyHandler({})).open(f'http://127.0.0.1:{port}/healthz', timeout=5)"]

ENTRYPOINT ["/app/entrypoint.sh"]
CMD ["api"]
