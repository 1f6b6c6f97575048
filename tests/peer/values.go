package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"github.com/bitnami-labs/sealed-secrets/pkg/crypto"
	"github.com/bitnami-labs/sealed-secrets/pkg/kubeseal"
	"k8s.io/client-go/util/keyutil"
)

func sealValue(r *request) (response, error) {
	public, err := kubeseal.ParseKey(bytes.NewReader(r.Certificate))
	if err != nil {
		return response{}, err
	}
	sealed, err := crypto.HybridEncrypt(rand.Reader, public, r.Value, r.Label)
	return response{Value: sealed}, err
}

func openValue(r *request) (response, error) {
	keys, err := privateKeys(r.Keys)
	if err != nil {
		return response{}, err
	}
	plain, err := crypto.HybridDecrypt(rand.Reader, keys, r.Value, r.Label)
	return response{Value: plain}, err
}

func fingerprint(r *request) (response, error) {
	public, err := kubeseal.ParseKey(bytes.NewReader(r.Certificate))
	if err != nil {
		return response{}, err
	}
	text, err := crypto.PublicKeyFingerprint(public)
	return response{Fingerprint: text}, err
}

// privateKeys parses private keys; returns them by fingerprint, as upstream expects them.
func privateKeys(pems []string) (map[string]*rsa.PrivateKey, error) {
	keys := map[string]*rsa.PrivateKey{}
	for _, text := range pems {
		parsed, err := keyutil.ParsePrivateKeyPEM([]byte(text))
		if err != nil {
			return nil, err
		}
		key, isRSA := parsed.(*rsa.PrivateKey)
		if !isRSA {
			return nil, fmt.Errorf("private key is a %T, not RSA", parsed)
		}
		name, err := crypto.PublicKeyFingerprint(&key.PublicKey)
		if err != nil {
			return nil, err
		}
		keys[name] = key
	}
	return keys, nil
}
