# Stands in for the official image of PostgreSQL where no registry can be reached.
ARG BASE
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends postgresql \
 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/*
COPY postgres.sh /usr/local/bin/
CMD ["postgres.sh"]
