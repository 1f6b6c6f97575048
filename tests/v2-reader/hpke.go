package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"crypto/sha3"
	"io"
)

// This file is the sending side of HPKE (RFC 9180). Go's library has one, but it draws its own randomness, so it cannot
// reproduce the entries of the vectors. The receiving side is that of Go's library.

const (
	kemXW   = 0x647a
	kemP256 = 0x0010
)

// labeled is HKDF-SHA256 with the labels of one suite.
type labeled []byte

func kemLabels(kem uint16) labeled { return join([]byte("KEM"), u16(kem)) }

func hpkeLabels(kem uint16) labeled {
	return join([]byte("HPKE"), u16(kem), u16(0x0001), u16(0x0002))
}

func (suite labeled) extract(salt []byte, label string, input []byte) []byte {
	prk, err := hkdf.Extract(sha256.New, join([]byte("HPKE-v1"), suite, []byte(label), input), salt)
	if err != nil {
		panic(err) // SHA-256 does not fail
	}
	return prk
}

func (suite labeled) expand(prk []byte, label string, info []byte, n int) []byte {
	out, err := hkdf.Expand(sha256.New, prk, string(join(u16(uint16(n)), []byte("HPKE-v1"), suite, []byte(label), info)), n)
	if err != nil {
		panic(err) // only for an output above 8160 bytes
	}
	return out
}

// sealHPKE returns enc ‖ ciphertext of one message in base mode.
func sealHPKE(r recipient, info, aad, plain []byte, random io.Reader) ([]byte, error) {
	kem, encapsulate := uint16(kemP256), encapsulateP256
	if r.suite == suiteXW {
		kem, encapsulate = kemXW, encapsulateXW
	}
	shared, enc, err := encapsulate(r.public, random)
	if err != nil {
		return nil, err
	}
	aead, nonce := schedule(hpkeLabels(kem), shared, info)
	return join(enc, aead.Seal(nil, nonce, plain, aad)), nil
}

// schedule is the key schedule of base mode; the nonce is that of the sequence number 0.
func schedule(suite labeled, shared, info []byte) (cipher.AEAD, []byte) {
	context := join([]byte{0}, suite.extract(nil, "psk_id_hash", nil), suite.extract(nil, "info_hash", info))
	secret := suite.extract(shared, "secret", nil)
	block, err := aes.NewCipher(suite.expand(secret, "key", context, 32))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return aead, suite.expand(secret, "base_nonce", context, 12)
}

// encapsulateP256 is DHKEM(P-256, HKDF-SHA256).
func encapsulateP256(public []byte, random io.Reader) (shared, enc []byte, err error) {
	recipient, err := ecdh.P256().NewPublicKey(public)
	if err != nil {
		return nil, nil, err
	}
	dh, enc, err := agree(ecdh.P256(), recipient, random)
	if err != nil {
		return nil, nil, err
	}
	suite := kemLabels(kemP256)
	prk := suite.extract(nil, "eae_prk", dh)
	return suite.expand(prk, "shared_secret", join(enc, public), 32), enc, nil
}

// encapsulateXW is X-Wing.
func encapsulateXW(public []byte, random io.Reader) (shared, enc []byte, err error) {
	sharedM, encM, err := encapsulateMLKEM(public[:1184], random)
	if err != nil {
		return nil, nil, err
	}
	share, err := ecdh.X25519().NewPublicKey(public[1184:])
	if err != nil {
		return nil, nil, err
	}
	dh, encX, err := agree(ecdh.X25519(), share, random)
	if err != nil {
		return nil, nil, err
	}
	sum := sha3.Sum256(join(sharedM, dh, encX, public[1184:], []byte(`\.//^\`)))
	return sum[:], join(encM, encX), nil
}

func encapsulateMLKEM(public []byte, random io.Reader) (shared, enc []byte, err error) {
	seed, err := draw(random, 32)
	if err != nil {
		return nil, nil, err
	}
	encapsulation, err := mlkem.NewEncapsulationKey768(public)
	if err != nil {
		return nil, nil, err
	}
	return mlkemtest.Encapsulate768(encapsulation, seed)
}

// agree generates an ephemeral key, and returns the shared point and the ephemeral public key.
func agree(curve ecdh.Curve, public *ecdh.PublicKey, random io.Reader) (dh, ephemeral []byte, err error) {
	secret, err := draw(random, 32)
	if err != nil {
		return nil, nil, err
	}
	private, err := curve.NewPrivateKey(secret)
	if err != nil {
		return nil, nil, err
	}
	dh, err = private.ECDH(public)
	return dh, private.PublicKey().Bytes(), err
}

// draw returns the next n random bytes.
func draw(random io.Reader, n int) ([]byte, error) {
	out := make([]byte, n)
	_, err := io.ReadFull(random, out)
	return out, err
}
