// Package lookup asks a backend whose object a request is about: it gets the object's metadata, for policy to compare.
//
// Only objects that were found are kept, for a short time and in bounded number: an absent one may exist in the next
// moment, and belong to somebody else. A backend that fails, hangs or answers something unexpected is a *policy.Refusal
// Unavailable, never a match and never a miss.
package lookup
