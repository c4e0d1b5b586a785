#!/bin/sh
# Runs once, when the database is created: the shop can insert orders and do nothing else.
set -eu
psql -X -v ON_ERROR_STOP=1 -U postgres <<'SQL'
\set shop `cat /run/secrets/shop_database`
CREATE ROLE shop LOGIN PASSWORD :'shop';
CREATE DATABASE shop;
\connect shop
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    release text NOT NULL
);
GRANT INSERT ON orders TO shop;
SQL
