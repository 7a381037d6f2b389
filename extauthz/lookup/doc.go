// Package lookup asks a backend whose object a request is about: it gets the object's metadata, for policy to compare.
//
// Only objects that were found are kept, for a short time and in bounded memory: an absent one may exist in the next
// moment, and belong to somebody else. A backend that fails, hangs or answers anything unexpected is a *policy.Refusal
// Unavailable, never a match and never a miss. A look-up carries nothing of the client's request, follows no redirect and
// goes through no proxy.
//
// # How old an answer may be
//
// What Get returns was read from the backend at most TTL before. Within that time, a write that passes Usher is seen
// sooner: see Client.Forget.
package lookup
