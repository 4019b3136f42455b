# The image of Countersign: one static binary, and nothing else. It runs as nobody, and writes nothing.
#
#   docker build -t REGISTRY/countersign:0.1.0 .
#
# The binary tells what it was made of: `cargo audit bin` reads that from it, or `syft` from the image.
FROM rust:1.95-slim-bookworm AS build
RUN cargo install --locked cargo-auditable
WORKDIR /src
COPY . .
# glibc, linked in: nothing of it is looked up at run time.
RUN target=$(rustc --print host-tuple) \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo auditable build --release --locked --target "$target" -p countersign --bin countersign \
 && cp "target/$target/release/countersign" /countersign

FROM scratch
COPY --from=build /countersign /countersign
USER 65532:65532
ENTRYPOINT ["/countersign"]
