package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestReadsTheKeysOfAge(t *testing.T) {
	var published struct{ Identity, Recipient string }
	text, err := os.ReadFile("../vectors/age.json")
	if err == nil {
		err = json.Unmarshal(text, &published)
	}
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKey(published.Identity)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRecipient(published.Recipient)
	if err != nil || r.suite != k.suite || !bytes.Equal(r.public, k.public) {
		t.Fatal("another public key", err)
	}
}

func TestRefusesADamagedKeyOfAge(t *testing.T) {
	for _, text := range []string{"age1pq1", "age1pq1qqqqqqqq", "AGE-SECRET-KEY-PQ-1QQQQQQQQ", "AGE-SECRET-KEY-PQ-1bbbbbb"} {
		if _, err := parseRecipient(text); err == nil {
			t.Fatal(text)
		}
		if _, err := parseKey(text); err == nil {
			t.Fatal(text)
		}
	}
	if _, err := parseKey(strings.ToLower("AGE-SECRET-KEY-PQ-1QQQQQQQQ")); err == nil {
		t.Fatal("small letters")
	}
}
