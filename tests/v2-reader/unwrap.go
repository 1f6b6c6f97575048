package main

import (
	"bytes"
	"crypto/hpke"
	"crypto/rsa"
	"crypto/sha256"
)

// magic is the beginning of the plaintext of RSA-OAEP.
const magic = "seal-v2\x00"

// wrapInfo is the info of HPKE.
func wrapInfo(h header, suite uint16) []byte {
	return join(domain("wrap"), h.raw, u16(suite))
}

// wrapAAD is the associated data of HPKE.
func wrapAAD(ctx []byte, r recipient) []byte { return join(ctx, r.id()) }

// unwrap performs the one private-key operation of a lock.
func (k key) unwrap(h header, ctx, body []byte) ([]byte, error) {
	if k.suite == suiteRSA {
		return k.unwrapRSA(body)
	}
	enc := len(body) - 48
	r, err := hpke.NewRecipient(body[:enc], k.hpke, hpke.HKDFSHA256(), hpke.AES256GCM(), wrapInfo(h, k.suite))
	if err != nil {
		return nil, tampered
	}
	dk, err := r.Open(wrapAAD(ctx, k.recipient()), body[enc:])
	if err != nil || len(dk) != 32 {
		return nil, tampered
	}
	return dk, nil
}

func (k key) unwrapRSA(body []byte) ([]byte, error) {
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, k.rsa, body, nil)
	if err != nil {
		return nil, tampered
	}
	dk, found := bytes.CutPrefix(plain, []byte(magic))
	if !found || len(dk) != 32 {
		return nil, tampered
	}
	return dk, nil
}
