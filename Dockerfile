# One image for the services api, worker and migrate. `docker build .` builds it without PyTorch,
# `docker build --target gpu .` with PyTorch, for NVIDIA GPUs. The base image is pinned by digest; the
# tests of this project have not pulled it.
FROM python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84 AS python
ENV PATH=/opt/venv/bin:$PATH

FROM python AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt ./
# Install the dependencies first, so that a change of the sources keeps this layer.
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > requirements.txt \
 && pip install -c constraints.txt -r requirements.txt
COPY LICENSE NOTICE README.md api.py ./
COPY alembic alembic
COPY app app
COPY models models
COPY storage storage
# Extras for further image formats, such as heif,jxl,raw,tiff
ARG EXTRAS=
RUN pip install -c constraints.txt ".${EXTRAS:+[$EXTRAS]}"

FROM builder AS gpu-builder
RUN pip install -c constraints.txt '.[torch]'

FROM python AS runtime
LABEL org.opencontainers.image.title="Lookalike" \
      org.opencontainers.image.description="Self-hosted visual search" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home lookalike \
 && install --directory --owner=lookalike --group=lookalike --mode=0750 /data
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
ENV LOOKALIKE_DATA_DIR=/data \
    LOOKALIKE_HOST=0.0.0.0 \
    LOOKALIKE_PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# A refusal counts as an answer, too, so LOOKALIKE_ALLOWED_HOSTS need not list 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=5s --retries=6 --start-period=60s CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['LOOKALIKE_PORT']), timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status >= 500)"]
ENTRYPOINT ["lookalike"]
CMD ["serve"]

FROM runtime AS gpu
COPY --from=gpu-builder /opt/venv /opt/venv
ENV LOOKALIKE_ENGINE=torch

FROM runtime AS cpu
COPY --from=builder /opt/venv /opt/venv
