package main

import (
	"maps"
	"slices"
	"strings"
)

// lock is a header and its stanzas.
type lock struct {
	header  header
	stanzas []stanza
}

// item is a v2 item.
type item struct {
	name string
	lock *lock
	box  []byte
}

// object is what the entries of encryptedData contain.
type object struct {
	locks []*lock // those that an item refers to
	items []item
	v1    []string
}

// parser collects the entries, in the order of their names.
type parser struct {
	object  object
	headers map[string]header
	stanzas map[string][]stanza
	shared  map[string]*lock
	short   []shortItem
}

// shortItem is an item whose lock may not have been read yet.
type shortItem struct {
	name string
	lid  string
	box  []byte
}

// parse reads all entries. An object without v2 content consists of v1 items.
func parse(entries map[string]string) (object, error) {
	names := slices.Sorted(maps.Keys(entries))
	if !isV2(entries) {
		return object{v1: names}, nil
	}
	p := parser{headers: map[string]header{}, stanzas: map[string][]stanza{}, shared: map[string]*lock{}}
	for _, name := range names {
		if err := p.entry(name, entries[name]); err != nil {
			return object{}, err
		}
	}
	err := p.resolve()
	return p.object, err
}

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

// inlineEntry reads an item that brings its own lock.
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

// resolve gives each short item its shared lock.
func (p *parser) resolve() error {
	for _, short := range p.short {
		l, err := p.sharedLock(short.lid)
		if err != nil {
			return err
		}
		p.object.items = append(p.object.items, item{short.name, l, short.box})
	}
	return nil
}

// sharedLock returns the shared lock with this lid; it must have a header and 1 to 32 stanzas.
func (p *parser) sharedLock(lid string) (*lock, error) {
	if l := p.shared[lid]; l != nil {
		return l, nil
	}
	h, found := p.headers[lid]
	stanzas := p.stanzas[lid]
	if !found || len(stanzas) == 0 || len(stanzas) > 32 {
		return nil, malformed
	}
	l := &lock{h, stanzas}
	p.shared[lid] = l
	p.object.locks = append(p.object.locks, l)
	return l, nil
}
