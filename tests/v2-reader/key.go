package main

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// key is a key pair of a reader. One of hpke and rsa is set.
type key struct {
	suite  uint16
	public []byte
	hpke   hpke.PrivateKey
	rsa    *rsa.PrivateKey
}

// recipient returns the public half.
func (k key) recipient() recipient { return recipient{k.suite, k.public} }

// parseKey reads the private form of a key: "seal2-key …", an identity of age, or PKCS#8 in hexadecimal for rsa.
func parseKey(text string) (key, error) {
	switch {
	case strings.HasPrefix(text, "AGE-SECRET-KEY-PQ-1"):
		return parseAgeIdentity(text)
	case !strings.HasPrefix(text, "seal2-key "):
		return parseRSA(text)
	}
	fields := strings.Split(text, " ")
	if len(fields) != 3 {
		return key{}, errors.New("a key has three fields")
	}
	secret, err := decode(fields[2])
	if err != nil || len(secret) != 32 {
		return key{}, errors.New("a private key is 32 bytes of base64url")
	}
	return newHPKE(fields[1], secret)
}

// newHPKE creates a key of the suite with this name.
func newHPKE(name string, secret []byte) (key, error) {
	suite, err := suiteOf(name)
	if err != nil {
		return key{}, err
	}
	private, err := kemOf(suite).NewPrivateKey(secret)
	if err != nil {
		return key{}, fmt.Errorf("private key of %s: %w", name, err)
	}
	return key{suite: suite, public: private.PublicKey().Bytes(), hpke: private}, nil
}

func suiteOf(name string) (uint16, error) {
	switch name {
	case "xw":
		return suiteXW, nil
	case "p256":
		return suiteP256, nil
	}
	return 0, fmt.Errorf("no text form for keys of the suite %q", name)
}

func kemOf(suite uint16) hpke.KEM {
	if suite == suiteXW {
		return hpke.MLKEM768X25519()
	}
	return hpke.DHKEM(ecdh.P256())
}

// parseRSA reads a key in PKCS#8; its public key is the DER of SubjectPublicKeyInfo.
func parseRSA(text string) (key, error) {
	der, err := hex.DecodeString(text)
	if err != nil {
		return key{}, errors.New("a private key is a line of the form seal2-key, or hexadecimal PKCS#8")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return key{}, err
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return key{}, errors.New("the PKCS#8 key is not an RSA key")
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	return key{suite: suiteRSA, public: public, rsa: private}, err
}
