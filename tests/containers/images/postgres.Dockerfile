# Stands in for postgres:17-bookworm where there is no registry: Debian's PostgreSQL, with those of that image's variables
# that compose.yaml uses.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
# An image need not survive a loss of power while it is made.
RUN echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/unsafe-io \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-15 \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15
COPY postgres-entrypoint /usr/local/bin/
ENV PATH=/usr/lib/postgresql/15/bin:$PATH \
    PGDATA=/var/lib/postgresql/data
RUN chmod 755 /usr/local/bin/postgres-entrypoint && mkdir -p $PGDATA && chown -R postgres /var/lib/postgresql
VOLUME /var/lib/postgresql/data
USER postgres
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
