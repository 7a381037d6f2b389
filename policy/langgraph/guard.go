package langgraph

import (
	"fmt"
	"strings"

	"github.com/usher-authz/usher/policy"
)

func bad(format string, a ...any) error {
	return &policy.Refusal{Outcome: policy.BadRequest, Detail: fmt.Sprintf(format, a...)}
}

func forbidden(format string, a ...any) error {
	return &policy.Refusal{Outcome: policy.Forbidden, Detail: fmt.Sprintf(format, a...)}
}

// uuid accepts an id only in its one canonical form: 8-4-4-4-12 lower-case hexadecimal digits. Python's UUID() takes
// braces, capitals and urn:uuid: for the same object, and the JS server takes capitals for another one: an id that two
// readers understand differently is refused.
func uuid(what, id string) error {
	ok := len(id) == 36
	for i := 0; ok && i < 36; i++ {
		c := id[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			ok = c == '-'
		} else {
			ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		}
	}
	if !ok {
		return bad("Invalid %s: must be a UUID in lower case with hyphens.", what)
	}
	return nil
}

// assistantID accepts a UUID or the name of a graph.
func assistantID(id string) error {
	if uuid("assistant_id", id) == nil {
		return nil
	}
	if id == "" || len(id) > 128 || id[0] == '.' {
		return bad("Invalid assistant_id: must be a UUID or a graph's name.")
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == ' ') {
			return bad("Invalid assistant_id: must be a UUID or a graph's name.")
		}
	}
	// A UUID in another spelling would be another reading of the same assistant: Python drops hyphens anywhere, and takes
	// a space or an underscore among the digits of what remains.
	if hex := strings.Replace(strings.ReplaceAll(strings.ToLower(id), "-", ""), "x", "0", 1); len(hex) == 32 && strings.Trim(hex, "0123456789abcdef _") == "" {
		return bad("Invalid assistant_id: must be a UUID in lower case with hyphens.")
	}
	return nil
}

// object reads a body that must be an object; none is an empty one, as the servers fill in their defaults.
func object(body policy.Value) (map[string]any, error) {
	switch b := body.(type) {
	case nil:
		return map[string]any{}, nil
	case map[string]any:
		return b, nil
	}
	return nil, bad("The body must be a JSON object.")
}

// member reads an object member of a body: null and absent are nil.
func member(body map[string]any, name string) (map[string]any, error) {
	switch v := body[name].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	}
	return nil, bad("%s must be a JSON object.", name)
}

// guard refuses what reaches past the events of the request, wherever the servers read it in this body: thread is the
// id in the path, or "".
//
//   - langgraph_auth_* under config.configurable or context: without an Auth class the servers hand a client's own
//     langgraph_auth_user to the graph.
//   - x-* there: the servers copy the headers of that name to config.configurable, the identity headers among them, and a
//     graph could not tell which is which.
//   - a webhook that the policy does not list: the server itself would call it, past the gate; a relative one, or one that
//     resolves to the backend, acts on anybody's objects (PYSEC-2026-3857).
//   - a thread_id inside a checkpoint or config that is not the path's: both servers spread it over the path's own id.
//   - a member __proto__ where servers merge objects: JavaScript's Object.assign makes its value the prototype of the
//     result, in which every name of it can then be read.
func (a *api) guard(body map[string]any, thread string) error {
	config, err := member(body, "config")
	if err != nil {
		return err
	}
	configurable, err := member(config, "configurable")
	if err != nil {
		return err
	}
	runContext, err := member(body, "context")
	if err != nil {
		return err
	}
	// The servers spread a checkpoint over config.configurable, so all of these are one.
	places := []map[string]any{configurable, runContext}
	for _, name := range []string{"checkpoint", "before"} {
		switch checkpoint := body[name].(type) {
		case nil, string:
		case map[string]any:
			inner, err := member(checkpoint, "configurable")
			if err != nil {
				return err
			}
			places = append(places, checkpoint, inner)
		default:
			return bad("%s must be a JSON object or a string.", name)
		}
	}
	for i, place := range places {
		for name := range place {
			if strings.HasPrefix(name, "langgraph_auth_") {
				return forbidden("A request may not set langgraph_auth_* values.")
			}
			if len(name) > 1 && (name[0] == 'x' || name[0] == 'X') && (name[1] == '-' || name[1] == '_') {
				return forbidden("A request may not set x-* values: the identity headers stand there.")
			}
		}
		if prototype(place) {
			return forbidden("A request may not set __proto__.")
		}
		if id, ok := place["thread_id"]; i != 1 && ok && id != nil && (thread == "" || id != any(thread)) {
			return forbidden("The body names another thread than the path.")
		}
	}
	md, err := member(body, "metadata")
	if err != nil {
		return err
	}
	if prototype(body) || prototype(config) || prototype(md) {
		return forbidden("A request may not set __proto__.")
	}
	return a.checkWebhook(body["webhook"])
}

// guarded reads a body that must be an object, and has it guarded.
func (a *api) guarded(in policy.Input, thread string) (map[string]any, error) {
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	return body, a.guard(body, thread)
}

// threadMetadata reads the metadata that becomes a thread's. It refuses the member that the Python server acts on:
// input.respond of protocol v2 runs the assistant that it names, whoever's that is. The servers write it themselves.
func threadMetadata(body map[string]any) (map[string]any, error) {
	return metadataWithout(body, "assistant_id")
}

// assistantMetadata reads the metadata that becomes an assistant's. It refuses the mark of those that the server made,
// which everybody may run.
func assistantMetadata(body map[string]any) (map[string]any, error) {
	return metadataWithout(body, "created_by")
}

func metadataWithout(body map[string]any, mark string) (map[string]any, error) {
	md, err := member(body, "metadata")
	if err != nil {
		return nil, err
	}
	if _, ok := md[mark]; ok {
		return nil, forbidden("%s in metadata is the server's own mark.", mark)
	}
	return md, nil
}

func prototype(object map[string]any) bool {
	_, ok := object["__proto__"]
	return ok
}
