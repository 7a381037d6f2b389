package extauthz

import (
	"testing"
	"time"

	"github.com/usher-authz/usher/policy"
)

func TestAnother_login_is_asked_for_as_RFC_9470_says(t *testing.T) {
	for name, c := range map[string]struct {
		login *policy.Login
		want  string
	}{
		"both": {&policy.Login{ACRValues: []string{"silver", "gold"}, MaxAge: 5 * time.Minute}, `, acr_values="silver gold", max_age="300"`},
		"acr":  {&policy.Login{ACRValues: []string{"gold"}}, `, acr_values="gold"`},
		"age":  {&policy.Login{MaxAge: time.Second}, `, max_age="1"`},
	} {
		t.Run(name, func(t *testing.T) {
			a := answer{outcome: policy.StepUp, detail: "Log in again.", login: c.login, metadata: "https://api.test/m"}
			encoded, err := a.encode()
			if err != nil {
				t.Fatal(err)
			}
			r := readResponse(encoded)
			want := `Bearer error="insufficient_user_authentication", error_description="Another login is needed."` + c.want + `, resource_metadata="https://api.test/m"`
			if got := headerOf(r.GetDeniedResponse().GetHeaders(), "www-authenticate"); statusOf(r) != 401 || got != want {
				t.Errorf("got %d %s, want 401 %s", statusOf(r), got, want)
			}
		})
	}
}
