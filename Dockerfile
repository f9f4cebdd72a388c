# The roles of Thalweg, one image for all: `docker run thalweg gateway relay`. Servers (Kafka,
# PostgreSQL, Redis, Weaviate, TGI) are not in it; docker-compose.yml starts them beside it.
#
#   docker build -t thalweg .                        every role but the local engine
#   docker build -t thalweg-engine --target engine . the local engine: a small model on the CPU

FROM python:3.11.14-slim-bookworm AS python
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH PYTHONPATH=/srv/thalweg

FROM python AS installer
WORKDIR /build
COPY requirements/uv.txt requirements/roles.txt requirements/engine.txt requirements/
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --require-hashes -r requirements/uv.txt

FROM installer AS roles-packages
RUN /opt/uv/bin/uv venv /opt/venv \
    && VIRTUAL_ENV=/opt/venv /opt/uv/bin/uv pip sync --no-cache --compile-bytecode \
        --require-hashes requirements/roles.txt

FROM installer AS engine-packages
RUN /opt/uv/bin/uv venv /opt/venv \
    && VIRTUAL_ENV=/opt/venv /opt/uv/bin/uv pip sync --no-cache --compile-bytecode \
        --require-hashes requirements/engine.txt

# The program, compiled: a container's disk may not be written, and then every start would compile it.
FROM python AS program
WORKDIR /srv/thalweg
COPY events events
COPY commands commands
COPY processors processors
COPY projections projections
COPY sagas sagas
COPY gateway gateway
COPY infra infra
RUN python -m compileall -q -j 0 .

# No shell, no home, no right to write anywhere but the folder of the API key and /tmp.
FROM python AS unprivileged
RUN groupadd --system --gid 10001 thalweg \
    && useradd --system --uid 10001 --gid thalweg --no-create-home --shell /usr/sbin/nologin thalweg \
    && install -d -o thalweg -g thalweg -m 0700 /var/lib/thalweg
ENV THALWEG_HOME=/var/lib/thalweg THALWEG_ALIVE_FILE=/tmp/thalweg-alive THALWEG_LOG_FORMAT=json
WORKDIR /srv/thalweg
USER 10001:10001
# The event loop of a role touches the file; a role that hangs is noticed.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "infra.alive"]
STOPSIGNAL SIGTERM

# What changes seldom comes first, so that a new version brings a small layer.
FROM unprivileged AS engine
COPY --from=engine-packages /opt/venv /opt/venv
COPY demo_model/ct2 demo_model/ct2
COPY --from=program /srv/thalweg /srv/thalweg
ENV THALWEG_ENGINE_HOST=0.0.0.0 THALWEG_ENGINE_PORT=3000
EXPOSE 3000
ENTRYPOINT ["python", "-m", "infra.cli.main", "run"]
CMD ["engine"]

FROM unprivileged AS roles
COPY --from=roles-packages /opt/venv /opt/venv
COPY --from=program /srv/thalweg /srv/thalweg
ENV THALWEG_HOST=0.0.0.0
EXPOSE 8080
ENTRYPOINT ["python", "-m", "infra.cli.main", "run"]
CMD ["gateway"]
