package v1alpha1

// TokenFrom is just one of its fields.
//
// +kubebuilder:validation:XValidation:rule=`self.?header.orValue("") == "" || !has(self.cookie)`,message="found both header and cookie, expected one of them; a token in a second place is one that somebody else may have put there",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule=`self.?header.orValue("") != "" || has(self.cookie)`,message="found neither header nor cookie, expected one of them; leave tokenFrom out to take the Authorization header",reason=FieldValueRequired
type TokenFrom struct {
	// Header has the bare token, without a scheme.
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z-]*$`
	// +kubebuilder:validation:XValidation:rule=`self.lowerAscii() != "authorization"`,message="found header \"authorization\", expected another header; leave tokenFrom out: the Authorization header is the default"
	// +kubebuilder:validation:XValidation:rule=`self.lowerAscii() != "cookie"`,message="found header \"cookie\", expected a header with the bare token; write tokenFrom.cookie, which has the origin check that a cookie needs"
	Header string `json:"header,omitempty"`
	// Cookie has it.
	Cookie *TokenCookie `json:"cookie,omitempty"`
}

// TokenCookie is a cookie with a token. A browser sends it along whoever asks, so requests that may change something must
// say that they come from one of the origins.
type TokenCookie struct {
	// Name of the cookie, such as __Host-token.
	// +kubebuilder:validation:Pattern=`^[^\s"(),/:;<=>?@[\\\]{}]+$`
	Name string `json:"name"`
	// AllowOrigins are the exact origins of the pages that may use it, such as https://chat.example.com.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Pattern=`^https?://[0-9a-z._:[\]-]+$`
	AllowOrigins []string `json:"allowOrigins"`
}

// ClientCertificate says who speaks for the client's certificate.
type ClientCertificate struct {
	// ForwardedHeader is x-forwarded-client-cert, where a trusted proxy before this Envoy ends the client's TLS. The proxy must
	// write the header anew, and this Envoy hand on just that one element. Whoever else reaches this Envoy can name any
	// certificate: let it ask for the proxy's own. The certificate of the connection does not count then.
	// +kubebuilder:validation:XValidation:rule=`self.lowerAscii() == "x-forwarded-client-cert"`,message="expected x-forwarded-client-cert"
	ForwardedHeader string `json:"forwardedHeader"`
}
