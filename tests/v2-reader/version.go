package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// digests contains the vectors of sections 6 and 7.3.
type digests struct {
	Templates []struct {
		Template json.RawMessage `json:"template"`
		Digest   bytesText       `json:"digest"`
	} `json:"templates"`
	V1Vids []struct {
		SessionKey bytesText `json:"sessionKey"`
		Vid        bytesText `json:"vid"`
	} `json:"v1Vids"`
	Versions []version `json:"versions"`
}

// version is the content version of a file, and its inputs.
type version struct {
	Key       bytesText      `json:"key"`
	Namespace string         `json:"namespace"`
	Path      string         `json:"path"`
	Template  *string        `json:"template"`
	Inputs    []versionInput `json:"inputs"`
	Version   string         `json:"version"`
}

// versionInput is a value in a file.
type versionInput struct {
	Object string    `json:"object"`
	Item   string    `json:"item"`
	Vid    bytesText `json:"vid"`
	Value  bytesText `json:"value"`
}

// bytesText is bytes in hexadecimal.
type bytesText []byte

func (b *bytesText) UnmarshalText(text []byte) error {
	decoded, err := hex.DecodeString(string(text))
	*b = decoded
	return err
}

// calculate returns the version, which does not depend on the order of the inputs.
func (v version) calculate() string {
	inputs := slices.Clone(v.Inputs)
	slices.SortFunc(inputs, func(a, b versionInput) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Item, b.Item))
	})
	message := join(domain("version"), lp(v.Namespace), lp(v.Path), opt(v.Template), u32(len(inputs)))
	for _, i := range inputs {
		message = join(message, lp(i.Object), lp(i.Item), mac(i.Vid, i.Value))
	}
	return encode(mac(v.Key, message)[:16])
}

// v1Vid is the identifier of a v1 value.
func v1Vid(sessionKey []byte) []byte {
	return mac(sessionKey, []byte("seal/v1/vid\x00"))[:vidLength]
}

// mac is HMAC-SHA256.
func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}
