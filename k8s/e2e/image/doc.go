// Package image builds the image of the Dockerfile with a real buildah, looks at what is in it, and runs it where there is
// nothing else.
package image
