package extauthz

import "unicode/utf8"

// A tag is a field's number and its wire type (https://protobuf.dev/programming-guides/encoding/#structure). All that are
// known here take one byte.
const (
	varint = 0 // numbers
	sized  = 2 // LEN: text, bytes, messages
)

// nextField takes a field off a message that is not empty: its tag, its content if it is sized, and what follows. It is not
// ok where the message is cut short, and for whatever the generated decoder must look at.
func nextField(s string) (tag byte, content, rest string, ok bool) {
	tag, s = s[0], s[1:]
	if tag >= 0x80 {
		return 0, "", "", false
	}
	switch tag & 7 {
	case varint:
		for i := 0; i < len(s) && i < 10; i++ {
			if s[i] < 0x80 {
				return tag, "", s[i+1:], i < 9 || s[i] <= 1 // the tenth byte holds the last of 64 bits
			}
		}
	case sized:
		size := 0
		for i := 0; i < len(s) && i < 4; i++ {
			size |= int(s[i]&0x7f) << (7 * i)
			if s[i] >= 0x80 {
				continue
			}
			s = s[i+1:]
			if size > len(s) {
				return 0, "", "", false
			}
			return tag, s[:size], s[size:], true
		}
	}
	return 0, "", "", false
}

// eachField calls f with every field of a message, and reports whether all could be read.
func eachField(s string, f func(tag byte, content string) bool) bool {
	for s != "" {
		tag, content, rest, ok := nextField(s)
		if !ok || !f(tag, content) {
			return false
		}
		s = rest
	}
	return true
}

// first reports whether a message is the first one in its field: another would have to be merged into it.
func first(seen *bool) bool {
	before := *seen
	*seen = true
	return !before
}

// takeText takes a string, which must be UTF-8. Of several the last one counts.
func takeText(to *string, content string) bool {
	*to = content
	return utf8.ValidString(content)
}

// What follows reads one message each, its fields by their numbers in the .proto files of Envoy's API.

// check reads envoy.service.auth.v3.CheckRequest.
func (m *message) check(s string) bool {
	var attributes bool
	return eachField(s, func(tag byte, content string) bool {
		return tag == 1<<3|sized && first(&attributes) && m.attributes(content)
	})
}

// attributes reads envoy.service.auth.v3.AttributeContext.
func (m *message) attributes(s string) bool {
	var source, destination, request, session bool
	return eachField(s, func(tag byte, content string) bool {
		switch tag {
		case 1<<3 | sized:
			return first(&source) && readPeer(content, &m.source, &m.certificateText)
		case 2<<3 | sized:
			var address, certificate string
			return first(&destination) && readPeer(content, &address, &certificate)
		case 4<<3 | sized:
			return first(&request) && m.request(content)
		case 10<<3 | sized: // context_extensions
			name, value, ok := readEntry(content)
			switch {
			case !ok:
			case name == "policy":
				m.policy = value
			case name == "body":
				m.unsent = value != "sent" // a misspelt one too
			}
			return ok
		case 11<<3 | sized, 13<<3 | sized: // metadata_context, route_metadata_context: Envoy writes them though they are empty
			return content == ""
		case 12<<3 | sized:
			return first(&session) && readSession(content)
		}
		return false
	})
}

// readPeer reads AttributeContext.Peer.
func readPeer(s string, socket, certificate *string) bool {
	var address bool
	var ignored string
	return eachField(s, func(tag byte, content string) bool {
		switch tag {
		case 1<<3 | sized:
			return first(&address) && readAddress(content, socket)
		case 2<<3 | sized, 4<<3 | sized: // service, principal
			return takeText(&ignored, content)
		case 5<<3 | sized:
			return takeText(certificate, content)
		}
		return false
	})
}

// readAddress reads envoy.config.core.v3.Address with a socket_address, and the address in that.
func readAddress(s string, to *string) bool {
	var socket bool
	var ignored string
	return eachField(s, func(tag byte, content string) bool {
		return tag == 1<<3|sized && first(&socket) && eachField(content, func(tag byte, content string) bool {
			switch tag {
			case 1<<3 | varint, 3<<3 | varint, 6<<3 | varint: // protocol, port_value, ipv4_compat
				return true
			case 2<<3 | sized:
				return takeText(to, content)
			case 4<<3 | sized, 5<<3 | sized, 7<<3 | sized: // named_port, resolver_name, network_namespace_filepath
				return takeText(&ignored, content)
			}
			return false
		})
	})
}

// readSession reads AttributeContext.TLSSession.
func readSession(s string) bool {
	var sni string
	return eachField(s, func(tag byte, content string) bool { return tag == 1<<3|sized && takeText(&sni, content) })
}

// request reads AttributeContext.Request.
func (m *message) request(s string) bool {
	var time bool
	return eachField(s, func(tag byte, content string) bool {
		switch tag {
		case 1<<3 | sized: // google.protobuf.Timestamp
			return first(&time) && eachField(content, func(tag byte, _ string) bool { return tag == 1<<3|varint || tag == 2<<3|varint })
		case 2<<3 | sized:
			return first(&m.http) && m.httpRequest(content)
		}
		return false
	})
}

// httpRequest reads AttributeContext.HttpRequest.
func (m *message) httpRequest(s string) bool {
	var ignored string
	var list bool
	return eachField(s, func(tag byte, content string) bool {
		switch tag {
		case 1<<3 | sized, 7<<3 | sized, 8<<3 | sized, 10<<3 | sized: // id, query, fragment, protocol
			return takeText(&ignored, content)
		case 2<<3 | sized:
			return takeText(&m.method, content)
		case 3<<3 | sized: // headers
			name, value, ok := readEntry(content)
			if ok {
				m.headers.join(name, value)
			}
			return ok
		case 4<<3 | sized:
			return takeText(&m.target, content)
		case 5<<3 | sized:
			return takeText(&m.authority, content)
		case 6<<3 | sized:
			return takeText(&m.scheme, content)
		case 9<<3 | varint: // size
			return true
		case 11<<3 | sized:
			return takeText(&m.bodyText, content)
		case 12<<3 | sized:
			m.rawBody = content
			return true
		case 13<<3 | sized: // header_map
			m.headers.list = content
			return first(&list) && eachHeader(content, m.headers.note)
		}
		return false
	})
}

// readEntry reads an entry of a map of strings. Of several with the same name the last one counts.
func readEntry(s string) (name, value string, ok bool) {
	ok = eachField(s, func(tag byte, content string) bool {
		switch tag {
		case 1<<3 | sized:
			return takeText(&name, content)
		case 2<<3 | sized:
			return takeText(&value, content)
		}
		return false
	})
	return name, value, ok
}

// eachHeader reads envoy.config.core.v3.HeaderMap, and calls f for each of its headers in their order.
func eachHeader(s string, f func(name, value string)) bool {
	return eachField(s, func(tag byte, content string) bool {
		if tag != 1<<3|sized {
			return false
		}
		var name, value, raw string
		ok := eachField(content, func(tag byte, content string) bool {
			switch tag {
			case 1<<3 | sized:
				return takeText(&name, content)
			case 2<<3 | sized:
				return takeText(&value, content)
			case 3<<3 | sized:
				raw = content
				return true
			}
			return false
		})
		if raw != "" {
			value = raw
		}
		if ok {
			f(name, value)
		}
		return ok
	})
}
