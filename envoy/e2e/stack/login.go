package stack

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// The provider's public client and its resource, see parts/provider.
const (
	clientID    = "usher-demo"
	redirectURI = "http://127.0.0.1/callback"
	resource    = "https://agents.example.com/"
)

// User is one of the provider's users.
type User struct{ Name, Password string }

// The provider's users. There are no others.
var (
	Alice = User{"alice", "alice-demo"}
	Bob   = User{"bob", "bob-demo"}
)

// Every scope that the provider gives.
var allScopes = []string{"openid", "profile", "threads:read", "threads:write"}

// Token is what a login ends with.
type Token struct {
	Access string `json:"access_token"`
	ID     string `json:"id_token"`
	Type   string `json:"token_type"`
	Scope  string `json:"scope"`
	// Pages are the titles of the pages that the user saw on the way.
	Pages []string `json:"-"`
}

// Claims returns the access token's claims, for showing. Nothing is verified.
func (t *Token) Claims() (map[string]any, error) {
	parts := strings.Split(t.Access, ".")
	if len(parts) != 3 {
		return nil, errors.New("the access token is no JWT")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, fmt.Errorf("read the access token's claims: %w", err)
	}
	var claims map[string]any
	if err := json.Unmarshal(b, &claims); err != nil {
		return nil, fmt.Errorf("read the access token's claims: %w", err)
	}
	return claims, nil
}

// Login gets a token as a browser and an application would: by the authorization code flow with PKCE (RFC 6749,
// section 4.1; RFC 7636), through the provider's login and consent forms. Without scopes it asks for all.
func (s *Stack) Login(ctx context.Context, user User, scopes ...string) (*Token, error) {
	if len(scopes) == 0 {
		scopes = allScopes
	}
	b, err := newBrowser(user)
	if err != nil {
		return nil, err
	}
	token, err := b.login(ctx, s.Issuer, scopes)
	if err != nil {
		return nil, fmt.Errorf("log in as %s: %w", user.Name, err)
	}
	return token, nil
}

func (b *browser) login(ctx context.Context, issuer string, scopes []string) (*Token, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var provider struct {
		Authorization string `json:"authorization_endpoint"`
		Token         string `json:"token_endpoint"`
	}
	if err := b.getJSON(ctx, issuer+"/.well-known/openid-configuration", &provider); err != nil {
		return nil, err
	}

	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	answer, err := b.authorize(ctx, provider.Authorization+"?"+url.Values{
		"response_type":         {"code"},
		"client_id":             {clientID},
		"redirect_uri":          {redirectURI},
		"scope":                 {strings.Join(scopes, " ")},
		"resource":              {resource},
		"state":                 {state},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
		"code_challenge_method": {"S256"},
	}.Encode())
	if err != nil {
		return nil, err
	}
	switch {
	case answer.Get("error") != "":
		return nil, fmt.Errorf("the provider says %s: %s", answer.Get("error"), answer.Get("error_description"))
	case answer.Get("state") != state:
		return nil, errors.New("the provider sent another state back")
	case answer.Get("iss") != issuer: // RFC 9207
		return nil, fmt.Errorf("the answer is of issuer %q, expected %q", answer.Get("iss"), issuer)
	}

	token := &Token{Pages: b.pages}
	err = b.postJSON(ctx, provider.Token, url.Values{
		"grant_type":    {"authorization_code"},
		"client_id":     {clientID},
		"redirect_uri":  {redirectURI},
		"code":          {answer.Get("code")},
		"code_verifier": {verifier},
		"resource":      {resource},
	}, token)
	return token, err
}

// browser follows redirects by hand, keeps cookies, and fills in forms.
type browser struct {
	http  *http.Client
	user  User
	pages []string
}

func newBrowser(user User) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &browser{user: user, http: &http.Client{
		Jar:           jar,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// authorize starts at the authorization endpoint and ends at the redirect to the client, whose query it returns.
func (b *browser) authorize(ctx context.Context, start string) (url.Values, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, start, nil)
	if err != nil {
		return nil, err
	}
	for range 20 {
		res, err := b.http.Do(req)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		_ = res.Body.Close()
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode >= 300 && res.StatusCode < 400:
			next, err := res.Location()
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(next.String(), redirectURI+"?") {
				return next.Query(), nil
			}
			if req, err = http.NewRequestWithContext(ctx, http.MethodGet, next.String(), nil); err != nil {
				return nil, err
			}
		case res.StatusCode == http.StatusOK:
			if req, err = b.fillIn(ctx, res.Request.URL, string(body)); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%s %s: %s: %s", res.Request.Method, res.Request.URL.Path, res.Status, titleOf(string(body)))
		}
	}
	return nil, errors.New("the provider redirects without end")
}

// fillIn returns the request that sends the page's form, with the user's name and password where it asks for them.
func (b *browser) fillIn(ctx context.Context, page *url.URL, text string) (*http.Request, error) {
	b.pages = append(b.pages, titleOf(text))
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	fields, action, found := url.Values{}, "", false
	for node := range doc.Descendants() {
		switch {
		case node.Type != html.ElementNode:
		case node.Data == "form":
			action, found = attribute(node, "action"), true
		case node.Data == "input":
			value := attribute(node, "value")
			switch name := attribute(node, "name"); name {
			case "user":
				fields.Set(name, b.user.Name)
			case "password":
				fields.Set(name, b.user.Password)
			default:
				fields.Set(name, value)
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("the page %q at %s has no form", titleOf(text), page.Path)
	}
	target, err := page.Parse(action)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(fields.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func titleOf(page string) string {
	_, rest, _ := strings.Cut(page, "<title>")
	title, _, _ := strings.Cut(rest, "</title>")
	return html.UnescapeString(title)
}

func (b *browser) getJSON(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	return b.json(req, into)
}

func (b *browser) postJSON(ctx context.Context, address string, form url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.json(req, into)
}

func (b *browser) json(req *http.Request, into any) error {
	res, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, res.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	return nil
}
