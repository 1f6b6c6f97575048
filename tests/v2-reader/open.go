package main

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"slices"
)

// opened contains the identifier and the value of an item.
type opened struct {
	vid, value []byte
}

// candidate is a stanza with the key that opens it.
type candidate struct {
	stanza stanza
	key    key
}

// openObject performs the steps of section 5.6. Without an error, it returns every v2 item.
func openObject(entries map[string]string, r request) (map[string]opened, error) {
	o, err := parse(entries)
	if err != nil {
		return nil, err
	}
	for _, check := range checks {
		if err := check(o, r); err != nil {
			return nil, err
		}
	}
	return openLocks(o, r)
}

// openLocks performs step 11. If a lock cannot be opened, the other locks are still opened.
func openLocks(o object, r request) (map[string]opened, error) {
	items := map[string]opened{}
	if len(o.locks) == 0 {
		return items, nil
	}
	_, ctx, err := r.place.context()
	if err != nil {
		return nil, err
	}
	var failure error
	for _, l := range o.locks {
		if err := openLock(l, o, ctx, r.keys, items); err != nil {
			failure = err
		}
	}
	if failure != nil {
		return nil, failure
	}
	return items, nil
}

// openLock opens the items of one lock, with one private-key operation.
func openLock(l *lock, o object, ctx []byte, keys []key, items map[string]opened) error {
	chosen := candidates(l, keys)[0]
	dk, failure := chosen.key.unwrap(l.header, ctx, chosen.stanza.body)
	if failure != nil {
		dk = make([]byte, 32)
		rand.Read(dk) // never fails
	}
	if subtle.ConstantTimeCompare(commitment(dk, l.header.uncommitted(), ctx), l.header.commitment) == 0 {
		failure = tampered
	}
	for _, i := range o.items {
		if i.lock != l {
			continue
		}
		vid, value, err := openBox(dk, l.header, i.name, i.box)
		if err != nil {
			failure = err
		}
		items[i.name] = opened{vid, value}
	}
	return failure
}

// candidates are the stanzas that a key of the reader opens, best first: the cheapest suite, then the lowest kid.
func candidates(l *lock, keys []key) []candidate {
	var found []candidate
	for _, s := range l.stanzas {
		for _, k := range keys {
			if k.suite == s.suite && bytes.Equal(k.recipient().kid(), s.kid) {
				found = append(found, candidate{s, k})
			}
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.stanza.suite != b.stanza.suite {
			return int(a.stanza.suite) - int(b.stanza.suite) // the numbers ascend with the costs
		}
		return bytes.Compare(a.stanza.kid, b.stanza.kid)
	})
	return found
}
