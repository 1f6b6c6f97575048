package main

import (
	"maps"
	"slices"
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

// object is the content of the entries of encryptedData.
type object struct {
	locks []*lock // those that an item refers to
	items []item
	v1    []string
	v2    bool // whether it has v2 content
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
	p := parser{object: object{v2: true}, headers: map[string]header{}, stanzas: map[string][]stanza{}, shared: map[string]*lock{}}
	for _, name := range names {
		if err := p.entry(name, entries[name]); err != nil {
			return object{}, err
		}
	}
	err := p.resolve()
	return p.object, err
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
