# Usher alone: a static binary that carries its own CA roots (cmd/usher/roots.go). No shell, no libc, no other file. The context is
# the directory where `make build` has written it; `make image` does both.
FROM scratch
ARG VERSION=devel
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Usher" \
      org.opencontainers.image.description="An authorization server for Envoy's external authorization" \
      org.opencontainers.image.source="https://github.com/usher-authz/usher" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY usher /usher
USER 65532:65532
EXPOSE 9001 9002
ENTRYPOINT ["/usher"]
CMD ["version"]
