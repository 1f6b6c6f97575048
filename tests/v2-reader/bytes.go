package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// join concatenates its arguments: the operator ‖ of the specification.
func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func u32(n int) []byte    { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// domain is D(t).
func domain(t string) []byte { return []byte("seal/v2/" + t + "\x00") }

// lp is the length of x as u32, and x.
func lp[T string | []byte](x T) []byte { return append(u32(len(x)), x...) }

// opt is 00 for nil, and 01 ‖ lp(x) otherwise.
func opt(x *string) []byte {
	if x == nil {
		return []byte{0}
	}
	return append([]byte{1}, lp(*x)...)
}

// expand is Expand(key, info).
func expand(key, info []byte) []byte {
	out, err := hkdf.Expand(sha256.New, key, string(info), 32)
	if err != nil {
		panic(err) // only for an output above 8160 bytes
	}
	return out
}

// digest is SHA-256 of the arguments, concatenated.
func digest(parts ...[]byte) []byte {
	sum := sha256.Sum256(join(parts...))
	return sum[:]
}

// cut splits b after n bytes; a shorter b is malformed.
func cut(b []byte, n int) (head, rest []byte, err error) {
	if len(b) < n {
		return nil, nil, malformed
	}
	return b[:n], b[n:], nil
}
