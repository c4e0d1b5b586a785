#!/bin/sh
# secrets.sh [DIRECTORY]: creates the missing secrets of docker-compose.yml, each a random value. Compose mounts these files
# with their mode: every user in a container can read them. On the host, only you can enter the directory.
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p -m 700 "$directory"
for name in postgres responder_database grafana_reader grafana_admin shop_database \
    alertmanager_token prometheus_token pipeline_token operator_token; do
    file=$directory/$name
    [ -s "$file" ] && continue
    head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file.new"
    chmod 444 "$file.new"
    mv "$file.new" "$file"
done
