package watch

// Reasons of the condition Accepted, and of the events that tell when it changed.
const (
	// reasonAccepted: the object is valid, and nothing stands against it.
	reasonAccepted = "Accepted"
	// reasonInvalid: something in the object, or in what it refers to, is wrong; the message says what usher validate would.
	reasonInvalid = "Invalid"
	// reasonConflicted: another policy, whose object is older, has one of its hosts.
	reasonConflicted = "Conflicted"
	// reasonNotGranted: its namespace may not have one of its hosts (--namespace-hosts).
	reasonNotGranted = "HostNotGranted"
)

// Reasons of the condition Programmed, of an AuthPolicy.
const (
	// reasonProgrammed: the policy is in force as it stands.
	reasonProgrammed = "Programmed"
	// reasonLastGood: it is not, but its last good version is.
	reasonLastGood = "LastGoodInForce"
	// reasonClosed: no version of it was ever good, and requests to its hosts are answered 503.
	reasonClosed = "HostsClosed"
	// reasonRefused: it is good, but nothing that was read could be put in force.
	reasonRefused = "NotPutInForce"
	// reasonNotInForce: a Shadow policy of which no version was ever good; of Healthy: the provider is not in force.
	reasonNotInForce = "NotInForce"
)

// Reasons of the condition Healthy, of an IdentityProvider; reasonNotInForce is another.
const (
	// reasonHealthy: its tokens can be verified.
	reasonHealthy = "Healthy"
	// reasonUnhealthy: they cannot, and are answered 503.
	reasonUnhealthy = "Unhealthy"
)
