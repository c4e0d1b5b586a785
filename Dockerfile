# One image with two commands, `responder` and `exporters`, and with all extras.
FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1 AS builder
WORKDIR /build
COPY requirements.image.lock .
# The lock is complete and has hashes, so pip resolves nothing. pip itself is not installed in the environment.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-compile --require-hashes -r requirements.image.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY responder responder
COPY exporters exporters
COPY foundation foundation
# responder/assets links to these.
COPY alert_rules alert_rules
COPY grafana/dashboards grafana/dashboards
COPY grafana/provisioning grafana/provisioning
COPY deploy/systemd deploy/systemd
COPY deploy/ci deploy/ci
COPY docs docs
# Compiled here, because containers cannot write: otherwise each start would compile it again.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-compile --no-build-isolation . \
 && pip --python /opt/venv/bin/python uninstall --yes setuptools \
 && python -m compileall -q -j 0 /opt/venv/lib

FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
LABEL org.opencontainers.image.title="rollback-responder" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /opt/venv /opt/venv
# A numeric user, so that Kubernetes can verify that it is not root. Mount the releases of this host in /srv.
RUN mkdir -p /var/lib/responder /srv && chown 65532:65532 /var/lib/responder /srv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /var/lib/responder
EXPOSE 9095 9469
# For the exporters, use http://127.0.0.1:9469/-/ready.
HEALTHCHECK --interval=10s --timeout=5s --retries=3 CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9095/-/healthy', timeout=3)"]
CMD ["responder", "serve", "--config", "/etc/responder/responder.yml"]
