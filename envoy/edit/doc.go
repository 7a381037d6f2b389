// Package edit changes JSON bodies byte by byte, and makes the dynamic metadata that carries a changed body to Envoy's
// edit filter. It is pure, and imports only policy of Usher's packages.
package edit
