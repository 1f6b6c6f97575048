package main

import (
	"maps"
	"os"
	"testing"
)

const vectors = "../vectors/v2.json"

func readVectors(t *testing.T) file {
	t.Helper()
	f, err := input([]string{vectors}, os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestOpensOrRefusesEveryCase(t *testing.T) {
	f := readVectors(t)
	for _, v := range f.Cases {
		t.Run(v.Name, func(t *testing.T) {
			got := f.work("open", v)
			if got.Reason != v.Reason || got.Error != "" {
				t.Fatalf("reason %q, not %q (%s)", got.Reason, v.Reason, got.Error)
			}
			if !maps.Equal(got.Values, v.Values) || !maps.Equal(got.Vids, v.Vids) {
				t.Fatalf("values %v %v, not %v %v", got.Values, got.Vids, v.Values, v.Vids)
			}
		})
	}
}

func TestReproducesTheEntries(t *testing.T) {
	f := readVectors(t)
	for _, v := range f.Cases {
		if v.Seal == nil {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			if got := f.work("seal", v); !maps.Equal(got.EncryptedData, v.EncryptedData) {
				t.Fatalf("the entries differ (%s%s)", got.Error, got.Reason)
			}
		})
	}
}

func TestReadsEveryRecipient(t *testing.T) {
	f := readVectors(t)
	for name, text := range f.Keys {
		k, err := f.key(name)
		if err != nil {
			t.Fatal(err)
		}
		if text.Recipient == "" {
			continue
		}
		r, err := parseRecipient(text.Recipient)
		if err != nil || string(r.public) != string(k.public) {
			t.Fatalf("%s: another public key (%v)", name, err)
		}
	}
}
