# An image with penstock: built in one stage, run in another without tools or root.
#   docker build -t penstock:0.1.0 .
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY platform platform
RUN python -m venv /opt/penstock && /opt/penstock/bin/pip install --no-cache-dir '.[fast]'

FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home penstock && install -d -o penstock -g penstock /data /app
COPY --from=build /opt/penstock /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /app
VOLUME /data
EXPOSE 8288
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8288/health', timeout=2)"]
ENTRYPOINT ["penstock"]
CMD ["version"]
