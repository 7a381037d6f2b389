// Package signing signs compact JSON Web Tokens (RFC 7515, RFC 7519) with private keys of the manifests: what Usher itself
// says, to a provider as its client and to a backend about a user. It verifies nothing, does no I/O and uses the standard
// library's cryptography alone.
//
// Which algorithm a key signs by is settled when the key is read, as it is a property of the key (RFC 8725, section 3.1). No
// error and no text form of a key holds anything of the private key.
package signing
