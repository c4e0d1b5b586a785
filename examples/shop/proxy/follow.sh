#!/bin/sh
# nginx, told to read its configuration again whenever the file that names the live color has changed. So whoever may
# switch the colors needs to write that one file, and nothing of nginx. A file that nginx does not like is not used.
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
        echo "now $now"
        kill -HUP "$nginx"
    fi
done
exit 1
