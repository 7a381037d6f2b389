package main

// The CA roots of Mozilla, for where the system has none: an image from scratch. Those of the system come first, and
// SSL_CERT_FILE and SSL_CERT_DIR name others.
import _ "golang.org/x/crypto/x509roots/fallback"
