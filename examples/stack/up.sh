#!/bin/sh
# The whole stack, ready, with release 1.0 of the shop told to be good.
set -eu
cd "$(dirname "$0")/../.."
sh examples/stack/secrets.sh
docker compose up --detach --build --wait
docker compose run --rm ship 1.0 --good
cat <<'TOLD'

the shop        http://127.0.0.1:8080      what customers see
Grafana         http://127.0.0.1:3000      as admin; the password is in examples/stack/secrets/grafana_admin
Prometheus      http://127.0.0.1:9090
Alertmanager    http://127.0.0.1:9093
ship a bad one  sh examples/shop/ship-bad-release
stop it all     docker compose down        with --volumes nothing is kept
TOLD
