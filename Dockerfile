# An image with millstream: built in one stage, run in another without tools or root.
#   docker build -t millstream:0.1.0 .
# Behind a mirror or a proxy that signs for others, nothing of it stays in the image:
#   docker build --secret id=pip.conf,src=pip.conf --secret id=ca.pem,src=ca.pem -t millstream:0.1.0 .
# The base is any Debian with Python 3.11 or newer: --build-arg BASE_IMAGE=…
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY platform platform
ENV PIP_CACHE_DIR=/var/cache/pip
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    python3 -m venv /opt/millstream && /opt/millstream/bin/pip install '.[fast]' \
    && /opt/millstream/bin/pip uninstall --yes setuptools

FROM ${BASE_IMAGE}
ARG REVISION=
LABEL org.opencontainers.image.title="millstream" \
      org.opencontainers.image.description="Durable Python functions on the Kafka you already have" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin millstream \
    && install -d -o millstream -g millstream /data /app
COPY --from=build /opt/millstream /opt/millstream
COPY deploy/image/healthcheck /usr/local/bin/healthcheck
ENV PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /app
VOLUME /data
EXPOSE 8288
STOPSIGNAL SIGTERM
ENTRYPOINT ["millstream"]
CMD ["version"]
