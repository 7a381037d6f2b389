package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// curlRequest is what a curl command line would send.
type curlRequest struct {
	method, scheme, host, path string
	headers                    [][2]string
	body                       string
	hasBody                    bool
}

// The options of curl that take a value: those that say something of the request, and those that do not.
var (
	curlValues  = "-X --request -H --header -d --data --data-raw --data-binary --data-ascii --json --url -u --user -b --cookie -A --user-agent -e --referer"
	curlIgnored = "-o --output -m --max-time --connect-timeout --retry -w --write-out --cacert -x --proxy --resolve --limit-rate -D --dump-header"
	curlFlags   = "-s --silent -S --show-error -k --insecure -L --location -v --verbose -i --include -f --fail --compressed --http1.1 --http2 -N --no-buffer -g --globoff -# --progress-bar"
)

// parseCurl reads a curl command line as a shell and curl would; what it does not know is an error, as a request that is
// explained must be the one that is sent. It runs nothing and reads no file.
func parseCurl(line string) (curlRequest, error) {
	args, err := shellWords(line)
	if err != nil {
		return curlRequest{}, err
	}
	if len(args) == 0 || args[0] != "curl" && !strings.HasSuffix(args[0], "/curl") {
		return curlRequest{}, errors.New("it does not begin with curl")
	}
	c := curlReader{}
	if err := c.read(args[1:]); err != nil {
		return curlRequest{}, err
	}
	return c.request()
}

type curlReader struct {
	curlRequest
	url     string
	inQuery bool // -G: the data go into the query
	head    bool
	data    []string
}

func (c *curlReader) read(args []string) error {
	known := func(list, option string) bool { return strings.Contains(" "+list+" ", " "+option+" ") }
	for len(args) > 0 {
		option, value, hasValue := args[0], "", false
		args = args[1:]
		if !strings.HasPrefix(option, "-") || option == "-" {
			if c.url != "" {
				return errors.New("more than one URL")
			}
			c.url = option
			continue
		}
		if !strings.HasPrefix(option, "--") && len(option) > 2 { // -XPOST, or -sk
			if known(curlFlags, option[:2]) || option[:2] == "-G" || option[:2] == "-I" {
				args = append([]string{"-" + option[2:]}, args...)
			} else {
				value, hasValue = option[2:], true
			}
			option = option[:2]
		}
		switch {
		case option == "-G" || option == "--get":
			c.inQuery = true
			continue
		case option == "-I" || option == "--head":
			c.head = true
			continue
		case known(curlFlags, option):
			continue
		case !known(curlValues, option) && !known(curlIgnored, option):
			return fmt.Errorf("option %s of curl is not understood", option)
		}
		if !hasValue {
			if len(args) == 0 {
				return fmt.Errorf("option %s of curl lacks its value", option)
			}
			value, args = args[0], args[1:]
		}
		if err := c.option(option, value); err != nil {
			return err
		}
	}
	return nil
}

func (c *curlReader) option(option, value string) error {
	set := func(name, v string) { c.headers = append(c.headers, [2]string{name, v}) }
	switch option {
	case "-X", "--request":
		c.method = value
	case "-H", "--header":
		if strings.HasPrefix(value, "@") {
			return errors.New("headers from a file are not read")
		}
		name, v, ok := strings.Cut(value, ":")
		if !ok {
			return errors.New("a header without a colon")
		}
		if v = strings.TrimSpace(v); v != "" { // without a value, curl leaves the header out
			set(strings.TrimSpace(name), v)
		}
	case "-d", "--data", "--data-ascii", "--data-binary", "--data-raw", "--json":
		if strings.HasPrefix(value, "@") && option != "--data-raw" {
			return errors.New("data from a file are not read: give them with --data @FILE of usher explain")
		}
		if option == "--json" {
			set("content-type", "application/json")
			set("accept", "application/json")
		}
		c.data = append(c.data, value)
	case "--url":
		if c.url != "" {
			return errors.New("more than one URL")
		}
		c.url = value
	case "-u", "--user":
		set("authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(value)))
	case "-b", "--cookie":
		if !strings.Contains(value, "=") {
			return errors.New("cookies from a file are not read")
		}
		set("cookie", value)
	case "-A", "--user-agent":
		set("user-agent", value)
	case "-e", "--referer":
		set("referer", value)
	}
	return nil
}

// request makes the request as curl does.
func (c *curlReader) request() (curlRequest, error) {
	if c.url == "" {
		return curlRequest{}, errors.New("it has no URL")
	}
	if !strings.Contains(c.url, "://") {
		c.url = "http://" + c.url
	}
	u, err := url.Parse(c.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return curlRequest{}, errors.New("its URL is none of http or https")
	}
	// The path as it is written: parsing would change what two readers could take differently.
	rest := c.url[strings.Index(c.url, "://")+3:]
	target := "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		target = rest[i:]
	}
	target, _, _ = strings.Cut(target, "#") // a client does not send it
	if target == "" || target[0] == '?' {
		target = "/" + target
	}
	out := c.curlRequest
	out.scheme, out.host, out.path = u.Scheme, u.Host, target
	out.headers = slices.DeleteFunc(out.headers, func(h [2]string) bool {
		if strings.EqualFold(h[0], "host") {
			out.host = h[1]
			return true
		}
		return false
	})
	data := strings.Join(c.data, "&")
	switch {
	case c.inQuery && len(c.data) > 0:
		separator := "?"
		if strings.Contains(target, "?") {
			separator = "&"
		}
		out.path += separator + data
	case len(c.data) > 0:
		out.body, out.hasBody = data, true
		if !out.has("content-type") {
			out.headers = append(out.headers, [2]string{"content-type", "application/x-www-form-urlencoded"})
		}
	}
	switch {
	case out.method != "":
	case c.head:
		out.method = "HEAD"
	case out.hasBody:
		out.method = "POST"
	default:
		out.method = "GET"
	}
	if u.User != nil && !out.has("authorization") {
		password, _ := u.User.Password()
		out.headers = append(out.headers, [2]string{"authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))})
	}
	return out, nil
}

func (c *curlRequest) has(name string) bool {
	for _, h := range c.headers {
		if strings.EqualFold(h[0], name) {
			return true
		}
	}
	return false
}

var errQuote = errors.New("a quote is not closed")

// shellWords splits a line as a POSIX shell does, for quotes, backslashes and bash's $'...'. What a shell would expand or run
// is an error.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		case c == '\\':
			if i++; i >= len(line) {
				return nil, errors.New("it ends with a backslash")
			}
			if line[i] == '\r' && i+1 < len(line) && line[i+1] == '\n' {
				i++
			}
			if line[i] != '\n' {
				inWord = true
				word.WriteByte(line[i])
			}
		case c == '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errQuote
			}
			inWord = true
			word.WriteString(line[i+1 : i+1+end])
			i += end + 1
		case c == '"':
			n, err := doubleQuoted(line[i+1:], &word)
			if err != nil {
				return nil, err
			}
			inWord = true
			i += n
		case c == '$' && strings.HasPrefix(line[i+1:], "'"):
			n, err := ansiQuoted(line[i+2:], &word)
			if err != nil {
				return nil, err
			}
			inWord = true
			i += n + 1
		case strings.IndexByte("$`|&;<>()", c) >= 0:
			return nil, fmt.Errorf("a shell would not take the character %q as it is: put it in quotes", c)
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// doubleQuoted reads up to the closing quote and returns how many bytes, with it.
func doubleQuoted(text string, into *strings.Builder) (int, error) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\' && i+1 < len(text):
			i++
			if strings.IndexByte("\\\"$`\n", text[i]) < 0 {
				into.WriteByte('\\')
			}
			if text[i] != '\n' {
				into.WriteByte(text[i])
			}
		case c == '$' || c == '`':
			return 0, fmt.Errorf("a shell would expand the character %q: put it in single quotes", c)
		default:
			into.WriteByte(c)
		}
	}
	return 0, errQuote
}

// ansiQuoted reads bash's $'...', which browsers write, and returns how many bytes, with the closing quote.
func ansiQuoted(text string, into *strings.Builder) (int, error) {
	plain := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '\\': '\\', '\'': '\'', '"': '"'}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'':
			return i + 1, nil
		case c != '\\' || i+1 >= len(text):
			into.WriteByte(c)
		case text[i+1] == 'u' && i+6 <= len(text):
			var r rune
			if _, err := fmt.Sscanf(text[i+2:i+6], "%04x", &r); err != nil || r >= 0xd800 && r < 0xe000 {
				return 0, errors.New("an escape is not understood")
			}
			into.WriteRune(r)
			i += 5
		default:
			v, ok := plain[text[i+1]]
			if !ok {
				return 0, errors.New("an escape is not understood")
			}
			into.WriteByte(v)
			i++
		}
	}
	return 0, errQuote
}
