package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// fields contains the fields of a JSON object by name. Unlike with Go's structures, names are case-sensitive.
type fields map[string]json.RawMessage

// templateDigest calculates the digest of spec.template. A value of another type in its fields is an error.
func templateDigest(template json.RawMessage) ([]byte, error) {
	var top, metadata fields
	if err := read(template, &top); err != nil {
		return nil, err
	}
	if err := read(top["metadata"], &metadata); err != nil {
		return nil, err
	}
	parts := domain("template")
	for _, part := range []struct {
		write func(json.RawMessage) ([]byte, error)
		field json.RawMessage
	}{
		{typeBytes, top["type"]},
		{immutableByte, top["immutable"]},
		{mapBytes, metadata["labels"]},
		{mapBytes, metadata["annotations"]},
		{listBytes, metadata["finalizers"]},
		{dataBytes, top["data"]},
	} {
		written, err := part.write(part.field)
		if err != nil {
			return nil, err
		}
		parts = append(parts, written...)
	}
	return digest(parts), nil
}

// read decodes a field; an absent field leaves the target empty, like null.
func read(raw json.RawMessage, target any) error {
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, target); err != nil {
		return fmt.Errorf("spec.template is not readable: %w", err)
	}
	return nil
}

func typeBytes(raw json.RawMessage) ([]byte, error) {
	var text string
	err := read(raw, &text)
	return lp(text), err
}

func immutableByte(raw json.RawMessage) ([]byte, error) {
	var immutable *bool
	err := read(raw, &immutable)
	switch {
	case immutable == nil:
		return []byte{0}, err
	case *immutable:
		return []byte{2}, err
	default:
		return []byte{1}, err
	}
}

func mapBytes(raw json.RawMessage) ([]byte, error) {
	var entries map[string]*string
	if err := read(raw, &entries); err != nil {
		return nil, err
	}
	out := u32(len(entries))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if entries[key] == nil {
			return nil, fmt.Errorf("spec.template is not readable: %q is null", key)
		}
		out = join(out, lp(key), lp(*entries[key]))
	}
	return out, nil
}

func listBytes(raw json.RawMessage) ([]byte, error) {
	var elements []*string
	if err := read(raw, &elements); err != nil {
		return nil, err
	}
	out := u32(len(elements))
	for _, element := range elements {
		if element == nil {
			return nil, fmt.Errorf("spec.template is not readable: a finalizer is null")
		}
		out = join(out, lp(*element))
	}
	return out, nil
}

func dataBytes(raw json.RawMessage) ([]byte, error) {
	var entries map[string]*string
	if err := read(raw, &entries); err != nil {
		return nil, err
	}
	out := u32(len(entries))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		out = join(out, lp(key), opt(entries[key]))
	}
	return out, nil
}
