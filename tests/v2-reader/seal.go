package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var itemCharacters = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)

// isItemName reports whether the API server accepts the name as a key of a Secret.
func isItemName(name string) bool {
	return itemCharacters.MatchString(name) && name != "." && !strings.HasPrefix(name, "..")
}

// sealing contains the values and properties of one lock.
type sealing struct {
	place          place
	template       json.RawMessage // nil if the header is not bound to it
	recipients     []recipient
	allowClassical bool
	neverSecret    bool
	alone          bool
	inline         bool
	revision       uint64
	items          map[string]opened
}

// seal creates the entries of an object.
func seal(s sealing, random io.Reader) (map[string]string, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	dk, err := draw(random, 32)
	if err != nil {
		return nil, err
	}
	l, err := s.lock(dk, random)
	if err != nil {
		return nil, err
	}
	return s.entries(l, dk, random)
}

// check refuses recipients and items that cannot be sealed under one lock.
func (s sealing) check() error {
	classical, n := s.classical(), len(s.recipients)
	for name := range s.items {
		if !isItemName(name) {
			return fmt.Errorf("the API server accepts no item with the name %q", name)
		}
	}
	switch {
	case n == 0 || n > 32:
		return errors.New("a lock has 1 to 32 recipients")
	case classical > 0 && classical < n && !s.allowClassical:
		return errors.New("classical recipients in addition to post-quantum ones need allowClassical")
	case s.inline && len(s.items) != 1:
		return errors.New("an inline lock has one item")
	}
	return nil
}

// classical counts the recipients that are not post-quantum.
func (s sealing) classical() int {
	n := 0
	for _, r := range s.recipients {
		if classical(r.suite) {
			n++
		}
	}
	return n
}

// lock creates the header, and a stanza for each recipient.
func (s sealing) lock(dk []byte, random io.Reader) (*lock, error) {
	scope, ctx, err := s.place.context()
	if err != nil {
		return nil, err
	}
	flags, template, err := s.flags()
	if err != nil {
		return nil, err
	}
	l := &lock{header: newHeader(flags, scope, s.revision, ctx, template, dk)}
	for _, r := range s.recipients {
		body, err := r.wrap(l.header, ctx, dk, random)
		if err != nil {
			return nil, err
		}
		l.stanzas = append(l.stanzas, stanza{r.suite, r.kid(), body})
	}
	return l, nil
}

// flags returns the flags of the header, and the template digest if it has one.
func (s sealing) flags() (flags byte, template []byte, err error) {
	if s.classical() == 0 && !s.allowClassical {
		flags |= flagPostQuantum
	}
	if s.neverSecret {
		flags |= flagNeverSecret
	}
	if s.alone {
		flags |= flagAlone
	}
	if s.template == nil {
		return flags, nil, nil
	}
	template, err = templateDigest(s.template)
	return flags | flagTemplate, template, err
}

// wrap creates the body of a stanza. OAEP generates its own seed, which the vectors do not fix.
func (r recipient) wrap(h header, ctx, dk []byte, random io.Reader) ([]byte, error) {
	if r.suite != suiteRSA {
		return sealHPKE(r, wrapInfo(h, r.suite), wrapAAD(ctx, r), dk, random)
	}
	parsed, err := x509.ParsePKIXPublicKey(r.public)
	if err != nil {
		return nil, err
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the public key is not an RSA key")
	}
	return rsa.EncryptOAEP(sha256.New(), rand.Reader, public, join([]byte(magic), dk), nil)
}

// entries creates the boxes, and writes lock and items.
func (s sealing) entries(l *lock, dk []byte, random io.Reader) (map[string]string, error) {
	entries := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.items)) {
		nonce, err := draw(random, 12)
		if err != nil {
			return nil, err
		}
		box := sealBox(dk, l.header, name, s.items[name].vid, s.items[name].value, nonce)
		entries[name] = s.value(l, box)
	}
	if !s.inline {
		l.write(entries)
	}
	return entries, nil
}

// value is the text of an item.
func (s sealing) value(l *lock, box []byte) string {
	if s.inline {
		return prefix + "i." + encode(join(l.inline(), box))
	}
	return prefix + "s." + encode(join(l.header.lid(), box))
}

// write adds the entries of a shared lock.
func (l *lock) write(entries map[string]string) {
	entries[headerName(l.header.lid())] = prefix + "h." + encode(l.header.raw)
	for _, s := range l.stanzas {
		entries[stanzaName(l.header.lid(), s.kid)] = prefix + "l." + encode(s.bytes())
	}
}

// inline returns header, count and stanzas.
func (l *lock) inline() []byte {
	stanzas := slices.SortedFunc(slices.Values(l.stanzas), func(a, b stanza) int { return bytes.Compare(a.kid, b.kid) })
	out := join(l.header.raw, []byte{byte(len(stanzas))})
	for _, s := range stanzas {
		out = join(out, s.bytes())
	}
	return out
}
