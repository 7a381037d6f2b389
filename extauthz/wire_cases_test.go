package extauthz

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The parts that messages are made of.
func part(number int, content string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, protowire.Number(number), protowire.BytesType), content))
}

func numeral(number int, v uint64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, protowire.Number(number), protowire.VarintType), v))
}

// inHTTP is a CheckRequest whose HttpRequest has the content.
func inHTTP(content string) string { return part(1, part(4, part(2, content))) }

// fromEnvoy is a check with all that Envoy 1.40 fills in with encode_raw_headers, include_peer_certificate,
// include_tls_session and pack_as_bytes.
func fromEnvoy() string {
	c := check("token")
	a := c.Attributes
	peer := func(address string, port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{
			Address:   &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}},
			Principal: "spiffe://cluster.local/ns/a/sa/b", Service: "frontend", Certificate: "-----BEGIN%20CERTIFICATE-----",
		}
	}
	a.Source, a.Destination = peer("203.0.113.9", 51514), peer("10.0.0.7", 8443)
	a.Request.Time = &timestamppb.Timestamp{Seconds: 1700000000, Nanos: 5}
	a.Request.Http.Size, a.Request.Http.RawBody = -1, []byte("\xff{}")
	a.ContextExtensions = map[string]string{"policy": "api", "body": "unsent", "other": "x"}
	a.MetadataContext, a.RouteMetadataContext = &corev3.Metadata{}, &corev3.Metadata{}
	a.TlsSession = &authv3.AttributeContext_TLSSession{Sni: "api.test"}
	return wireText(c)
}

// nasty are encodings that a reader could read in a way of its own.
var nasty = map[string]string{
	"nothing":                     "",
	"no attributes' content":      part(1, ""),
	"no request":                  part(1, part(1, "")),
	"an empty HTTP request":       inHTTP(""),
	"attributes twice":            part(1, part(4, part(2, part(2, "GET")))) + part(1, part(4, part(2, part(4, "/a")))),
	"request twice":               part(1, part(4, part(2, part(2, "GET")))+part(4, part(2, part(4, "/a")))),
	"HTTP twice":                  part(1, part(4, part(2, part(2, "GET")+part(4, "/a"))+part(2, part(4, "/b")))),
	"HTTP twice, with headers":    part(1, part(4, part(2, part(13, part(1, part(1, "a")+part(3, "1"))))+part(2, part(13, part(1, part(1, "b")+part(3, "2")))))),
	"request twice, with headers": part(1, part(4, part(2, part(13, part(1, part(1, "a")+part(3, "1")))))+part(4, part(2, part(13, part(1, part(1, "b")+part(3, "2")))))),
	"header_map twice":            inHTTP(part(13, part(1, part(1, "a")+part(3, "1"))) + part(13, part(1, part(1, "b")+part(3, "2")))),
	"source twice":                part(1, part(1, part(5, "first")+part(1, part(1, part(2, "192.0.2.1"))))+part(1, part(5, "second"))+part(4, part(2, part(2, "GET")))),
	"address twice":               part(1, part(1, part(1, part(1, part(2, "192.0.2.1")))+part(1, part(1, part(3, "x"))))),
	"socket_address twice":        part(1, part(1, part(1, part(1, part(2, "192.0.2.1"))+part(1, numeral(3, 80))))),
	"a pipe after a socket":       part(1, part(1, part(1, part(1, part(2, "192.0.2.1"))+part(2, part(1, "/run/x"))))),
	"a socket after a pipe":       part(1, part(1, part(1, part(2, part(1, "/run/x"))+part(1, part(2, "192.0.2.1"))))),
	"socket, pipe, socket":        part(1, part(1, part(1, part(1, part(2, "192.0.2.1"))+part(2, "")+part(1, numeral(3, 80))))),
	"a pipe":                      part(1, part(1, part(1, part(2, part(1, "/run/x"))))),
	"an internal address":         part(1, part(1, part(1, part(3, part(1, "listener")+part(2, "id"))))),
	"labels":                      part(1, part(1, part(3, part(1, "a")+part(2, "b")))),
	"method twice":                inHTTP(part(2, "GET") + part(2, "POST")),
	"method, then none":           inHTTP(part(2, "GET") + part(2, "")),
	"path twice":                  inHTTP(part(4, "/a") + part(4, "/b")),
	"both bodies":                 inHTTP(part(11, "a") + part(12, "b")),
	"raw_body that is not UTF-8":  inHTTP(part(12, "\xff\xfe")),
	"body that is not UTF-8":      inHTTP(part(11, "\xff\xfe")),
	"bad UTF-8, then good":        inHTTP(part(4, "\xff") + part(4, "/a")),
	"a surrogate":                 inHTTP(part(4, "/\xed\xa0\x80")),
	"an overlong slash":           inHTTP(part(4, "/\xc0\xaf")),
	"NUL":                         inHTTP(part(4, "/\x00")),
	"a header that is not UTF-8":  inHTTP(part(13, part(1, part(1, "a\xff")+part(3, "1")))),
	"a value that is not UTF-8":   inHTTP(part(13, part(1, part(1, "a")+part(2, "\xff")))),
	"a raw value of any bytes":    inHTTP(part(13, part(1, part(1, "a")+part(3, "\xff")))),
	"an ignored text of no UTF-8": part(1, part(2, part(4, "\xff"))) +
		part(1, part(12, part(1, "\xff"))),
	"a principal of no UTF-8":      part(1, part(1, part(4, "\xff"))),
	"an id of no UTF-8":            inHTTP(part(1, "\xff")),
	"a resolver of no UTF-8":       part(1, part(1, part(1, part(1, part(5, "\xff"))))),
	"an entry of no UTF-8":         part(1, part(10, part(1, "\xff")+part(2, "a"))),
	"value and raw value":          inHTTP(part(13, part(1, part(1, "authorization")+part(2, "Bearer a")+part(3, "Bearer b")))),
	"raw value, then an empty one": inHTTP(part(13, part(1, part(1, "authorization")+part(2, "Bearer a")+part(3, "Bearer b")+part(3, "")))),
	"a header's name twice":        inHTTP(part(13, part(1, part(1, "x")+part(3, "Bearer b")+part(1, "authorization")))),
	"two authorizations":           inHTTP(part(13, part(1, part(1, "authorization")+part(3, "Bearer a"))+part(1, part(1, "Authorization")+part(3, "Bearer b")))),
	"an empty header":              inHTTP(part(13, part(1, ""))),
	"both forms of headers":        inHTTP(part(3, part(1, "a")+part(2, "b")) + part(13, part(1, part(1, "a")+part(3, "c")))),
	"an entry without a name":      inHTTP(part(3, part(2, "b"))),
	"an entry without a value":     inHTTP(part(3, part(1, "a"))),
	"an empty entry":               inHTTP(part(3, "")),
	"an entry's value first":       inHTTP(part(3, part(2, "b")+part(1, "a"))),
	"an entry's name twice":        inHTTP(part(3, part(1, "a")+part(1, "b")+part(2, "c"))),
	"a name in two entries":        inHTTP(part(3, part(1, "a")+part(2, "1")) + part(3, part(1, "a")+part(2, "2"))),
	"a name, then without a value": inHTTP(part(3, part(1, "a")+part(2, "1")) + part(3, part(1, "a"))),
	"a policy in two entries":      part(1, part(10, part(1, "policy")+part(2, "a"))+part(10, part(1, "policy")+part(2, "b"))),
	"a body in two entries":        part(1, part(10, part(1, "body")+part(2, "unsent"))+part(10, part(1, "body")+part(2, "sent"))),
	"an unknown field in an entry": inHTTP(part(3, part(1, "a")+part(2, "1")+part(9, "x"))),
	"a number for an entry's name": inHTTP(part(3, numeral(1, 7)+part(2, "1"))),
	"field 0 in an entry":          inHTTP(part(3, "\x02\x00")),
	"an unknown field":             inHTTP(part(2, "GET") + part(99, "x")),
	"an unknown number":            inHTTP(part(2, "GET") + numeral(15, 1)),
	"an unknown fixed32":           inHTTP("\x7d\x01\x02\x03\x04"),
	"an unknown fixed32, cut":      inHTTP("\x7d\x01\x02\x03"),
	"an unknown fixed64":           inHTTP("\x79\x01\x02\x03\x04\x05\x06\x07\x08"),
	"an unknown group":             inHTTP("\x7b" + part(1, "x") + "\x7c" + part(2, "GET")),
	"a group without an end":       inHTTP("\x7b" + part(1, "x")),
	"another group's end":          inHTTP("\x7b\x84\x01"),
	"an end without a group":       inHTTP("\x7c"),
	"groups in groups":             inHTTP(strings.Repeat("\x7b", 50) + strings.Repeat("\x7c", 50)),
	"too many groups in groups":    inHTTP(strings.Repeat("\x7b", 20000) + strings.Repeat("\x7c", 20000)),
	"a number for a method":        inHTTP(numeral(2, 7)),
	"text for a size":              inHTTP(part(9, "x")),
	"fixed32 for a path":           inHTTP("\x25\x01\x02\x03\x04"),
	"a group for a path":           inHTTP("\x23\x24"),
	"a number for an HTTP request": part(1, part(4, numeral(2, 1))),
	"a wire type that is none":     inHTTP("\x16\x01"),
	"another one":                  inHTTP("\x17\x01"),
	"field 0":                      inHTTP("\x02\x00"),
	"field 0 at the top":           "\x00",
	"the largest field":            inHTTP(string(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType)) + "\x01"),
	"a larger field":               inHTTP("\x80\x80\x80\x80\x10\x01"),
	"a tag in two bytes":           inHTTP("\x92\x00\x03GET"),
	"a tag in ten bytes":           inHTTP("\x92\x80\x80\x80\x80\x80\x80\x80\x80\x00\x03GET"),
	"a tag in eleven bytes":        inHTTP("\x92\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x03GET"),
	"a length in two bytes":        inHTTP("\x12\x83\x00GET"),
	"a length in five bytes":       inHTTP("\x12\x83\x80\x80\x80\x00GET"),
	"a length in ten bytes":        inHTTP("\x12\x83\x80\x80\x80\x80\x80\x80\x80\x80\x00GET"),
	"a length beyond ten bytes":    inHTTP("\x12\x83\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00GET"),
	"a length of 2^63":             inHTTP("\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01GET"),
	"a length of 2^64-1":           inHTTP("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01GET"),
	"a length of 2^28":             inHTTP("\x12\x80\x80\x80\x80\x01GET"),
	"a length beyond the end":      inHTTP("\x12\x04GET"),
	"a length beyond its message":  part(1, part(4, "\x12\x03\x12\x03GET")),
	"a tag at the end":             inHTTP("\x12"),
	"half a length":                inHTTP("\x12\x80"),
	"half a tag":                   inHTTP("\x92"),
	"half a number":                inHTTP("\x48\x80"),
	"a number of ten bytes":        inHTTP("\x48\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	"a number beyond 64 bits":      inHTTP("\x48\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
	"a number of eleven bytes":     inHTTP("\x48\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00"),
	"a time":                       part(1, part(4, part(1, numeral(1, 1700000000)+numeral(2, 5))+part(2, part(2, "GET")))),
	"a time that is none":          part(1, part(4, part(1, part(1, "x")+"\x12")+part(2, part(2, "GET")))),
	"metadata":                     part(1, part(11, part(1, part(1, "ns")+part(2, part(1, part(1, "a")+part(2, part(3, "b"))))))),
	"metadata that is none":        part(1, part(11, part(1, part(1, "ns")+part(2, "\x0a\x05")))),
	"metadata of no UTF-8":         part(1, part(11, part(1, part(1, "\xff")))),
	"route metadata":               part(1, part(13, part(2, part(1, "ns")+part(2, part(1, "type")+part(2, "\xff"))))),
	"deep metadata":                part(1, part(11, part(1, part(2, deep(60))))),
	"metadata too deep":            part(1, part(11, part(1, part(2, deep(4000))))),
}

// deep is a google.protobuf.Struct with that many others in it.
func deep(n int) string {
	s := ""
	for range n {
		s = part(1, part(2, part(5, s)))
	}
	return s
}

// grammar is what the messages of a check may hold: for each field the name of what it holds.
var grammar = map[string]map[int]string{
	"check":      {1: "attributes"},
	"attributes": {1: "peer", 2: "peer", 4: "request", 10: "entry", 11: "metadata", 12: "session", 13: "metadata"},
	"peer":       {1: "address", 2: "text", 3: "entry", 4: "text", 5: "text"},
	"address":    {1: "socket", 2: "pipe", 3: "internal"},
	"socket":     {1: "number", 2: "text", 3: "number", 4: "text", 5: "text", 6: "number", 7: "text"},
	"pipe":       {1: "text", 2: "number"},
	"internal":   {1: "text", 2: "text"},
	"session":    {1: "text"},
	"request":    {1: "time", 2: "http"},
	"time":       {1: "number", 2: "number"},
	"http": {1: "text", 2: "text", 3: "entry", 4: "text", 5: "text", 6: "text", 7: "text", 8: "text", 9: "number", 10: "text",
		11: "text", 12: "text", 13: "headers"},
	"headers":  {1: "header"},
	"header":   {1: "text", 2: "text", 3: "text"},
	"entry":    {1: "text", 2: "text"},
	"metadata": {1: "any entry", 2: "any entry"},
}

// entropy makes up messages by the grammar, and not quite by it, of the bytes that it is made of.
type entropy []byte

func (e *entropy) below(n int) int {
	if len(*e) == 0 {
		return 0
	}
	b := (*e)[0]
	*e = (*e)[1:]
	return int(b) % n
}

// message makes up the content of a message.
func (e *entropy) message(kind string) string {
	fields, out := grammar[kind], ""
	for range e.below(5) {
		number := 1 + e.below(13)
		for fields[number] == "" && e.below(40) > 0 {
			number = number%13 + 1
			if len(*e) == 0 {
				return out
			}
		}
		out += e.field(number, fields[number])
	}
	return out
}

// field makes up a field, mostly of the kind that it has.
func (e *entropy) field(number int, kind string) string {
	switch e.below(60) {
	case 1:
		return numeral(number, uint64(e.below(256)))
	case 2:
		return part(number, "\xff")
	case 3:
		return string(protowire.AppendTag(nil, protowire.Number(number), protowire.Type(e.below(8))))
	case 4:
		return part(1000*number, "x")
	}
	texts := []string{"", "a", "policy", "body", "unsent", "sent", "GET", "/a", "authorization", "dpop", "x-request-id", "Content-Length", "é", "\xff"}
	switch kind {
	case "number":
		return numeral(number, 1<<(e.below(64))-1)
	case "text", "":
		return part(number, texts[e.below(len(texts))])
	case "any entry":
		return part(number, part(1, texts[e.below(len(texts))])+part(2, e.message("metadata")))
	}
	return part(number, e.message(kind))
}
