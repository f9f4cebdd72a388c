#!/bin/sh
# Runs once, when the database server of docker-compose.yml makes its data folder: a role and a
# database for each bounded context, for the read models and for the sagas, so that nobody reads another's tables.
set -eu
for context in conversations accounts projections sagas; do
    psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
        --set context="$context" --set password="$THALWEG_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE :"context" LOGIN PASSWORD :'password';
CREATE DATABASE :"context" OWNER :"context";
REVOKE CONNECT ON DATABASE :"context" FROM PUBLIC;
SQL
done
