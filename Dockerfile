# The whole system, or any part of it:
#
#   docker build -t txmicro .
#   docker run -p 8080:8080 -e TXMICRO_REST_INTERFACE=0.0.0.0 txmicro
#   docker run -e TXMICRO_BROKER_URL_FILE=/run/secrets/broker txmicro \
#       twistd -n txmicro-worker --type WB

FROM python:3.13-slim AS build
WORKDIR /src
COPY setup.py pyproject.toml README.rst LICENSE ./
COPY txmicro txmicro
COPY twisted twisted
COPY examples examples
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir '.[tls,otel]'
# twistd keeps a cache of the plugins it found; the user below could not write it.
RUN /venv/bin/twistd --help >/dev/null

FROM python:3.13-slim
# One process per container, so all have their metrics page on one port. It is open to the container's network, where
# its address is the container's name. Elsewhere, as in Kubernetes, TXMICRO_METRICS_HOST names another one.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    TXMICRO_METRICS_PORT=9091 TXMICRO_WORKER_METRICS_PORT=9091 TXMICRO_METRICS_INTERFACE=0.0.0.0
RUN useradd --system --create-home --home-dir /srv/txmicro txmicro
WORKDIR /srv/txmicro
COPY --from=build /venv /venv
COPY etc etc
USER txmicro
EXPOSE 8080 9091
# Whether a restart would help; docs/howto/health.rst has more.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD \
    ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9091/health/live', timeout=2)"]
# twistd stops everything in order when it is told to by this signal.
STOPSIGNAL SIGTERM
CMD ["twistd", "-n", "txmicro"]
