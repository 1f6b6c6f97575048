package main

import "fmt"

// request contains the name of an operation and its arguments. Each operation reads only its own arguments.
type request struct {
	Op string `json:"op"`

	Certificate []byte   `json:"certificate,omitempty"` // PEM
	Keys        []string `json:"keys,omitempty"`        // PEM, one private key each
	Label       []byte   `json:"label,omitempty"`
	Value       []byte   `json:"value,omitempty"` // a plain or sealed value
	Text        []byte   `json:"text,omitempty"`  // a manifest, JSON or YAML
	Kind        string   `json:"kind,omitempty"`  // "", "Secret" or "SealedSecret"
	Format      string   `json:"format,omitempty"`

	Generate generation `json:"generate,omitzero"`
}

// response contains the results of an operation, or only an error.
type response struct {
	Error string `json:"error,omitempty"`

	Value       []byte `json:"value,omitempty"`
	Text        []byte `json:"text,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`

	*generated
}

var operations = map[string]func(*request) (response, error){
	"seal_value":  sealValue,
	"open_value":  openValue,
	"seal_secret": sealSecret,
	"unseal":      unseal,
	"generate":    generate,
	"fingerprint": fingerprint,
	"parse":       parse,
	"encode":      encode,
}

func (r *request) response() response {
	operation, known := operations[r.Op]
	if !known {
		return response{Error: fmt.Sprintf("unknown operation %q", r.Op)}
	}
	result, err := operation(r)
	if err != nil {
		return response{Error: err.Error()}
	}
	return result
}
