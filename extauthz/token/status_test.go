package token

import (
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/policy"
)

func TestAPageInThePlaceOfKeysIsNamed(t *testing.T) {
	if _, err := parseKeys([]byte(" <html>")); err == nil || !strings.Contains(err.Error(), "HTML") {
		t.Errorf("got %v", err)
	}
}

func TestAClockSkewOfZeroIsZero(t *testing.T) {
	m, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	for want, given := range map[time.Duration]*time.Duration{defaultSkew: nil, 0: new(time.Duration(0)), time.Minute: new(time.Minute)} {
		r, err := newRules(Config{Name: "p", Issuer: "https://idp.test", Audiences: []string{"a"}, Identity: m, ClockSkew: given})
		if err != nil || r.skew != want {
			t.Errorf("got %v, %v, want %v", r, err, want)
		}
	}
}
