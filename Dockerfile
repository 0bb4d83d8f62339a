# An image with millstream: built in one stage, run in another without tools or root.
#   docker build -t millstream:0.1.0 .
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY platform platform
RUN python -m venv /opt/millstream && /opt/millstream/bin/pip install --no-cache-dir '.[fast]'

FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home millstream && install -d -o millstream -g millstream /data /app
COPY --from=build /opt/millstream /opt/millstream
ENV PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /app
VOLUME /data
EXPOSE 8288
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8288/health', timeout=2)"]
ENTRYPOINT ["millstream"]
CMD ["version"]
