package attacktest

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
)

// backend answers look-ups as a LangGraph server does, from the environment's objects: the id, then the metadata, then
// what a thread may have much of.
func (w *World) backend(request *http.Request) reply {
	missing := reply{status: http.StatusNotFound, body: []byte(`{"detail":"Not Found"}`)}
	if request.Method != http.MethodGet {
		w.oddity("%s at the backend", request.Method)
		return missing
	}
	objects := w.lab.suite.Environment.BackendObjects
	segments := strings.Split(strings.TrimPrefix(request.URL.Path, "/"), "/")
	switch {
	case len(segments) == 2 && segments[0] == "threads":
		id, ok := pythonUUID(segments[1])
		metadata, known := objects.Threads[id]
		if !ok || !known {
			return missing
		}
		return w.object("thread_id", id, metadata, `"status":"idle","values":{}`)
	case len(segments) == 2 && segments[0] == "assistants":
		id, ok := pythonUUID(segments[1])
		if !ok {
			id = segments[1] // a graph's name
		}
		metadata, known := objects.Assistants[id]
		if !known {
			return missing
		}
		return w.object("assistant_id", id, metadata, `"graph_id":"agent","config":{}`)
	case len(segments) == 4 && segments[0] == "threads" && segments[2] == "runs":
		thread, ok := pythonUUID(segments[1])
		if !ok {
			return missing
		}
		id, ok := pythonUUID(segments[3])
		run, known := objects.Runs[id]
		if !ok || !known || run.Thread != thread {
			return missing
		}
		return w.object("run_id", id, objects.Threads[run.Thread], fmt.Sprintf(`"thread_id":%s`, quoted(run.Thread)))
	}
	return missing
}

func (w *World) object(name, id string, metadata Value, rest string) reply {
	text, err := w.lab.json(metadata)
	if err != nil || metadata.absent() {
		text = []byte("{}")
	}
	return reply{body: fmt.Appendf(nil, `{%s:%s,"metadata":%s,%s}`, quoted(name), quoted(id), text, rest)}
}

// pythonUUID reads an id as Python's uuid.UUID does, which is more than the one form it has: any case, braces, urn:uuid:
// before it, hyphens anywhere or nowhere. It returns the form with hyphens.
func pythonUUID(s string) (string, bool) {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "urn:", ""), "uuid:", "")
	s = strings.ReplaceAll(strings.Trim(s, "{}"), "-", "")
	b, err := hex.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != 16 {
		return "", false
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), true
}
