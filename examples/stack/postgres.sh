#!/bin/sh
# Runs once, when the database is created: the responder owns its journal, Grafana can read the views that the responder
# grants, and no other role can connect.
set -eu
psql -X -v ON_ERROR_STOP=1 -U postgres <<'SQL'
\set responder `cat /run/secrets/responder_database`
\set reader `cat /run/secrets/grafana_reader`
CREATE ROLE grafana_reader LOGIN CONNECTION LIMIT 20 PASSWORD :'reader';
CREATE ROLE responder LOGIN PASSWORD :'responder';
CREATE DATABASE responder OWNER responder;
REVOKE CONNECT ON DATABASE responder FROM PUBLIC;
GRANT CONNECT ON DATABASE responder TO grafana_reader;
SQL
