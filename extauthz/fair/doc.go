// Package fair shares what a process has once between tenants, so that none of them can take it from the others.
package fair
