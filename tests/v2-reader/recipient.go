package main

import (
	"crypto/ecdh"
	"errors"
	"strings"
)

// recipient is a public key of a writer.
type recipient struct {
	suite  uint16
	public []byte
}

// id is the identifier of a public key.
func (r recipient) id() []byte {
	return digest(domain("kid"), u16(r.suite), lp(r.public))
}

func (r recipient) kid() []byte { return r.id()[:16] }

// parseRecipient reads the text form of a public key, or a recipient of age, and checks the key and its kid.
func parseRecipient(text string) (recipient, error) {
	if strings.HasPrefix(text, ageRecipient+"1") {
		return parseAgeRecipient(text)
	}
	fields := strings.SplitN(text, " ", 5) // the fifth is a comment
	if len(fields) < 4 || fields[0] != "seal2-recipient" {
		return recipient{}, errors.New("a recipient has the form: seal2-recipient SUITE KID KEY [COMMENT]")
	}
	suite, err := suiteOf(fields[1])
	if err != nil {
		return recipient{}, err
	}
	public, err := decode(fields[3])
	r := recipient{suite, public}
	if err != nil || encode(r.kid()) != fields[2] {
		return recipient{}, errors.New("the kid of the recipient is not that of its key; copy the whole line again")
	}
	return r, r.check()
}

// check refuses a key that the library refuses, and an X25519 key of low order.
func (r recipient) check() error {
	if _, err := kemOf(r.suite).NewPublicKey(r.public); err != nil {
		return err
	}
	if r.suite == suiteXW {
		return checkX25519(r.public[1184:])
	}
	return nil
}

// checkX25519 refuses a key whose agreement with any private key is all zeros; Go returns an error for it.
func checkX25519(public []byte) error {
	share, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return err
	}
	probe, err := ecdh.X25519().NewPrivateKey(make([]byte, 32))
	if err != nil {
		return err
	}
	_, err = probe.ECDH(share)
	return err
}
