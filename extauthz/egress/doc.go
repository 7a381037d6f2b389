// Package egress says where Usher may connect to for somebody else. An object of a tenant names URLs that Usher asks, and what it
// is answered decides requests of the tenant's, or stands in a status: without a bound, a tenant reads what listens on
// Usher's own loopback interface, or on the link, such as a cloud's metadata. Addresses are looked at after names are
// resolved, for each connection.
package egress
