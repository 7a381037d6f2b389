package edit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/usher-authz/usher/policy"
)

// ParkingPath is where an edited request waits until the edit filter has put its body in place: Usher's answer sends it
// here, and only the filter restores the true path. The backend must not serve it.
const ParkingPath = policy.ReservedPrefix + "edit-filter-missing"

// The members of the dynamic metadata, which edit.lua reads.
const (
	PathKey = "usher.path"
	BodyKey = "usher.body"
)

// Metadata returns the dynamic metadata that carries an edit: the true path, with its query, and the whole edited body.
func Metadata(path string, body []byte) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		PathKey: structpb.NewStringValue(path),
		BodyKey: structpb.NewStringValue(string(body)),
	}}
}

// Apply returns the body with the edits made, and every other byte as it was: white space, key order, big numbers. An
// empty body is an empty object. The body must be strict JSON (RFC 7493), and so is the result; a member that exists,
// in whatever escapes its name is written, is replaced in place and never repeated. A place that is neither missing nor
// null nor an object is an error. The error shows no part of the body.
func Apply(body []byte, edits []policy.Edit) ([]byte, error) {
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		body = []byte("{}")
	}
	for _, e := range edits {
		var err error
		if body, err = apply(body, e); err != nil {
			return nil, fmt.Errorf("edit at %q: %w", e.At, err)
		}
	}
	return body, nil
}

// splice is text to put in place of body[start:end].
type splice struct {
	start, end int
	text       []byte
}

func apply(body []byte, e policy.Edit) ([]byte, error) {
	members := make([]member, len(e.Set))
	for i, m := range e.Set {
		name, err := jsontext.AppendQuote(nil, m.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.Value)
		if err != nil {
			return nil, errors.New("a value that is no JSON")
		}
		members[i] = member{m.Name, name, value}
	}
	w := &walker{d: jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false)), body: body}
	if err := w.value(e.At, members, true); err != nil {
		return nil, err
	}
	// The rest is read too: nothing may follow, so that the body has one reading.
	if _, err := w.d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the JSON value")
	}
	size := len(body)
	for _, s := range w.splices {
		size += len(s.text) - (s.end - s.start)
	}
	out := make([]byte, 0, size)
	at := 0
	for _, s := range w.splices {
		out = append(append(out, body[at:s.start]...), s.text...)
		at = s.end
	}
	return append(out, body[at:]...), nil
}

type member struct {
	name         string
	quoted, text []byte
}

// walker goes through a body once and notes the splices, in order.
type walker struct {
	d       *jsontext.Decoder
	body    []byte
	splices []splice
}

// value reads the next value; where it is the place of the edit, or on the way there, it notes what to change.
func (w *walker) value(at []string, set []member, onPath bool) error {
	if !onPath {
		return w.d.SkipValue()
	}
	kind := w.d.PeekKind()
	switch {
	case kind == '{':
		return w.object(at, set)
	case kind == '[' && len(at) > 0:
		return w.array(at, set)
	case kind == 'n':
		if _, err := w.d.ReadToken(); err != nil {
			return err
		}
		end := int(w.d.InputOffset())
		w.splices = append(w.splices, splice{end - len("null"), end, build(at, set)})
		return nil
	}
	if kind == 0 || kind == jsontext.KindInvalid {
		_, err := w.d.ReadToken()
		if err == nil {
			err = errors.New("malformed JSON")
		}
		return err
	}
	return errors.New("something else than an object stands there")
}

func (w *walker) array(at []string, set []member) error {
	index, err := strconv.Atoi(at[0])
	if err != nil || index < 0 {
		return errors.New("a list stands where an object is expected")
	}
	if _, err := w.d.ReadToken(); err != nil {
		return err
	}
	i := 0
	for ; w.d.PeekKind() != ']'; i++ {
		if err := w.value(at[1:], set, i == index); err != nil {
			return err
		}
	}
	if _, err := w.d.ReadToken(); err != nil {
		return err
	}
	if i <= index {
		return errors.New("the list is shorter than that")
	}
	return nil
}

func (w *walker) object(at []string, set []member) error {
	if _, err := w.d.ReadToken(); err != nil {
		return err
	}
	open := int(w.d.InputOffset())
	empty, found := true, make([]bool, len(set))
	for w.d.PeekKind() != '}' {
		empty = false
		token, err := w.d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		if len(at) > 0 {
			if name == at[0] {
				found = nil
			}
			if err := w.value(at[1:], set, name == at[0]); err != nil {
				return err
			}
			continue
		}
		replace := -1
		for i, m := range set {
			if m.name == name {
				replace, found[i] = i, true
			}
		}
		if replace < 0 {
			if err := w.d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		raw, err := w.d.ReadValue()
		if err != nil {
			return err
		}
		end := int(w.d.InputOffset())
		w.splices = append(w.splices, splice{end - len(raw), end, set[replace].text})
	}
	if _, err := w.d.ReadToken(); err != nil {
		return err
	}
	var missing []byte
	switch {
	case len(at) > 0 && found != nil:
		quoted, err := jsontext.AppendQuote(nil, at[0])
		if err != nil {
			return err
		}
		missing = append(append(quoted, ':'), build(at[1:], set)...)
	case len(at) == 0:
		var rest []member
		for i, m := range set {
			if !found[i] {
				rest = append(rest, m)
			}
		}
		missing = join(rest)
	}
	if len(missing) == 0 {
		return nil
	}
	if !empty {
		missing = append(missing, ',')
	}
	w.insert(splice{open, open, missing})
	return nil
}

// insert puts a splice at the front of those that lie behind it.
func (w *walker) insert(s splice) {
	i := len(w.splices)
	for i > 0 && w.splices[i-1].start >= s.start {
		i--
	}
	w.splices = append(w.splices, splice{})
	copy(w.splices[i+1:], w.splices[i:])
	w.splices[i] = s
}

// build makes the object that is missing at the place.
func build(at []string, set []member) []byte {
	out := []byte{'{'}
	if len(at) > 0 {
		quoted, err := jsontext.AppendQuote(nil, at[0])
		if err != nil {
			quoted = []byte(`""`)
		}
		out = append(append(append(out, quoted...), ':'), build(at[1:], set)...)
	} else {
		out = append(out, join(set)...)
	}
	return append(out, '}')
}

func join(set []member) []byte {
	var out []byte
	for i, m := range set {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, m.quoted...), ':'), m.text...)
	}
	return out
}
