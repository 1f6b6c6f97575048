// Command v2-oracle encrypts and decrypts with Go's crypto/hpke, as a second implementation of the suites `xw` and
// `p256`. It reads one request a line and writes one response a line, both JSON with hexadecimal bytes.
package main

import (
	"bufio"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

type request struct {
	Operation string // public, seal or open
	Suite     string // xw or p256
	Key       string // public: private key; seal: public key; open: private key
	Info      string
	AAD       string
	Message   string
}

type response struct {
	Bytes string `json:"bytes"`
	Error string `json:"error"`
}

func kem(suite string) hpke.KEM {
	if suite == "xw" {
		return hpke.MLKEM768X25519()
	}
	return hpke.DHKEM(ecdh.P256())
}

func run(r request) ([]byte, error) {
	var fields [4][]byte
	for i, text := range []string{r.Key, r.Info, r.AAD, r.Message} {
		bytes, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		fields[i] = bytes
	}
	key, info, aad, message := fields[0], fields[1], fields[2], fields[3]
	switch r.Operation {
	case "public":
		private, err := kem(r.Suite).NewPrivateKey(key)
		if err != nil {
			return nil, err
		}
		return private.PublicKey().Bytes(), nil
	case "seal":
		return seal(r.Suite, key, info, aad, message)
	case "open":
		return open(r.Suite, key, info, aad, message)
	}
	return nil, fmt.Errorf("unknown operation %q", r.Operation)
}

func seal(suite string, key, info, aad, message []byte) ([]byte, error) {
	public, err := kem(suite).NewPublicKey(key)
	if err != nil {
		return nil, err
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, err
	}
	ciphertext, err := sender.Seal(aad, message)
	if err != nil {
		return nil, err
	}
	return append(enc, ciphertext...), nil
}

func open(suite string, key, info, aad, message []byte) ([]byte, error) {
	private, err := kem(suite).NewPrivateKey(key)
	if err != nil {
		return nil, err
	}
	length := map[string]int{"xw": 1120, "p256": 65}[suite]
	if len(message) < length {
		return nil, fmt.Errorf("too short")
	}
	recipient, err := hpke.NewRecipient(message[:length], private, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, err
	}
	return recipient.Open(aad, message[length:])
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var r request
		err := json.Unmarshal(lines.Bytes(), &r)
		var bytes []byte
		if err == nil {
			bytes, err = run(r)
		}
		a := response{Bytes: hex.EncodeToString(bytes)}
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			os.Exit(1)
		}
	}
}
