#!/bin/sh
# Starts the whole stack, and reports release 1.0 of the shop as good.
set -eu
cd "$(dirname "$0")/../.."
sh examples/stack/secrets.sh
docker compose up --detach --build --wait
docker compose run --rm ship 1.0 --good
cat <<'SUMMARY'

the shop        http://127.0.0.1:8080      what customers see
Grafana         http://127.0.0.1:3000      as admin; the password is in examples/stack/secrets/grafana_admin
Prometheus      http://127.0.0.1:9090
Alertmanager    http://127.0.0.1:9093
bad release     sh examples/shop/ship-bad-release
stop            docker compose down        add --volumes to delete all data
SUMMARY
