package manifest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// decoder fills the manifests' types from trees, strictly: a field that the type does not have, a value of another kind
// and a null are problems. It uses reflection, which is fine as it runs at load only.
type decoder struct {
	problems   policy.Problems
	references []policy.Text // names of Secrets and ConfigMaps, in the order of the document
}

// maxHints bounds the problems of an object that are looked at for what was meant: more of them are never shown.
const maxHints = 100

func (d *decoder) add(pos policy.Position, found, want, hint string) {
	d.problems = append(d.problems, policy.Problem{Pos: pos, Found: found, Want: want, Hint: hint})
}

func (d *decoder) mismatch(t policy.Tree, want, hint string) {
	if t.IsNull {
		hint = "leave the field out to take its default"
	}
	d.add(t.Pos, "found "+found(t), want, hint)
}

func (d *decoder) decode(t policy.Tree, into reflect.Value) {
	if into.Kind() == reflect.Pointer { // whatever is given is not nil, be it unread
		if into.IsNil() {
			into.Set(reflect.New(into.Type().Elem()))
		}
		into = into.Elem()
	}
	if _, reported := t.Scalar.(unread); reported {
		return
	}
	if u, ok := into.Addr().Interface().(json.Unmarshaler); ok {
		d.unmarshal(t, u)
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		d.object(t, into)
	case reflect.Slice:
		d.list(t, into)
	case reflect.Map:
		d.dictionary(t, into)
	case reflect.String:
		if s, ok := t.Scalar.(string); ok {
			into.SetString(s)
		} else {
			d.mismatch(t, "a string", scalarHint(t))
		}
	case reflect.Bool:
		if v, ok := t.Scalar.(bool); ok {
			into.SetBool(v)
		} else {
			d.mismatch(t, "true or false", "")
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		if v, ok := t.Scalar.(int64); ok && !into.OverflowInt(v) {
			into.SetInt(v)
		} else {
			d.mismatch(t, "an integer", "")
		}
	case reflect.Interface:
		if v := d.any(t); v != nil {
			into.Set(reflect.ValueOf(v))
		}
	default:
		d.add(t.Pos, "found a field that manifests cannot set", "", "leave it out")
	}
}

func scalarHint(t policy.Tree) string {
	if !t.IsObject && !t.IsList {
		return "put it in quotes"
	}
	return ""
}

// unmarshal is for the types of Kubernetes that read one string: durations and times.
func (d *decoder) unmarshal(t policy.Tree, into json.Unmarshaler) {
	s, ok := t.Scalar.(string)
	want := "a duration such as 30s or 5m"
	if name := reflect.TypeOf(into).Elem().Name(); name != "Duration" {
		want = "a time such as 2026-01-02T15:04:05Z"
	}
	if !ok {
		d.mismatch(t, want, "")
		return
	}
	quoted, err := json.Marshal(s)
	if err == nil {
		err = into.UnmarshalJSON(quoted)
	}
	if err != nil {
		d.add(t.Pos, "found a text of another form", want, "")
	}
}

func (d *decoder) object(t policy.Tree, into reflect.Value) {
	if !t.IsObject {
		d.mismatch(t, "an object", "")
		return
	}
	fields := map[string]reflect.Value{}
	fieldsOf(into, fields)
	for _, m := range t.Members {
		f, ok := fields[m.Name.Text]
		if !ok {
			known := sorted(fields)
			hint := ""
			if spec, ok := fields["spec"]; ok && isField(spec, m.Name.Text) {
				hint = fmt.Sprintf("%s is a field of spec: indent it as the others there", m.Name.Text)
			} else if len(d.problems) < maxHints {
				hint = didYouMean(m.Name.Text, known)
			}
			if hint == "" && len(known) <= 16 {
				hint = "the fields here are " + strings.Join(known, ", ")
			}
			d.add(m.Name.Pos, fmt.Sprintf("found unknown field %q", m.Name.Text), "", hint)
			continue
		}
		d.decode(m.Value, f)
		if name, ok := m.Value.Scalar.(string); ok && m.Name.Text == "name" && isReference(into.Type()) {
			d.references = append(d.references, policy.Text{Text: name, Pos: m.Value.Pos})
		}
	}
}

// isField reports whether a struct has a field of that JSON name.
func isField(of reflect.Value, name string) bool {
	fields := map[string]reflect.Value{}
	if of.Kind() == reflect.Struct {
		fieldsOf(of, fields)
	}
	_, ok := fields[name]
	return ok
}

// fieldsOf collects the fields of a struct by their JSON names, those of inlined structs with them.
func fieldsOf(v reflect.Value, out map[string]reflect.Value) {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch {
		case name == "" && slices.Contains(strings.Split(options, ","), "inline"):
			fieldsOf(v.Field(i), out)
		case name != "" && name != "-":
			out[name] = v.Field(i)
		}
	}
}

func (d *decoder) list(t policy.Tree, into reflect.Value) {
	if into.Type().Elem().Kind() == reflect.Uint8 {
		d.bytes(t, into)
		return
	}
	if !t.IsList {
		hint := ""
		if !t.IsObject && !t.IsNull {
			hint = "put it in brackets: [ ]"
		}
		d.mismatch(t, "a list", hint)
		return
	}
	list := reflect.MakeSlice(into.Type(), len(t.Items), len(t.Items))
	for i, item := range t.Items {
		d.decode(item, list.Index(i))
	}
	into.Set(list)
}

// bytes reads base64, as a Secret's data have it (RFC 4648, section 4).
func (d *decoder) bytes(t policy.Tree, into reflect.Value) {
	s, ok := t.Scalar.(string)
	if !ok {
		d.mismatch(t, "a string in base64", "")
		return
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		d.add(t.Pos, "found a text that is not base64", "base64 with padding", "stringData takes plain text")
		return
	}
	into.SetBytes(b)
}

func (d *decoder) dictionary(t policy.Tree, into reflect.Value) {
	if !t.IsObject {
		d.mismatch(t, "an object", "")
		return
	}
	out := reflect.MakeMapWithSize(into.Type(), len(t.Members))
	for _, m := range t.Members {
		v := reflect.New(into.Type().Elem()).Elem()
		d.decode(m.Value, v)
		out.SetMapIndex(reflect.ValueOf(m.Name.Text), v)
	}
	into.Set(out)
}

// any gives the plain Go value of a tree, as encoding/json would.
func (d *decoder) any(t policy.Tree) any {
	switch {
	case t.IsObject:
		out := make(map[string]any, len(t.Members))
		for _, m := range t.Members {
			out[m.Name.Text] = d.any(m.Value)
		}
		return out
	case t.IsList:
		out := make([]any, len(t.Items))
		for i, item := range t.Items {
			out[i] = d.any(item)
		}
		return out
	}
	if _, reported := t.Scalar.(unread); reported {
		return nil
	}
	return t.Scalar
}
