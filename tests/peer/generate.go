package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/bitnami-labs/sealed-secrets/pkg/crypto"
)

// generation contains the parameters of a key pair to generate. If Bits is 0, it is an elliptic-curve key,
// which Sealed Secrets must refuse.
type generation struct {
	Bits       int    `json:"bits"`
	NotBefore  int64  `json:"not_before"` // seconds since 1970
	ValidFor   int64  `json:"valid_for"`  // seconds
	CommonName string `json:"common_name"`
}

// generated contains a key pair in each format that Sealed Secrets has to read.
type generated struct {
	PKCS1       string `json:"pkcs1"` // PEM; SEC 1 for elliptic curves
	PKCS8       string `json:"pkcs8"` // PEM
	Certificate string `json:"certificate"`
	PublicKey   string `json:"public_key"` // PEM, SubjectPublicKeyInfo
}

func generate(r *request) (response, error) {
	if r.Generate.Bits == 0 {
		return generateEC(r.Generate)
	}
	key, err := rsa.GenerateKey(rand.Reader, r.Generate.Bits)
	if err != nil {
		return response{}, err
	}
	from, validFor := r.Generate.times()
	certificate, err := crypto.SignKeyWithNotBefore(rand.Reader, key, from, validFor, r.Generate.CommonName)
	if err != nil {
		return response{}, err
	}
	traditional := encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	return forms(traditional, key, &key.PublicKey, certificate.Raw)
}

func generateEC(g generation) (response, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return response{}, err
	}
	from, validFor := g.times()
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    from,
		NotAfter:     from.Add(validFor),
		Subject:      pkix.Name{CommonName: g.CommonName},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return response{}, err
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return response{}, err
	}
	return forms(encodePEM("EC PRIVATE KEY", sec1), key, &key.PublicKey, certificate)
}

func (g generation) times() (time.Time, time.Duration) {
	return time.Unix(g.NotBefore, 0), time.Duration(g.ValidFor) * time.Second
}

func forms(traditional string, private, public any, certificate []byte) (response, error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return response{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return response{}, err
	}
	return response{generated: &generated{
		PKCS1:       traditional,
		PKCS8:       encodePEM("PRIVATE KEY", pkcs8),
		Certificate: encodePEM("CERTIFICATE", certificate),
		PublicKey:   encodePEM("PUBLIC KEY", spki),
	}}, nil
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
