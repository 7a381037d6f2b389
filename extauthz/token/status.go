package token

import "time"

// FetchStatus counts the fetches of a provider's keys since its verifier was made. The counters only ever grow.
type FetchStatus struct {
	// Attempts that have ended. One is a request for the keys, and for the discovery document where that is read again.
	Attempts uint64 `json:"attempts"`
	// Failures among them.
	Failures uint64 `json:"failures"`
	// Unchanged counts those that the provider answered with 304, by the ETag.
	Unchanged uint64 `json:"unchanged"`
	// Wanted counts the tokens that asked for newer keys, mostly by an unknown kid. All of one interval share one attempt.
	Wanted uint64 `json:"wanted"`
	// StaleSince is when the first attempt failed since the last one that succeeded; absent while they succeed.
	StaleSince time.Time `json:"staleSince,omitzero"`
}
