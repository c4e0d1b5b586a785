#!/bin/sh
# Runs nginx, and reloads it whenever the file that names the live color changes. To switch the color, the responder only
# needs to write that file; it has no access to nginx. nginx ignores an invalid file.
set -eu
live=/srv/shop/live.conf
seen=$(cat "$live")
nginx -e /dev/stderr -c /etc/shop/proxy.conf &
nginx=$!
trap 'kill -QUIT "$nginx"; wait "$nginx"; exit 0' TERM INT QUIT
while kill -0 "$nginx" 2>/dev/null; do
    sleep 0.2 &
    wait $!
    now=$(cat "$live")
    if [ "$now" != "$seen" ]; then
        seen=$now
        echo "live color changed: $now"
        kill -HUP "$nginx"
    fi
done
exit 1
