package edit

import (
	"bytes"
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

// maxDepth bounds how deep a body may nest, as policy.ParseValue does.
const maxDepth = 200

// Metadata returns the dynamic metadata that carries an edit: the true path, with its query, and the whole edited body.
// Both must be valid UTF-8, as a request target that Usher accepts and what Apply returns are.
func Metadata(path string, body []byte) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		PathKey: structpb.NewStringValue(path),
		BodyKey: structpb.NewStringValue(string(body)),
	}}
}

// Apply returns the body with all edits made, and every other byte as it was. It reads the body once, however many
// edits there are, and does not change it. An empty body is an empty object.
//
// The body must be strict JSON (RFC 7493) of at most 200 levels, and so is the result. A member that exists, in whatever
// escapes its name is written, is replaced in place; one that does not is added, once. The objects on the way are made
// where they are missing or null. Where something else stands there, where a list is shorter than an edit's index, and
// where two edits contradict each other, that is an error, and nothing is returned. Of two edits that set the same member
// the later one holds. The error shows no part of the body.
func Apply(body []byte, edits []policy.Edit) ([]byte, error) {
	root, err := plan(edits)
	if err != nil {
		return nil, err
	}
	if len(root.children) == 0 {
		root = nil // nothing to set: the body is only read
	}
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		body = []byte("{}")
	}
	w := &walker{
		// A bytes.Buffer is read in place, and never written to.
		decoder: jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false)),
		body:    body,
	}
	if err := w.value(root); err != nil {
		return nil, err
	}
	// The rest is read too: nothing may follow, so that the body has one reading.
	if _, err := w.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("edit the body: more text after the JSON value")
	}
	return w.result(), nil
}

// splice is text to put in the place of body[start:end].
type splice struct {
	start, end int
	text       []byte
}

// walker goes through a body once and notes the splices in the order of their places.
type walker struct {
	decoder *jsontext.Decoder
	body    []byte
	splices []splice
	name    []byte // buffer for a name without its escapes
}

func (w *walker) result() []byte {
	size := len(w.body)
	for _, s := range w.splices {
		size += len(s.text) - (s.end - s.start)
	}
	out, at := make([]byte, 0, size), 0
	for _, s := range w.splices {
		out = append(append(out, w.body[at:s.start]...), s.text...)
		at = s.end
	}
	return append(out, w.body[at:]...)
}

// value reads the next value, which node says what to do with; a nil node is a value to leave as it is.
func (w *walker) value(n *node) error {
	if n == nil {
		return w.skip()
	}
	if n.leaf {
		start := w.start()
		if err := w.skip(); err != nil {
			return err
		}
		if w.decoder.StackDepth()+n.deep >= maxDepth {
			return errDepth
		}
		w.splices = append(w.splices, splice{start, w.offset(), n.value})
		return nil
	}
	switch w.decoder.PeekKind() {
	case '{':
		return w.object(n)
	case '[':
		return w.array(n)
	case 'n':
		start := w.start()
		if err := w.skip(); err != nil {
			return err
		}
		text, err := n.appendObject(nil, w.decoder.StackDepth())
		w.splices = append(w.splices, splice{start, w.offset(), text})
		return err
	}
	if err := w.skip(); err != nil {
		return err // which says what is wrong if the body ends here, or is no JSON
	}
	return n.errorf("something else than an object stands there")
}

func (w *walker) object(n *node) error {
	if err := w.open(); err != nil {
		return err
	}
	first := w.offset()
	mark := len(w.splices)
	// What is missing goes to the front: its place is known before the members are, and the splices stay in order.
	w.splices = append(w.splices, splice{first, first, nil})
	empty, missing := true, len(n.children)
	seen := make([]bool, len(n.children))
	for w.decoder.PeekKind() != '}' {
		empty = false
		name, err := w.memberName()
		if err != nil {
			return err
		}
		i, ok := n.index[string(name)]
		if !ok {
			if err := w.skip(); err != nil {
				return err
			}
			continue
		}
		seen[i] = true // once: the decoder refuses a second one
		missing--
		if err := w.value(n.children[i]); err != nil {
			return err
		}
	}
	if err := w.token(); err != nil {
		return err
	}
	if missing == 0 {
		return nil
	}
	text, err := n.appendMembers(nil, seen, w.decoder.StackDepth()+1)
	if err != nil {
		return err
	}
	if !empty {
		text = append(text, ',')
	}
	w.splices[mark].text = text
	return nil
}

func (w *walker) array(n *node) error {
	found := 0
	for _, child := range n.children {
		// Only the one spelling that a number has: "01" and "1" would be two edits of one element.
		if i, err := strconv.Atoi(child.name); err != nil || i < 0 || strconv.Itoa(i) != child.name {
			return n.errorf("a list stands where an object is expected")
		}
	}
	if err := w.open(); err != nil {
		return err
	}
	var digits [20]byte
	for i := 0; w.decoder.PeekKind() != ']'; i++ {
		var child *node
		if found < len(n.children) {
			if c, ok := n.index[string(strconv.AppendInt(digits[:0], int64(i), 10))]; ok {
				child = n.children[c]
				found++
			}
		}
		if err := w.value(child); err != nil {
			return err
		}
	}
	if err := w.token(); err != nil {
		return err
	}
	if found < len(n.children) {
		return n.errorf("the list is shorter than that")
	}
	return nil
}

// memberName reads a name and returns it without quotes and escapes, until the next call.
func (w *walker) memberName() ([]byte, error) {
	raw, err := w.decoder.ReadValue()
	if err != nil {
		return nil, fault(err)
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	if w.name, err = jsontext.AppendUnquote(w.name[:0], raw); err != nil {
		return nil, fault(err)
	}
	return w.name, nil
}

// skip reads one value of whatever kind, token by token, as only the decoder's stack knows how deep it is.
func (w *walker) skip() error {
	outside := w.decoder.StackDepth()
	for {
		closes := false
		switch w.decoder.PeekKind() {
		case '}', ']':
			closes = true
		}
		if !closes && w.decoder.StackDepth() >= maxDepth {
			return errDepth
		}
		if err := w.token(); err != nil {
			return err
		}
		if w.decoder.StackDepth() <= outside {
			return nil
		}
	}
}

// open reads a token that begins a value, or is one.
func (w *walker) open() error {
	if w.decoder.StackDepth() >= maxDepth {
		return errDepth
	}
	return w.token()
}

var errDepth = fmt.Errorf("edit the body: nested deeper than %d", maxDepth)

func (w *walker) token() error {
	if _, err := w.decoder.ReadToken(); err != nil {
		return fault(err)
	}
	return nil
}

// offset is where the last token ends.
func (w *walker) offset() int { return int(w.decoder.InputOffset()) }

// start is where the next value begins: behind white space, and the comma or colon before it.
func (w *walker) start() int {
	i := w.offset()
	for i < len(w.body) {
		switch w.body[i] {
		case ' ', '\t', '\r', '\n', ',', ':':
			i++
			continue
		}
		break
	}
	return i
}

// fault says what is wrong with a body without showing any of it: the decoder's errors quote names and characters.
func fault(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("edit the body: it ends too early")
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return errors.New("edit the body: a name stands twice in one object")
	}
	return errors.New("edit the body: not strict JSON")
}
