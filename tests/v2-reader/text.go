package main

import (
	"encoding/base64"
	"strings"
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode reads canonical base64url. Go's decoder skips line breaks, so the result is encoded again and compared.
func decode(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || encode(b) != text {
		return nil, malformed
	}
	return b, nil
}

const (
	prefix     = "seal2."
	lockPrefix = "/lock/"
)

func headerName(lid []byte) string { return lockPrefix + encode(lid) }

func stanzaName(lid, kid []byte) string { return headerName(lid) + "/" + encode(kid) }

// isV2 reports whether the rules of this format apply to an object.
func isV2(entries map[string]string) bool {
	for name, value := range entries {
		if strings.HasPrefix(name, lockPrefix) || strings.HasPrefix(value, prefix) {
			return true
		}
	}
	return false
}

// payload decodes a value of one kind, which is a letter.
func payload(kind, value string) ([]byte, error) {
	text, found := strings.CutPrefix(value, prefix+kind+".")
	if !found {
		return nil, malformed
	}
	return decode(text)
}
