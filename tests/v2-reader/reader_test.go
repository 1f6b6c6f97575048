package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// sealed creates the entries of a vector for these recipients, with real randomness.
func sealed(t *testing.T, change func(*vector), recipients ...string) (file, vector) {
	t.Helper()
	f := readVectors(t)
	v := vector{
		Name:   "a case of this test",
		Place:  place{"strict", "shop", "db"},
		Keys:   []string{"xw", "p256", "rsa"},
		Values: map[string]string{"password": "68756e74657232", "user": ""},
		Seal:   &sealText{Recipients: recipients, AllowClassical: true, Revision: 7},
	}
	change(&v)
	got := f.work("seal", v)
	if got.Error != "" || got.Reason != "" {
		t.Fatal(got.Error, got.Reason)
	}
	v.EncryptedData = got.EncryptedData
	return f, v
}

func TestOpensWhatItSeals(t *testing.T) {
	for _, recipients := range [][]string{{"xw"}, {"p256"}, {"rsa"}, {"xw", "p256", "rsa"}} {
		for _, scope := range []string{"strict", "namespace-wide", "cluster-wide"} {
			f, v := sealed(t, func(v *vector) { v.Place.Scope = scope }, recipients...)
			for _, name := range recipients {
				v.Keys = []string{name}
				if got := f.work("open", v); !maps.Equal(got.Values, v.Values) || got.Reason != "" {
					t.Fatalf("%v, %s, opened by %s: %+v", recipients, scope, name, got)
				}
			}
		}
	}
}

func TestDrawsNewRandomBytes(t *testing.T) {
	_, a := sealed(t, func(*vector) {}, "xw")
	_, b := sealed(t, func(*vector) {}, "xw")
	for name, value := range a.EncryptedData {
		if b.EncryptedData[name] == value {
			t.Fatalf("%s is equal", name)
		}
	}
}

func TestARecipientNamedTwiceCountsOnce(t *testing.T) {
	f, v := sealed(t, func(*vector) {}, "p256", "p256")
	if len(v.EncryptedData) != 4 {
		t.Fatal(slices.Sorted(maps.Keys(v.EncryptedData)))
	}
	if got := f.work("open", v); got.Reason != "" {
		t.Fatal(got.Reason)
	}
}

func TestChecksNoPlaceWithoutALock(t *testing.T) {
	v := vector{EncryptedData: map[string]string{"old": "AgB="}}
	if got := (file{}).work("open", v); got.Reason != "" || got.Error != "" {
		t.Fatal(got)
	}
}

func TestANonCanonicalIdentifierOfAStanzaIsMalformed(t *testing.T) {
	f, v := sealed(t, func(*vector) {}, "p256")
	for name, value := range v.EncryptedData {
		if strings.Count(name, "/") == 3 {
			v.EncryptedData["/lock/AAAAAAAAAAAAAAAAAAAAAB/"+name[strings.LastIndex(name, "/")+1:]] = value
		}
	}
	if got := f.work("open", v); got.Reason != malformed {
		t.Fatal(got)
	}
}

func TestATemplateWithAnotherTypeIsNotReadable(t *testing.T) {
	for _, template := range []string{
		`{"type": 1}`, `{"immutable": "true"}`, `{"metadata": []}`, `{"data": {"a": 1}}`,
		`{"metadata": {"labels": {"a": null}}}`, `{"metadata": {"finalizers": [null]}}`,
	} {
		if _, err := templateDigest(json.RawMessage(template)); err == nil {
			t.Fatal(template)
		}
	}
}

func TestAbsentNullAndEmptyTemplatesAreEqual(t *testing.T) {
	want, _ := templateDigest(nil)
	for _, template := range []string{
		`null`, `{}`, `{"metadata": null, "data": null, "immutable": null, "type": null, "Type": "x"}`,
		`{"metadata": {"labels": null, "annotations": {}, "finalizers": []}, "type": ""}`,
	} {
		if got, err := templateDigest(json.RawMessage(template)); err != nil || string(got) != string(want) {
			t.Fatal(template, err)
		}
	}
}
