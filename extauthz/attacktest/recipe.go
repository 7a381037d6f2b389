package attacktest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Recipe says how a token is made. In the file it is an object, or the name of a recipe. What it does not give is its
// base's; a recipe without a base gives header and claims as they are, any other one gives changes to them.
type Recipe struct {
	base            string
	inline          *Recipe
	header, claims  part
	key             Value
	signWith        Value
	sig             []sigOp
	form            []formOp
	payloadFrom     *Recipe
	unencoded       bool
	raw             Value
	sameAsCaseToken bool
}

// part is what a recipe says about the header or the claims.
type part struct {
	set, prepend, append []member
	remove               []string
	// raw is the whole text; rawBytes the same from a generator.
	raw, rawBytes              Value
	prefix, suffix, inEncoding Value
}

// sigOp is an operation on the bytes of the signature, formOp one on the compact text. Just those members are given
// that the operation has.
type (
	sigOp struct {
		Op     string  `json:"op"`
		Bit    *int    `json:"bit"`
		N      *int    `json:"n"`
		Hex    *string `json:"hex"`
		Recipe *Recipe `json:"recipe"`
	}
	formOp struct {
		Op                string  `json:"op"`
		Seg               *int    `json:"seg"`
		At                *int    `json:"at"`
		Text              *string `json:"text"`
		ExtraSignatureHex *string `json:"extra_signature_hex"`
	}
)

// UnmarshalJSONFrom reads a recipe or the name of one.
func (r *Recipe) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		return json.UnmarshalDecode(d, &r.base)
	}
	var file struct {
		Base             Value    `json:"base"`
		Header           Value    `json:"header"`
		Claims           Value    `json:"claims"`
		Key              Value    `json:"key"`
		SignWith         Value    `json:"sign_with"`
		Sig              []sigOp  `json:"sig"`
		Form             []formOp `json:"form"`
		PayloadFrom      *Recipe  `json:"payload_from"`
		UnencodedPayload bool     `json:"unencoded_payload"`
		Raw              Value    `json:"raw"`
		SameAsCaseToken  bool     `json:"same_as_case_token"`
		About            string   `json:"about"`
	}
	if err := json.UnmarshalDecode(d, &file); err != nil {
		return err
	}
	*r = Recipe{
		key: file.Key, signWith: file.SignWith, sig: file.Sig, form: file.Form, payloadFrom: file.PayloadFrom,
		unencoded: file.UnencodedPayload, raw: file.Raw, sameAsCaseToken: file.SameAsCaseToken,
	}
	switch file.Base.kind {
	case '"':
		r.base = file.Base.text
	case '{':
		r.inline = &Recipe{}
		if err := json.Unmarshal([]byte(file.Base.String()), r.inline, json.RejectUnknownMembers(true)); err != nil {
			return fmt.Errorf("base: %w", err)
		}
	case 0:
		r.header.set, r.claims.set = file.Header.members, file.Claims.members
		return nil
	default:
		return fmt.Errorf("base %s is neither a name nor a recipe", file.Base)
	}
	var err error
	if r.header, err = readPart(file.Header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if r.claims, err = readPart(file.Claims); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	return nil
}

func readPart(v Value) (part, error) {
	if v.absent() {
		return part{}, nil
	}
	if err := v.only("set", "remove", "prepend", "append", "raw", "raw_bytes", "text_prefix", "text_suffix", "text_encoding"); err != nil {
		return part{}, err
	}
	p := part{raw: v.get("raw"), rawBytes: v.get("raw_bytes"), prefix: v.get("text_prefix"), suffix: v.get("text_suffix"), inEncoding: v.get("text_encoding")}
	if set := v.get("set"); !set.absent() && set.kind != '{' {
		return p, errors.New("set is no object")
	}
	p.set = v.get("set").members
	for _, name := range v.get("remove").items {
		text, err := name.str()
		if err != nil {
			return p, err
		}
		p.remove = append(p.remove, text)
	}
	for _, list := range []struct {
		name string
		into *[]member
	}{{"prepend", &p.prepend}, {"append", &p.append}} {
		for _, item := range v.get(list.name).items {
			name, value, err := item.pair()
			if err != nil {
				return p, fmt.Errorf("%s: %w", list.name, err)
			}
			*list.into = append(*list.into, member{name.text, value})
		}
	}
	return p, nil
}

// over applies a change to what its base has: prepend, base and set, append. Equal names stay where they are added.
func (p part) over(base part) part {
	out := base
	out.set = slices.DeleteFunc(slices.Clone(base.set), func(m member) bool { return slices.Contains(p.remove, m.name) })
	out.set = setMembers(out.set, p.set)
	out.prepend = append(slices.Clone(p.prepend), base.prepend...)
	out.append = append(slices.Clone(base.append), p.append...)
	for _, v := range []struct{ into, from *Value }{
		{&out.raw, &p.raw}, {&out.rawBytes, &p.rawBytes}, {&out.prefix, &p.prefix}, {&out.suffix, &p.suffix}, {&out.inEncoding, &p.inEncoding},
	} {
		if !v.from.absent() {
			*v.into = *v.from
		}
	}
	return out
}

// resolve returns the recipe with its base worked in.
func (r *Recipe) resolve(s *Suite) (*Recipe, error) { return r.resolveIn(s, 0) }

func (r *Recipe) resolveIn(s *Suite, depth int) (*Recipe, error) {
	base := r.inline
	switch {
	case depth > 10:
		return nil, errors.New("recipes are based on each other in a circle")
	case r.base != "":
		if base = s.TokenRecipes[r.base]; base == nil {
			return nil, fmt.Errorf("unknown recipe %q", r.base)
		}
	case base == nil:
		return r, nil
	}
	base, err := base.resolveIn(s, depth+1)
	if err != nil {
		return nil, err
	}
	out := *base
	out.header, out.claims = r.header.over(base.header), r.claims.over(base.claims)
	if !r.key.absent() {
		out.key = r.key
	}
	if !r.signWith.absent() {
		out.signWith = r.signWith
	}
	if r.sig != nil {
		out.sig = r.sig
	}
	if r.form != nil {
		out.form = r.form
	}
	if r.payloadFrom != nil {
		out.payloadFrom = r.payloadFrom
	}
	if !r.raw.absent() {
		out.raw = r.raw
	}
	out.unencoded = r.unencoded || base.unencoded
	out.sameAsCaseToken = r.sameAsCaseToken
	return &out, nil
}

// check finds what the interpreter would not understand.
func (r *Recipe) check(s *Suite) error {
	if r == nil {
		return nil
	}
	full, err := r.resolve(s)
	if err != nil {
		return err
	}
	if full.key.absent() && full.raw.absent() && !full.sameAsCaseToken {
		return errors.New("neither a key nor a raw text")
	}
	for _, p := range []part{full.header, full.claims} {
		for _, list := range [][]member{p.set, p.prepend, p.append} {
			for _, m := range list {
				if err := checkGenerators(m.value); err != nil {
					return fmt.Errorf("%q: %w", m.name, err)
				}
			}
		}
		for _, v := range []Value{p.raw, p.rawBytes, p.prefix, p.suffix, p.inEncoding} {
			if err := checkGenerators(v); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(checkGenerators(full.raw), checkGenerators(full.signWith), checkKey(s, full.key)); err != nil {
		return err
	}
	for _, op := range full.sig {
		if err := op.check(s); err != nil {
			return fmt.Errorf("sig %q: %w", op.Op, err)
		}
	}
	for _, op := range full.form {
		if err := op.check(); err != nil {
			return fmt.Errorf("form %q: %w", op.Op, err)
		}
	}
	return full.payloadFrom.check(s)
}

func checkKey(s *Suite, key Value) error {
	switch key.kind {
	case 0:
		return nil
	case '{':
		return errors.Join(key.only("hmac"), checkGenerators(key.get("hmac")))
	case '"':
		_, isKey := s.Environment.Keys[key.text]
		_, isCert := s.Environment.Certs[key.text]
		if isKey || isCert || key.text == "none" {
			return nil
		}
	}
	return fmt.Errorf("unknown key %s", key)
}

func (op sigOp) check(s *Suite) error {
	given := given{"bit": op.Bit != nil, "n": op.N != nil, "hex": op.Hex != nil, "recipe": op.Recipe != nil}
	switch op.Op {
	case "flip_bit":
		return given.just("bit")
	case "truncate", "zero", "pad_components":
		return given.just("n")
	case "set_hex", "prepend_hex", "append_hex":
		return given.just("hex")
	case "der", "add_order_s", "pkcs1_encoded_message":
		return given.just()
	case "from":
		return errors.Join(given.just("recipe"), op.Recipe.check(s))
	}
	return errors.New("unknown operation")
}

func (op formOp) check() error {
	given := given{"seg": op.Seg != nil, "at": op.At != nil, "text": op.Text != nil, "extra_signature_hex": op.ExtraSignatureHex != nil}
	switch op.Op {
	case "pad", "std_alphabet", "dirty_bits", "drop_segment":
		return given.just("seg")
	case "insert":
		return given.just("seg", "at", "text")
	case "add_segment":
		return given.just("text")
	case "detach", "json_flattened":
		return given.just()
	case "json_general":
		return given.just("extra_signature_hex")
	}
	return errors.New("unknown operation")
}

// given says which members an operation has.
type given map[string]bool

// just reports a member that is missing, or that the operation does not have.
func (g given) just(names ...string) error {
	for name, is := range g {
		if want := slices.Contains(names, name); is != want {
			return fmt.Errorf("expected just the members %q beside op", names)
		}
	}
	return nil
}
