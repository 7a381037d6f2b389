// Package container runs a program as a node runs a container of a pod under the restricted Pod Security standard: in a root
// directory of its own, which it may not write, with the volumes that are mounted there, as a user without capabilities and
// without a way to get any. There is no image, cgroup or network of its own: it sees the loopback addresses of this machine.
//
// It takes root with the right to mount, or another user with the right to make user namespaces.
//
// A test program that uses it calls [Enter] first in its TestMain.
package container
