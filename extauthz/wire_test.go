package extauthz

import (
	"encoding/base64"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// asGenerated is what the generated decoder finds in a CheckRequest, in the form of the hand-written reader.
func asGenerated(text string) (message, error) {
	var check authv3.CheckRequest
	if err := proto.Unmarshal([]byte(text), &check); err != nil {
		return message{}, err
	}
	attrs := check.GetAttributes()
	http := attrs.GetRequest().GetHttp()
	m := message{
		http: http != nil, method: http.GetMethod(), target: http.GetPath(), authority: http.GetHost(), scheme: http.GetScheme(),
		bodyText: http.GetBody(), rawBody: string(http.GetRawBody()), source: attrs.GetSource().GetAddress().GetSocketAddress().GetAddress(),
		policy: attrs.GetContextExtensions()["policy"], certificateText: attrs.GetSource().GetCertificate(),
	}
	if said, ok := attrs.GetContextExtensions()["body"]; ok {
		m.unsent = said != "sent"
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		value := h.GetValue()
		if len(h.GetRawValue()) > 0 {
			value = string(h.GetRawValue())
		}
		m.headers.list += h.GetKey() + "\x00" + value + "\x00"
		m.headers.note(h.GetKey(), value)
	}
	m.headers.joined = http.GetHeaders()
	return m, nil
}

// sameReading fails unless the bytes are read as the generated decoder reads them, or are refused as it refuses them. It
// reports whether the hand-written reader read them without it.
func sameReading(t *testing.T, text string) (byHand bool) {
	t.Helper()
	want, wantErr := asGenerated(text)
	var fast message
	byHand = fast.check(text)
	if byHand && wantErr != nil {
		t.Fatalf("%x: read by hand, and the generated decoder says %v", text, wantErr)
	}
	var got message
	err := got.read(text)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%x: %v, and the generated decoder says %v", text, err, wantErr)
	}
	if err != nil {
		if got.http || got.method != "" || got.target != "" || got.headers.list != "" || got.headers.joined != nil {
			t.Fatalf("%x: refused, and %+v is left of it", text, got)
		}
		return false
	}
	var list strings.Builder
	eachHeader(got.headers.list, func(name, value string) { list.WriteString(name + "\x00" + value + "\x00") })
	for _, f := range []struct{ name, got, want string }{
		{"method", got.method, want.method}, {"path", got.target, want.target}, {"host", got.authority, want.authority}, {"scheme", got.scheme, want.scheme},
		{"body", got.bodyText, want.bodyText}, {"raw_body", got.rawBody, want.rawBody}, {"address", got.source, want.source},
		{"policy", got.policy, want.policy}, {"certificate", got.certificateText, want.certificateText}, {"header_map", list.String(), want.headers.list},
	} {
		if f.got != f.want {
			t.Fatalf("%x: %s is %q, and the generated decoder has %q", text, f.name, f.got, f.want)
		}
	}
	if got.unsent != want.unsent {
		t.Fatalf("%x: the body is unsent: %v, and the generated decoder has %v", text, got.unsent, want.unsent)
	}
	if got.http != want.http || !maps.Equal(got.headers.joined, want.headers.joined) {
		t.Fatalf("%x: HTTP %v, headers %q, and the generated decoder has %v, %q", text, got.http, got.headers.joined, want.http, want.headers.joined)
	}
	if a, b := &got.headers, &want.headers; len(a.joined) == 0 &&
		(a.authorization != b.authorization || a.authorizations != b.authorizations || a.requestID != b.requestID || a.upgrade != b.upgrade ||
			!slices.Equal(a.dpop, b.dpop) || !slices.Equal(a.contentLength, b.contentLength) || !slices.Equal(a.contentEncoding, b.contentEncoding) ||
			!slices.Equal(a.transferEncoding, b.transferEncoding) || !slices.Equal(a.partialBody, b.partialBody) || !slices.Equal(a.odd, b.odd)) {
		t.Fatalf("%x: noted %+v, want %+v", text, *a, *b)
	}
	return byHand
}

func TestEvery_encoding_of_a_check_has_the_generated_decoders_reading(t *testing.T) {
	for name, text := range nasty {
		t.Run(name, func(t *testing.T) { sameReading(t, text) })
	}
}

// recorded are checks that a real Envoy 1.40 has sent, with the configuration of `usher envoy` and a listener with TLS: a GET
// with a client certificate, and a POST with a body.
func recorded(t testing.TB) (out []string) {
	files, err := filepath.Glob("testdata/envoy-*.base64")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		encoded, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := base64.StdEncoding.DecodeString(string(encoded))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// The reader must not be slow without anybody noticing: what Envoy writes, it reads without the generated decoder.
func TestWhat_Envoy_writes_is_read_by_hand(t *testing.T) {
	joined := check("token")
	joined.Attributes.Request.Http.HeaderMap = nil
	joined.Attributes.Request.Http.Headers = map[string]string{":path": "/", "authorization": "Bearer x", "x": ""}
	for _, text := range recorded(t) {
		if !sameReading(t, text) {
			t.Errorf("left to the generated decoder: %q", text)
		}
	}
	for name, text := range map[string]string{"raw headers": wireText(check("token")), "joined headers": wireText(joined), "all that is": fromEnvoy()} {
		if !sameReading(t, text) {
			t.Errorf("%s: left to the generated decoder", name)
		}
	}
	for _, name := range []string{"a time", "method twice", "value and raw value", "a number of ten bytes", "a length in two bytes", "a name in two entries"} {
		if !sameReading(t, nasty[name]) {
			t.Errorf("%s: left to the generated decoder", name)
		}
	}
}

// A check cut off anywhere, or with any one byte changed, is read as the generated decoder reads it.
func TestA_damaged_check_has_the_generated_decoders_reading(t *testing.T) {
	for _, text := range append(recorded(t), fromEnvoy()) {
		for i := range text {
			sameReading(t, text[:i])
			for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, text[i] ^ 1, text[i] ^ 8, text[i] + 8} {
				sameReading(t, text[:i]+string([]byte{b})+text[i+1:])
			}
		}
	}
}

// Messages made up at random, most of whose fields are of the right kind.
func TestMade_up_checks_have_the_generated_decoders_reading(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	byHand, refused := 0, 0
	const rounds = 30_000
	for range rounds {
		seed := make(entropy, 20+random.IntN(200))
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		text := seed.message("check")
		if sameReading(t, text) {
			byHand++
		} else if _, err := asGenerated(text); err != nil {
			refused++
		}
	}
	t.Logf("of %d checks %d were read by hand, %d refused", rounds, byHand, refused)
	if byHand < rounds/20 || refused < rounds/20 || byHand+refused > rounds*19/20 {
		t.Errorf("of %d checks %d were read by hand, %d refused: too many of one kind", rounds, byHand, refused)
	}
}

func FuzzMadeUp(f *testing.F) {
	f.Add([]byte("a check that is made up of these bytes, which say what comes next"))
	f.Fuzz(func(t *testing.T, seed []byte) {
		e := entropy(seed)
		sameReading(t, e.message("check"))
	})
}

func FuzzWire(f *testing.F) {
	for _, text := range nasty {
		if len(text) < 1<<12 {
			f.Add([]byte(text))
		}
	}
	for _, text := range append(recorded(f), fromEnvoy()) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { sameReading(t, string(text)) })
}

// BenchmarkRead is the reading of a check: by hand, and by the generated decoder.
func BenchmarkRead(b *testing.B) {
	m := newMinter(b, "RS256")
	text := wireText(check(m.mint(b, nil)))
	b.Run("by_hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m message
			if err := m.read(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("generated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m authv3.CheckRequest
			if err := proto.Unmarshal([]byte(text), &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
