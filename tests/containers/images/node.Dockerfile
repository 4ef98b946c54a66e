# Stands in for node:22-bookworm-slim where there is no registry: Node.js and npm as npm has them, at the same places.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    NPM_CONFIG_CAFILE=/etc/ssl/certs/ca-certificates.crt
# An image need not survive a loss of power while it is made.
RUN echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/unsafe-io && useradd --uid 1000 --create-home node
COPY node /usr/local/
