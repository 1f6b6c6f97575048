package main

import "encoding/binary"

const (
	flagTemplate    = 1
	flagPostQuantum = 2
	flagNeverSecret = 4
	flagAlone       = 8
	knownFlags      = flagTemplate | flagPostQuantum | flagNeverSecret | flagAlone
)

// fixedHeader is the length of the fields before the template digest.
const fixedHeader = 27

// header contains the properties that all items of a lock share.
type header struct {
	raw        []byte // with the commitment
	flags      byte
	scope      byte
	revision   uint64
	place      []byte
	template   []byte // nil without flagTemplate
	commitment []byte
}

// parseHeader reads the header that b begins with, and returns the bytes after it.
func parseHeader(b []byte) (header, []byte, error) {
	if len(b) < fixedHeader || b[0] != 2 || b[1]&^knownFlags != 0 || b[2] > 2 {
		return header{}, nil, malformed
	}
	size := fixedHeader + 32
	if b[1]&flagTemplate != 0 {
		size += 32
	}
	raw, rest, err := cut(b, size)
	if err != nil {
		return header{}, nil, err
	}
	return splitHeader(raw), rest, nil
}

// splitHeader names the fields of a header of the right length.
func splitHeader(raw []byte) header {
	h := header{
		raw:        raw,
		flags:      raw[1],
		scope:      raw[2],
		revision:   binary.BigEndian.Uint64(raw[3:11]),
		place:      raw[11:fixedHeader],
		commitment: raw[len(raw)-32:],
	}
	if h.flags&flagTemplate != 0 {
		h.template = raw[fixedHeader : fixedHeader+32]
	}
	return h
}

// newHeader creates the header that is committed to dk. The template digest is nil if the header is not bound to it.
func newHeader(flags, scope byte, revision uint64, ctx, template, dk []byte) header {
	raw := join([]byte{2, flags, scope}, u64(revision), placeOf(ctx), template)
	return splitHeader(append(raw, commitment(dk, raw, ctx)...))
}

// commitment calculates C for a header without C.
func commitment(dk, rest, ctx []byte) []byte {
	return expand(dk, join(domain("commit"), rest, ctx))
}

// uncommitted is the header without C.
func (h header) uncommitted() []byte { return h.raw[:len(h.raw)-32] }

// lid is the identifier of the lock.
func (h header) lid() []byte { return h.commitment[:16] }
