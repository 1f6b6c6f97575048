package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// file is a file of vectors: the input of this program.
type file struct {
	Keys  map[string]keyText `json:"keys"`
	Cases []vector           `json:"cases"`
	digests
}

// keyText is a key in text form. A recipient of a writer needs no private form.
type keyText struct {
	Private   string `json:"private"`
	Recipient string `json:"recipient"`
	ID        string `json:"id"`
}

// vector is one case of a file.
type vector struct {
	Name          string            `json:"name"`
	Place         place             `json:"place"`
	EncryptedData map[string]string `json:"encryptedData"`
	Template      json.RawMessage   `json:"template"`
	Data          *string           `json:"data"`
	Policy        policy            `json:"policy"`
	MakesSecret   bool              `json:"makesSecret"`
	Keys          []string          `json:"keys"`
	Values        map[string]string `json:"values"`
	Vids          map[string]string `json:"vids"`
	Reason        reason            `json:"reason"`
	Seal          *sealText         `json:"seal"`
}

// sealText is the input of a writer.
type sealText struct {
	Recipients     []string `json:"recipients"`
	AllowClassical bool     `json:"allowClassical"`
	BindTemplate   bool     `json:"bindTemplate"`
	NeverSecret    bool     `json:"neverSecret"`
	Alone          bool     `json:"alone"`
	Inline         bool     `json:"inline"`
	Revision       uint64   `json:"revision"`
	Random         string   `json:"random"`
}

// readFile decodes a file and its keys.
func readFile(r io.Reader) (file, error) {
	var f file
	err := json.NewDecoder(r).Decode(&f)
	return f, err
}

// key returns the key pair with this name.
func (f file) key(name string) (key, error) {
	text, found := f.Keys[name]
	if !found || text.Private == "" {
		return key{}, fmt.Errorf("the file has no private key %q", name)
	}
	k, err := parseKey(text.Private)
	if err != nil {
		return key{}, fmt.Errorf("key %q: %w", name, err)
	}
	if id := hex.EncodeToString(k.recipient().id()); text.ID != "" && text.ID != id {
		return key{}, fmt.Errorf("key %q: its id is %s", name, id)
	}
	return k, nil
}

// recipient returns the public key with this name.
func (f file) recipient(name string) (recipient, error) {
	if text := f.Keys[name]; text.Private == "" && text.Recipient != "" {
		return parseRecipient(text.Recipient)
	}
	k, err := f.key(name)
	return k.recipient(), err
}

// open opens a case.
func (f file) open(v vector) (map[string]opened, error) {
	r := request{place: v.Place, template: v.Template, hasData: v.Data != nil, policy: v.Policy,
		makesSecret: v.MakesSecret}
	for _, name := range v.Keys {
		k, err := f.key(name)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, k)
	}
	return openObject(v.EncryptedData, r)
}

// seal creates the entries of a case. Random bytes and vids that the case does not specify are generated.
func (f file) seal(v vector) (map[string]string, error) {
	if v.Seal == nil {
		return nil, errors.New("the case has no field seal")
	}
	s, err := f.sealing(v)
	if err != nil {
		return nil, err
	}
	given, err := hex.DecodeString(v.Seal.Random)
	if err != nil {
		return nil, err
	}
	if len(given) == 0 {
		return seal(s, rand.Reader)
	}
	random := bytes.NewReader(given)
	entries, err := seal(s, random)
	if err == nil && random.Len() > 0 {
		err = fmt.Errorf("%d of the random bytes were not used", random.Len())
	}
	return entries, err
}

// sealing is the input of the writer.
func (f file) sealing(v vector) (sealing, error) {
	s := sealing{place: v.Place, allowClassical: v.Seal.AllowClassical, neverSecret: v.Seal.NeverSecret,
		alone: v.Seal.Alone, inline: v.Seal.Inline, revision: v.Seal.Revision}
	if v.Seal.BindTemplate {
		s.template = orNull(v.Template)
	}
	var err error
	if s.recipients, err = f.recipients(v.Seal.Recipients); err != nil {
		return sealing{}, err
	}
	s.items, err = v.items()
	return s, err
}

// orNull returns the template to bind to, or null if the case has no template.
func orNull(template json.RawMessage) json.RawMessage {
	if template == nil {
		return json.RawMessage("null")
	}
	return template
}

// recipients returns the public keys with these names, each once.
func (f file) recipients(names []string) ([]recipient, error) {
	var all []recipient
	for _, name := range names {
		r, err := f.recipient(name)
		if err != nil {
			return nil, err
		}
		same := func(other recipient) bool { return bytes.Equal(other.id(), r.id()) }
		if !slices.ContainsFunc(all, same) {
			all = append(all, r)
		}
	}
	return all, nil
}

// items decodes the values and vids.
func (v vector) items() (map[string]opened, error) {
	items := map[string]opened{}
	for name, text := range v.Values {
		value, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		vid, err := v.vid(name)
		if err != nil {
			return nil, err
		}
		items[name] = opened{vid, value}
	}
	return items, nil
}

// vid returns the vid of the case, or a new one if the case has none.
func (v vector) vid(name string) ([]byte, error) {
	if text, found := v.Vids[name]; found {
		return hex.DecodeString(text)
	}
	return draw(rand.Reader, vidLength)
}
