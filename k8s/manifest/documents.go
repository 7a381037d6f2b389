package manifest

import (
	"slices"
	"sync"

	"github.com/usher-authz/usher/policy"
)

// documents are the OpenAPI documents that were read, by their text: a large one belongs to policies of 150 bytes, and nobody's
// change should wait until it is read again for each of them. It keeps those that were asked for since the last call of next. It is
// safe for concurrent use.
type documents struct {
	mu           sync.Mutex
	now, earlier map[documentText]document
	reads        int // how many were read
}

type documentText struct {
	text   string
	secret bool
}

type document struct {
	object   Object
	problems policy.Problems
}

// next forgets what was not asked for since it was called last.
func (d *documents) next() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now, d.earlier = map[documentText]document{}, d.now
}

// find returns a document that was read before, which nobody may change.
func (d *documents) find(t inner) (document, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := documentText{t.text, t.secret}
	if known, ok := d.now[key]; ok {
		return known, true
	}
	known, ok := d.earlier[key]
	return known, ok
}

// look returns the document as it is known, or reads it. It keeps nothing: what is only looked at, anybody may have sent.
func (d *documents) look(t inner) (Object, policy.Problems) {
	if known, ok := d.find(t); ok {
		return known.object, known.problems
	}
	return t.document()
}

// read is look that keeps the document.
func (d *documents) read(t inner) (Object, policy.Problems) {
	known, ok := d.find(t)
	if !ok {
		known.object, known.problems = t.document()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now == nil {
		d.now = map[documentText]document{}
	}
	if !ok {
		d.reads++
	}
	d.now[documentText{t.text, t.secret}] = known
	return known.object, known.problems
}

// inFile returns a document and its problems as those of another file.
func inFile(o Object, problems policy.Problems, file string) (Object, policy.Problems) {
	o.Pos.File = file
	o.tree = treeIn(o.tree, file)
	problems = slices.Clone(problems)
	for i := range problems {
		problems[i].Pos.File = file
	}
	return o, problems
}

func treeIn(t policy.Tree, file string) policy.Tree {
	t.Pos.File = file
	t.Items, t.Members = slices.Clone(t.Items), slices.Clone(t.Members)
	for i := range t.Items {
		t.Items[i] = treeIn(t.Items[i], file)
	}
	for i := range t.Members {
		t.Members[i].Name.Pos.File = file
		t.Members[i].Value = treeIn(t.Members[i].Value, file)
	}
	return t
}
