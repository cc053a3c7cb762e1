# weir in a small image, run by nobody in particular.
#
#   docker build -t weir .
#
# Everything that weir serves is inside its binary, so the image is the binary, a C library and the
# certificates for databases that speak TLS. Images cannot be built where these tests run: what they
# check is that every file named here exists, and that compose.yaml mounts what the tests run with.
FROM rust:1.94-slim-bookworm AS build
# SQLite, zstd and ring are compiled from their sources.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Dependencies first: they are built again only when they change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && mkdir -p tests/it benches && touch tests/it/main.rs benches/collect.rs \
    && cargo build --locked --profile dist --bin weir \
    && rm -r src
COPY migrations migrations
COPY static static
COPY templates templates
COPY src src
# The first build's binary is younger than the sources that were copied; touched, they win.
RUN touch src/main.rs src/lib.rs && cargo build --locked --profile dist --bin weir

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/weir --create-home weir
COPY --from=build /build/target/dist/weir /usr/local/bin/weir
USER 10001
# For the embedded store; with WEIR__STORAGE__CONTROL nothing is ever written here.
WORKDIR /var/lib/weir
VOLUME /var/lib/weir
ENV WEIR__HTTP__BIND=0.0.0.0:8080 \
    WEIR__HTTP__OPS_BIND=0.0.0.0:8081 \
    WEIR__LOG__FORMAT=json
EXPOSE 8080 8081
# Readiness: it fails while the process stops and while no database server answers.
HEALTHCHECK --interval=5s --timeout=6s --start-period=30s --retries=2 CMD ["weir", "healthcheck"]
# weir stops gracefully on TERM: readiness fails, requests end, commits end.
STOPSIGNAL SIGTERM
ENTRYPOINT ["weir"]
CMD ["serve"]
