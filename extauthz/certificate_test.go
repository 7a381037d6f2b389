package extauthz

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/policy"
)

// forwarding returns two certificates as Envoy forwards them: URL-encoded PEM, and the sum in hex.
func forwarding() (der []byte, cert, sum, otherCert, otherSum string) {
	of := func(der []byte) (string, string) {
		digest := sha256.Sum256(der)
		return url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), hex.EncodeToString(digest[:])
	}
	plus := func(s string) string { return strings.ReplaceAll(s, "+", "%20") }
	der = []byte("a certificate, of which only the digest counts")
	cert, sum = of(der)
	otherCert, otherSum = of([]byte("another one"))
	return der, plus(cert), sum, plus(otherCert), otherSum
}

func TestForwardedCertificate(t *testing.T) {
	_, cert, sum, otherCert, otherSum := forwarding()
	for _, c := range []struct {
		name, header string
		want         string // the sum of the certificate; empty: refused
	}{
		{"a_hash", "Hash=" + sum, sum},
		{"a_hash_in_capitals", "Hash=" + strings.ToUpper(sum), sum},
		{"a_certificate", `Cert="` + cert + `"`, sum},
		{"both", "Hash=" + sum + `;Cert="` + cert + `"`, sum},
		{"all_that_Envoy_writes", "By=spiffe://a/b;By=spiffe://a/c;Hash=" + sum + `;Cert="` + cert + `";Chain="` + cert + otherCert + `";Subject="CN=a\"b,O=c;Hash=` + otherSum + `";URI=spiffe://x;DNS=a.test;DNS=b.test`, sum},
		{"names_in_lower_case", "hash=" + sum, sum},
		{"empty", "", ""},
		{"neither_certificate_nor_hash", `Subject="CN=a"`, ""},
		{"a_hash_of_another_certificate", "Hash=" + otherSum + `;Cert="` + cert + `"`, ""},
		{"two_hashes", "Hash=" + sum + ";Hash=" + sum, ""},
		{"two_certificates", `Cert="` + cert + `";Cert="` + cert + `"`, ""},
		{"two_elements", "Hash=" + sum + ",Hash=" + otherSum, ""},
		{"two_elements_after_a_quoted_value", `Cert="` + cert + `",Hash=` + otherSum, ""},
		{"an_element_appended", "Hash=" + sum + `;Subject="CN=a",By=x;Hash=` + otherSum, ""},
		{"a_short_hash", "Hash=" + sum[:62], ""},
		{"a_hash_that_is_no_hex", "Hash=zz" + sum[2:], ""},
		{"a_hash_in_base64", "Hash=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ""},
		{"a_certificate_that_is_no_PEM", `Cert="x";Hash=` + sum, ""},
		{"an_empty_certificate", `Cert="";Hash=` + sum, ""},
		{"an_unknown_name", "Hash=" + sum + ";X=1", ""},
		{"a_name_with_a_space", "Hash=" + sum + "; Subject=a", ""},
		{"a_quote_left_open", "Hash=" + sum + `;Subject="CN=a`, ""},
		{"an_escape_at_the_end", "Hash=" + sum + `;Subject="CN=a\`, ""},
		{"a_semicolon_at_the_end", "Hash=" + sum + ";", ""},
		{"a_quote_within_a_plain_value", "Hash=" + sum + `;Subject=CN"a`, ""},
		{"text_after_a_quoted_value", `Subject="a"b;Hash=` + sum, ""},
		{"too_long", "Hash=" + sum + ";Subject=" + strings.Repeat("a", maxForwarded), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if der, of, ok := forwardedCertificate(c.header); ok {
				if der != nil {
					digest := sha256.Sum256(der)
					of = digest[:]
				}
				got = hex.EncodeToString(of)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestA_forwarded_certificate_counts_only_where_the_policy_says_so(t *testing.T) {
	_, cert, sum, otherCert, _ := forwarding()
	raw, _ := hex.DecodeString(sum)
	header := [2]string{"x-forwarded-client-cert", "Hash=" + sum + `;Cert="` + cert + `"`}
	for name, c := range map[string]struct {
		forwarded  bool
		connection string
		headers    [][2]string
		mine       bool
	}{
		"the header without the field":          {false, "", [][2]string{header}, false},
		"the connection without the field":      {false, cert, nil, true},
		"both without the field":                {false, otherCert, [][2]string{header}, false},
		"the header with the field":             {true, "", [][2]string{header}, true},
		"the header over the proxy's own":       {true, otherCert, [][2]string{header}, true},
		"the proxy's own does not count":        {true, cert, nil, false},
		"two headers":                           {true, "", [][2]string{header, header}, false},
		"a header of a name that looks like it": {true, "", [][2]string{{"x_forwarded_client_cert", header[1]}}, false},
	} {
		for _, asMap := range []bool{false, true} {
			s, m := serverFor(t, func(p *policy.Source) { p.ForwardedCertificate = c.forwarded })
			token := m.mint(t, map[string]any{"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(raw)}})
			r := ask("GET", "/items", asMap, append([][2]string{{"authorization", "Bearer " + token}}, c.headers...)...)
			r.Attributes.Source = &authv3.AttributeContext_Peer{Certificate: c.connection}
			want := 401
			if c.mine {
				want = 200
			}
			if got := statusOf(do(t, s, r)); got != want {
				t.Errorf("%s, as a map %v: %d, want %d", name, asMap, got, want)
			}
		}
	}
}

func TestTheCertificateOfTheConnectionIsJustOne(t *testing.T) {
	der, cert, _, other, _ := forwarding()
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"one":                     {cert, true},
		"one and a line break":    {cert + "%0A", true},
		"two":                     {cert + other, false},
		"the same one twice":      {cert + cert, false},
		"text before it":          {"Subject:%20a%0A" + cert, false},
		"text after it":           {cert + "x", false},
		"a NUL before it":         {"%00" + cert, false},
		"a NUL after it":          {cert + "%00", false},
		"a NUL within it":         {strings.Replace(cert, "BEGIN", "BEG%00IN", 1), false},
		"nothing":                 {"", false},
		"a block without bytes":   {"-----BEGIN%20CERTIFICATE-----%0A-----END%20CERTIFICATE-----%0A", false},
		"a block with headers":    {strings.Replace(cert, "-----%0A", "-----%0AProc-Type:%204%0A%0A", 1), false},
		"a block without its end": {cert[:len(cert)-12], false},
		"another kind of block":   {strings.ReplaceAll(cert, "CERTIFICATE", "PUBLIC%20KEY"), false},
		"a broken escape":         {cert + "%0", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := leaf(c.text); c.ok != bytes.Equal(got, der) || !c.ok && got != nil {
				t.Errorf("got %q", got)
			}
		})
	}
}

// FuzzXFCC says that whatever is read of the header names one certificate, and that no second element is taken over.
func FuzzXFCC(f *testing.F) {
	der, cert, sum, _, otherSum := forwarding()
	for _, seed := range []string{
		"", "Hash=" + sum, `Cert="` + cert + `"`, "Hash=" + sum + `;Subject="CN=a\"b,O=c"`, "Hash=" + sum + ",Hash=" + otherSum, `By=";"`, `a="\`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, of, ok := forwardedCertificate(text)
		if ok != (got != nil || len(of) == sha256.Size) || got != nil && of != nil {
			t.Fatalf("%d bytes of DER, sum of %d, %v", len(got), len(of), ok)
		}
		if !ok {
			return
		}
		if _, _, again := forwardedCertificate(text + ",Hash=" + sum); again {
			t.Error("an element appended is read")
		}
		if _, _, again := forwardedCertificate("Hash=" + sum + "," + text); again {
			t.Error("an element put before is read")
		}
		if full, _, again := forwardedCertificate(text + `;Cert="` + cert + `"`); again && !bytes.Equal(full, der) {
			t.Error("another certificate than Cert's")
		}
	})
}
