#!/bin/bash
# POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and /docker-entrypoint-initdb.d, as the official image.
set -eu
data=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
  mkdir -p $data /var/run/postgresql
  chown -R postgres $data /var/run/postgresql
  chmod 700 $data
  exec setpriv --reuid postgres --regid postgres --clear-groups "$0"
fi
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
if [ ! -s $data/PG_VERSION ]; then
  initdb --pgdata $data --username "$POSTGRES_USER" --pwfile <(echo "$POSTGRES_PASSWORD") \
    --auth-host scram-sha-256 --auth-local trust --encoding UTF8 --locale C.UTF-8
  echo "host all all all scram-sha-256" >> $data/pg_hba.conf
  pg_ctl --pgdata $data --wait start --options "-c listen_addresses=''"
  createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --file "$file"
  done
  pg_ctl --pgdata $data --wait stop
fi
exec postgres -D $data -c "listen_addresses=*"
