package attacktest

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// Journal collects log lines as text. It is an io.Writer that is safe for concurrent use; the zero Journal is empty.
type Journal struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write appends to the journal.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// Sync does nothing.
func (j *Journal) Sync() error { return nil }

// String returns what was written.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// secrets is what no answer and no log line may hold, with what each is.
type secrets struct {
	mu       sync.Mutex
	texts    map[string]string
	claims   map[string]string // only of refused tokens
	harmless []string          // texts of the environment, in which a value may stand by right
}

// shortest is the length below which a text says nothing where it is found.
const shortest = 4

func newSecrets(s *Suite) *secrets {
	x := &secrets{texts: map[string]string{ClientSecret: "the client's secret"}, claims: map[string]string{}}
	for _, m := range s.Environment.Manifests {
		if shared := m.get("spec").get("jwt").get("sharedSecret").text; shared != "" {
			x.texts[shared] = "a shared secret"
		}
		m.strings(func(text string) { x.harmless = append(x.harmless, text) })
	}
	return x
}

// token notes a minted token: its text, the segments that are its own, and its claims.
func (x *secrets) token(m minted) {
	x.mu.Lock()
	defer x.mu.Unlock()
	note := func(text, what string) {
		if len(text) >= 16 && strings.Trim(text, ".") != "" {
			x.texts[text] = what
		}
	}
	note(m.text, "a token")
	if segments := strings.Split(m.text, "."); len(segments) >= 3 && m.header != nil {
		note(segments[1], "a token's payload")
		note(segments[2], "a token's signature")
	}
	if len(m.text) < 16 {
		x.texts[m.text] = "a token"
	}
	if m.claims == nil {
		return
	}
	claims, err := parseValue(m.claims)
	if err != nil {
		return
	}
	claims.strings(func(text string) {
		if len(text) >= shortest && len(text) <= 4096 {
			x.claims[text] = "a claim value of a refused token"
		}
	})
}

// allow says that a text stands where it is found by right, such as the request's own path.
func (x *secrets) allow(texts ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.harmless = append(x.harmless, texts...)
}

// find returns what of the secrets a text holds. refused adds the claim values.
func (x *secrets) find(text string, refused bool) (out []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for secret, what := range x.texts {
		if secret != "" && holds(text, secret, false) {
			out = append(out, what+" ("+short(secret)+")")
		}
	}
	if !refused {
		return out
	}
next:
	for value, what := range x.claims {
		for _, h := range x.harmless {
			if strings.Contains(h, value) {
				continue next
			}
		}
		if holds(text, value, true) {
			out = append(out, what+" ("+short(value)+")")
		}
	}
	return out
}

// holds finds a value in a text, as it is or as a JSON string writes it. A whole word is one that no letter or digit
// stands beside.
func holds(text, value string, word bool) bool {
	forms := []string{value}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r > '~' }) {
		escaped := string(quoted(value))
		forms = append(forms, escaped[1:len(escaped)-1])
	}
	for _, v := range forms {
		for rest, at := text, 0; ; {
			i := strings.Index(rest, v)
			if i < 0 {
				break
			}
			at += i
			before, _ := utf8.DecodeLastRuneInString(text[:at])
			after, _ := utf8.DecodeRuneInString(text[at+len(v):])
			if !word || !letter(before) && !letter(after) {
				return true
			}
			at++
			rest = text[at:]
		}
	}
	return false
}

func letter(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// answerText is all that an answer tells the client.
func answerText(r *authv3.CheckResponse) string {
	var b strings.Builder
	write := func(name, value string) { b.WriteString(name + ": " + value + "\n") }
	for _, h := range r.GetDeniedResponse().GetHeaders() {
		write(h.GetHeader().GetKey(), h.GetHeader().GetValue()+string(h.GetHeader().GetRawValue()))
	}
	for _, h := range r.GetOkResponse().GetResponseHeadersToAdd() {
		write(h.GetHeader().GetKey(), h.GetHeader().GetValue()+string(h.GetHeader().GetRawValue()))
	}
	b.WriteString(r.GetDeniedResponse().GetBody())
	b.WriteString(r.GetStatus().GetMessage())
	return b.String()
}
