#!/bin/sh
# Runs a command with a PostgreSQL server of its own, whose URL is in AGENTRFT_TEST_DATABASE; it is gone afterwards.
#
#     scripts/with_postgres.sh pytest tests/server
set -eu

find_binaries() {
    if command -v pg_ctl >/dev/null 2>&1; then
        dirname "$(command -v pg_ctl)"
    else
        ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1
    fi
}

binaries=$(find_binaries)
if [ -z "$binaries" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "PostgreSQL is not installed; install it (Debian: apt-get install postgresql)." >&2
        exit 1
    fi
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >&2
    binaries=$(find_binaries)
fi

folder=$(mktemp -d)
as=""
if [ "$(id -u)" -eq 0 ]; then
    # PostgreSQL refuses to run as root.
    chown postgres "$folder"
    as="runuser -u postgres --"
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
stop() {
    $as "$binaries/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT INT TERM
cd "$folder"
$as "$binaries/initdb" -D "$folder/data" -U agentrft --auth=trust >/dev/null
$as "$binaries/pg_ctl" -D "$folder/data" -w -l "$folder/log" \
    -o "-p $port -k $folder -c listen_addresses=127.0.0.1 -c max_connections=200" start >/dev/null
cd "$OLDPWD"
AGENTRFT_TEST_DATABASE="postgresql+psycopg://agentrft@127.0.0.1:$port/postgres" "$@"
