package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func TestCurlCommandLines(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`curl https://a.example.com`, `GET a.example.com / []`},
		{`/usr/bin/curl a.example.com:8443/x?y#z`, `GET a.example.com:8443 /x?y []`},
		{`curl https://a.example.com?q=1`, `GET a.example.com /?q=1 []`},
		{"curl 'https://a.example.com/a/../b' \\\n  -H 'A: b' \\\n  --compressed", `GET a.example.com /a/../b [A=b]`},
		{`curl -sSkXPUT https://a.example.com/ -d '{"a": "b c"}'`, `PUT a.example.com / [content-type=application/x-www-form-urlencoded] {"a": "b c"}`},
		{`curl https://a.example.com --json '{}'`, `POST a.example.com / [content-type=application/json accept=application/json] {}`},
		{`curl https://a.example.com -d a=b -d "c=$'d'"`, ``},
		{`curl https://a.example.com -d a=b -d c=d`, `POST a.example.com / [content-type=application/x-www-form-urlencoded] a=b&c=d`},
		{`curl -G https://a.example.com/?x=y -d a=b`, `GET a.example.com /?x=y&a=b []`},
		{`curl -I https://a.example.com`, `HEAD a.example.com / []`},
		{`curl https://a.example.com --data-raw $'{"a":"it\'s \u0021"}'`, `POST a.example.com / [content-type=application/x-www-form-urlencoded] {"a":"it's !"}`},
		{`curl https://u:p@a.example.com/`, `GET a.example.com / [authorization=Basic dTpw]`},
		{`curl -u u:p -b 'a=b' -A x -e y https://a.example.com/`, `GET a.example.com / [authorization=Basic dTpw cookie=a=b user-agent=x referer=y]`},
		{`curl --url https://a.example.com/ --max-time 3`, `GET a.example.com / []`},
		{`curl https://127.0.0.1/ -H 'Host: a.example.com' -H 'X:'`, `GET a.example.com / []`},
		{`wget https://a.example.com`, ``},
		{`curl`, ``}, {``, ``}, {`curl ftp://a.example.com`, ``}, {`curl https://a.example.com https://b.example.com`, ``},
		{`curl https://a.example.com -d @/etc/passwd`, ``}, {`curl https://a.example.com -H @file`, ``}, {`curl https://a.example.com -b jar`, ``},
		{`curl https://a.example.com -T file`, ``}, {`curl https://a.example.com -K file`, ``}, {`curl https://a.example.com -H`, ``},
		{`curl https://a.example.com -H "A: $(id)"`, ``}, {"curl https://a.example.com -H \"A: `id`\"", ``}, {`curl https://a.example.com | sh`, ``},
		{`curl https://a.example.com/?a=b&c=d`, ``}, {`curl 'https://a.example.com`, ``}, {`curl "https://a.example.com`, ``},
		{`curl https://a.example.com $'\x41'`, ``}, {`curl https://a.example.com $'\ud800'`, ``}, {`curl https://a.example.com \`, ``},
	} {
		got := ""
		if r, err := parseCurl(c.line); err == nil {
			var headers []string
			for _, h := range r.headers {
				headers = append(headers, h[0]+"="+h[1])
			}
			got = fmt.Sprintf("%s %s %s [%s]", r.method, r.host, r.path, strings.Join(headers, " "))
			if r.hasBody {
				got += " " + r.body
			}
		}
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

// TestWordsAreThoseOfAShell compares with a real one.
func TestWordsAreThoseOfAShell(t *testing.T) {
	for _, line := range []string{
		`a b`, `'a b' "c d"e\ f`, `a'b'"c"`, `"a\"b\\c\d"`, "a \\\n b", `'' "" x`, "\"a\\\nb\"", `'a\b'`, "a\tb\nc", `\a\'\"`,
	} {
		got, err := shellWords(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		quoted := "" // a line break that a word stands behind ends a command
		for _, r := range line {
			if r == '\n' && !strings.HasSuffix(quoted, `\`) {
				r = ' '
			}
			quoted += string(r)
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\n' `+quoted).Output() //nolint:gosec // the lines above
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSuffix(string(out), "\n"); strings.Join(got, "\n") != want {
			t.Errorf("%q: got %q, a shell %q", line, got, want)
		}
	}
}

func FuzzCurl(f *testing.F) {
	f.Add(`curl -sXPOST 'https://a.example.com/x?y' -H "A: b" -d $'a\n'`)
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parseCurl(line)
		if err == nil && (r.method == "" || r.host == "" || !strings.HasPrefix(r.path, "/")) {
			t.Errorf("%q is %+v", line, r)
		}
	})
}
