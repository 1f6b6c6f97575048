package main

import (
	"bytes"
	"testing"
)

func TestCalculatesTheDigestsOfTemplates(t *testing.T) {
	vectors := readVectors(t).Templates
	for _, v := range vectors {
		if got, err := templateDigest(v.Template); err != nil || !bytes.Equal(got, v.Digest) {
			t.Fatalf("%s: %x, not %x (%v)", v.Template, got, v.Digest, err)
		}
	}
	if len(vectors) == 0 {
		t.Fatal("the file has no templates")
	}
}

func TestCalculatesTheIdentifiersOfV1Values(t *testing.T) {
	vectors := readVectors(t).V1Vids
	for _, v := range vectors {
		if got := v1Vid(v.SessionKey); !bytes.Equal(got, v.Vid) {
			t.Fatalf("%x: %x, not %x", v.SessionKey, got, v.Vid)
		}
	}
	if len(vectors) == 0 {
		t.Fatal("the file has no v1 values")
	}
}

func TestCalculatesContentVersions(t *testing.T) {
	vectors, seen := readVectors(t).Versions, map[string]bool{}
	for _, v := range vectors {
		if got := v.calculate(); got != v.Version || seen[got] {
			t.Fatalf("%+v: %s", v, got)
		}
		seen[v.Version] = true
	}
	if len(vectors) == 0 {
		t.Fatal("the file has no versions")
	}
}
