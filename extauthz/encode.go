package extauthz

import (
	"slices"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/usher-authz/usher/policy"
)

// response is a CheckResponse, as far as Usher ever fills one. The zero response must not be sent: it lets the request pass.
type response struct {
	code     codes.Code        // of the status; Envoy lets a request pass with OK only
	status   typev3.StatusCode // of a denial, for the client
	headers  []policy.Header   // for the backend; of a denial for the client
	remove   []string          // headers of the request
	toClient []policy.Header   // headers of the backend's answer
	body     string            // of a denial
	metadata *structpb.Struct
}

// encode writes the response in protobuf's wire format. It is not ok where a text is not UTF-8, which a string must be.
func (r *response) encode() (encoded []byte, ok bool) {
	size := r.bound()
	w := writer{buffer: make([]byte, size), left: size, ok: true}

	// envoy.service.auth.v3.CheckResponse
	if r.metadata != nil {
		w.message(4, r.metadata)
	}
	end := w.left
	if r.code == codes.OK { // OkHttpResponse
		w.headers(6, r.toClient)
		for _, name := range slices.Backward(r.remove) {
			w.text(5, name)
		}
		w.headers(2, r.headers)
		w.wrap(3, end)
	} else { // DeniedHttpResponse
		w.some(3, r.body)
		w.headers(2, r.headers)
		status := w.left
		w.number(1, uint64(r.status)) // envoy.type.v3.HttpStatus
		w.wrap(1, status)
		w.wrap(2, end)
	}
	end = w.left
	w.number(1, uint64(r.code)) // google.rpc.Status
	w.wrap(1, end)
	return w.buffer[w.left:], w.ok
}

// bound is how many bytes the response takes at most.
func (r *response) bound() int {
	const status = 8 // numbers, with their tags and lengths
	size := 2*status + field(len(r.body))
	for _, list := range [2][]policy.Header{r.headers, r.toClient} {
		for _, h := range list {
			const action = 2
			size += field(field(field(len(h.Name))+field(len(h.Value))) + action)
		}
	}
	for _, name := range r.remove {
		size += field(len(name))
	}
	size = field(size)
	if r.metadata != nil {
		size += field(proto.Size(r.metadata))
	}
	return size
}

// field is how many bytes a field takes at most whose content takes n: a tag, and its length.
func field(n int) int {
	if n < 0x80 {
		return n + 2
	}
	return n + 6 // of less than 32 GiB
}

// readResponse has the generated code read an encoded response. Of one that it cannot read it makes a denial, as an empty
// CheckResponse would let the request pass.
func readResponse(encoded []byte) *authv3.CheckResponse {
	r := &authv3.CheckResponse{}
	if err := proto.Unmarshal(encoded, r); err != nil || len(encoded) == 0 {
		return &authv3.CheckResponse{
			Status:       &rpcstatus.Status{Code: int32(codes.Unavailable)},
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable}}},
		}
	}
	return r
}

// writer writes a message from its end to its beginning, fields and their parts in reverse order: so the length that stands
// before a message in another is known when it is written (https://protobuf.dev/programming-guides/encoding/). Its buffer
// must be large enough.
type writer struct {
	buffer []byte
	left   int // so many bytes at the beginning of the buffer are free
	ok     bool
}

// varint writes a number without a tag.
func (w *writer) varint(v uint64) {
	if v < 0x80 {
		w.left--
		w.buffer[w.left] = byte(v)
		return
	}
	w.left -= protowire.SizeVarint(v)
	protowire.AppendVarint(w.buffer[:w.left], v)
}

func (w *writer) tag(field protowire.Number, t protowire.Type) {
	w.varint(protowire.EncodeTag(field, t))
}

// number writes a field with a number, if it is not 0 (as proto3 has it).
func (w *writer) number(field protowire.Number, v uint64) {
	if v != 0 {
		w.varint(v)
		w.tag(field, protowire.VarintType)
	}
}

// wrap makes what was written since that many bytes were free the content of a field.
func (w *writer) wrap(field protowire.Number, free int) {
	w.varint(uint64(free - w.left))
	w.tag(field, protowire.BytesType)
}

// text writes a field with a string.
func (w *writer) text(field protowire.Number, s string) {
	w.ok = w.ok && utf8.ValidString(s)
	end := w.left
	w.left -= len(s)
	copy(w.buffer[w.left:], s)
	w.wrap(field, end)
}

// some writes a field with a string, if it is not empty.
func (w *writer) some(field protowire.Number, s string) {
	if s != "" {
		w.text(field, s)
	}
}

// message writes a field with a message that the generated code encodes.
func (w *writer) message(field protowire.Number, m proto.Message) {
	end := w.left
	w.left -= proto.Size(m)
	out, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(w.buffer[w.left:w.left], m)
	w.ok = w.ok && err == nil && len(out) == end-w.left
	w.wrap(field, end)
}

// headers writes a repeated field of HeaderValueOption. Every header is set with OVERWRITE_IF_EXISTS_OR_ADD, as Envoy 1.37.0
// appended where the action was left unset (envoy issue 43310).
func (w *writer) headers(field protowire.Number, list []policy.Header) {
	for _, h := range slices.Backward(list) {
		option := w.left
		w.number(3, uint64(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
		value := w.left
		w.some(2, h.Value)
		w.some(1, h.Name)
		w.wrap(1, value)
		w.wrap(field, option)
	}
}
