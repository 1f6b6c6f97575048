package main

import "strings"

// entry reads one entry, whose name and the beginning of whose value determine its kind.
func (p *parser) entry(name, value string) error {
	switch {
	case strings.HasPrefix(name, "/"):
		return p.lockEntry(name, value)
	case strings.HasPrefix(value, prefix+"s."):
		return p.shortEntry(name, value)
	case strings.HasPrefix(value, prefix):
		return p.inlineEntry(name, value)
	default:
		p.object.v1 = append(p.object.v1, name)
		return nil
	}
}

// lockEntry reads a header or a stanza of a shared lock.
func (p *parser) lockEntry(name, value string) error {
	ids := strings.Split(strings.TrimPrefix(name, lockPrefix), "/")
	if len(ids) == 1 {
		return p.headerEntry(name, value)
	}
	return p.stanzaEntry(name, ids[0], value)
}

// headerEntry reads the header of a shared lock, which must have the lid of the name.
func (p *parser) headerEntry(name, value string) error {
	b, err := payload("h", value)
	if err != nil {
		return err
	}
	h, rest, err := parseHeader(b)
	if err != nil || len(rest) > 0 || name != headerName(h.lid()) {
		return malformed
	}
	p.headers[string(h.lid())] = h
	return nil
}

// stanzaEntry reads a stanza of a shared lock, which must have the kid of the name.
func (p *parser) stanzaEntry(name, id, value string) error {
	b, err := payload("l", value)
	if err != nil {
		return err
	}
	lid, err := decode(id)
	if err != nil || len(lid) != 16 {
		return malformed
	}
	s, rest, err := parseStanza(b)
	if err != nil || len(rest) > 0 || name != stanzaName(lid, s.kid) {
		return malformed
	}
	p.stanzas[string(lid)] = append(p.stanzas[string(lid)], s)
	return nil
}

// shortEntry reads an item of a shared lock.
func (p *parser) shortEntry(name, value string) error {
	b, err := payload("s", value)
	if err != nil {
		return err
	}
	lid, box, err := cut(b, 16)
	if err != nil || !boxLength(len(box)) {
		return malformed
	}
	p.short = append(p.short, shortItem{name, string(lid), box})
	return nil
}

// inlineEntry reads an item that contains its own lock.
func (p *parser) inlineEntry(name, value string) error {
	b, err := payload("i", value)
	if err != nil {
		return err
	}
	l, box, err := parseInlineLock(b)
	if err != nil || !boxLength(len(box)) {
		return malformed
	}
	p.object.locks = append(p.object.locks, l)
	p.object.items = append(p.object.items, item{name, l, box})
	return nil
}

// parseInlineLock reads header, count and stanzas, and returns the bytes after them.
func parseInlineLock(b []byte) (*lock, []byte, error) {
	h, rest, err := parseHeader(b)
	if err != nil || len(rest) == 0 || rest[0] == 0 || rest[0] > 32 {
		return nil, nil, malformed
	}
	l := &lock{header: h}
	count, rest := int(rest[0]), rest[1:]
	for range count {
		var s stanza
		if s, rest, err = parseStanza(rest); err != nil {
			return nil, nil, err
		}
		l.stanzas = append(l.stanzas, s)
	}
	if !ascending(l.stanzas) {
		return nil, nil, malformed
	}
	return l, rest, nil
}

// ascending reports whether the kids are in strictly ascending order.
func ascending(stanzas []stanza) bool {
	for i := 1; i < len(stanzas); i++ {
		if string(stanzas[i-1].kid) >= string(stanzas[i].kid) {
			return false
		}
	}
	return true
}
