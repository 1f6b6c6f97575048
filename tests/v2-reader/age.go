package main

import (
	"errors"
	"strings"
)

const (
	ageRecipient = "age1pq"
	ageIdentity  = "age-secret-key-pq-"
)

// parseAgeIdentity reads a post-quantum identity of age, which is in capital letters.
func parseAgeIdentity(text string) (key, error) {
	if text != strings.ToUpper(text) {
		return key{}, errors.New("an identity of age must be in capital letters")
	}
	seed, err := decodeBech32(ageIdentity, strings.ToLower(text))
	if err != nil {
		return key{}, err
	}
	return newHPKE("xw", seed)
}

// parseAgeRecipient reads a post-quantum recipient of age, and checks its key.
func parseAgeRecipient(text string) (recipient, error) {
	public, err := decodeBech32(ageRecipient, text)
	if err != nil {
		return recipient{}, err
	}
	r := recipient{suiteXW, public}
	return r, r.check()
}

const bech32Characters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// decodeBech32 reads a text in small letters (BIP 173), of any length.
func decodeBech32(prefix, text string) ([]byte, error) {
	data, found := strings.CutPrefix(text, prefix+"1")
	if !found || len(data) < 6 {
		return nil, errors.New("the text has another prefix, or is too short")
	}
	var groups []byte
	for _, character := range data {
		group := strings.IndexRune(bech32Characters, character)
		if group < 0 {
			return nil, errors.New("the text has a character that Bech32 does not use")
		}
		groups = append(groups, byte(group))
	}
	if checksum(append(expandPrefix(prefix), groups...)) != 1 {
		return nil, errors.New("the checksum does not match; copy the whole text again")
	}
	return joinBits(groups[:len(groups)-6])
}

// expandPrefix returns the form of the prefix that the checksum covers.
func expandPrefix(prefix string) []byte {
	var high, low []byte
	for _, b := range []byte(prefix) {
		high, low = append(high, b>>5), append(low, b&31)
	}
	return join(high, []byte{0}, low)
}

// checksum is 1 for a valid text.
func checksum(groups []byte) uint32 {
	generator := []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	sum := uint32(1)
	for _, group := range groups {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(group)
		for i, g := range generator {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	return sum
}

// joinBits joins groups of 5 bits to bytes. Fewer than 5 bits may remain, and they must be zeros.
func joinBits(groups []byte) ([]byte, error) {
	var out []byte
	bits, n := uint(0), 0
	for _, group := range groups {
		bits, n = bits<<5|uint(group), n+5
		if n >= 8 {
			n -= 8
			out = append(out, byte(bits>>n))
			bits &= 1<<n - 1
		}
	}
	if n >= 5 || bits != 0 {
		return nil, errors.New("the text ends in bits that are left over")
	}
	return out, nil
}
