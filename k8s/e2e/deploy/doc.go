// Package deploy shows, on a real API server, that what k8s/deploy makes is accepted, passes the restricted Pod Security
// standard, and gives Usher's ServiceAccount the rights that it needs and no others.
package deploy
