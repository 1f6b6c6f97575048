package main

import "encoding/binary"

const (
	suiteXW   = 0x0001
	suiteP256 = 0x8002
	suiteRSA  = 0x8003
)

// stanza is the data key, wrapped for one recipient.
type stanza struct {
	suite uint16
	kid   []byte
	body  []byte
}

// parseStanza reads the stanza that b begins with, and returns the bytes after it.
func parseStanza(b []byte) (stanza, []byte, error) {
	fixed, rest, err := cut(b, 20)
	if err != nil {
		return stanza{}, nil, err
	}
	s := stanza{suite: binary.BigEndian.Uint16(fixed), kid: fixed[2:18]}
	s.body, rest, err = cut(rest, int(binary.BigEndian.Uint16(fixed[18:])))
	if err != nil || !bodyLength(s.suite, len(s.body)) {
		return stanza{}, nil, malformed
	}
	return s, rest, nil
}

// bodyLength reports whether a body of n bytes is well-formed.
func bodyLength(suite uint16, n int) bool {
	switch suite {
	case suiteXW:
		return n == 1120+48
	case suiteP256:
		return n == 65+48
	case suiteRSA:
		return 256 <= n && n <= 1024
	default:
		return true
	}
}

func (s stanza) bytes() []byte {
	return join(u16(s.suite), s.kid, u16(uint16(len(s.body))), s.body)
}

func (s stanza) known() bool {
	return s.suite == suiteXW || s.suite == suiteP256 || s.suite == suiteRSA
}

func classical(suite uint16) bool { return suite&0x8000 != 0 }
