# Usher alone: a static binary that carries its own CA roots (cmd/usher/roots.go). No shell, no libc, no other file.
# `make image` writes bin/usher and builds this.
FROM scratch
COPY bin/usher /usher
USER 65532:65532
EXPOSE 9001 9002
ENTRYPOINT ["/usher"]
CMD ["version"]
