package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/bitnami-labs/sealed-secrets/pkg/kubeseal"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// sealSecret returns the SealedSecret that upstream creates, in the requested format.
func sealSecret(r *request) (response, error) {
	public, err := kubeseal.ParseKey(bytes.NewReader(r.Certificate))
	if err != nil {
		return response{}, err
	}
	var secret v1.Secret
	if err := yaml.Unmarshal(r.Text, &secret); err != nil {
		return response{}, err
	}
	sealed, err := v1alpha1.NewSealedSecret(scheme.Codecs, public, &secret)
	if err != nil {
		return response{}, err
	}
	return encoded(sealed, v1alpha1.SchemeGroupVersion, r.Format)
}

// unseal returns the Secret that upstream creates, in the requested format.
func unseal(r *request) (response, error) {
	keys, err := privateKeys(r.Keys)
	if err != nil {
		return response{}, err
	}
	var sealed v1alpha1.SealedSecret
	if err := runtime.DecodeInto(scheme.Codecs.UniversalDecoder(), r.Text, &sealed); err != nil {
		return response{}, err
	}
	secret, err := sealed.Unseal(scheme.Codecs, keys)
	if err != nil {
		return response{}, err
	}
	return encoded(secret, v1.SchemeGroupVersion, r.Format)
}

// parse parses one YAML or JSON document with upstream's parsers. Without a kind, it returns the document as
// JSON with sorted keys and all digits of the numbers. With a kind, it converts the document through the Go
// type of the kind.
func parse(r *request) (response, error) {
	if r.Kind == "" {
		text, err := canonical(r.Text)
		return response{Text: text}, err
	}
	target, err := targetFor(r.Kind)
	if err != nil {
		return response{}, err
	}
	if err := yaml.Unmarshal(r.Text, target); err != nil {
		return response{}, err
	}
	text, err := json.Marshal(target)
	return response{Text: text}, err
}

func canonical(text []byte) ([]byte, error) {
	if !utilyaml.IsJSONBuffer(text) {
		return yaml.YAMLToJSON(text)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var generic any
	if err := decoder.Decode(&generic); err != nil {
		return nil, err
	}
	return json.Marshal(generic)
}

// encode returns an object, which the request contains as JSON, in upstream's encoding.
func encode(r *request) (response, error) {
	switch r.Kind {
	case "Secret":
		var secret v1.Secret
		if err := json.Unmarshal(r.Text, &secret); err != nil {
			return response{}, err
		}
		return encoded(&secret, v1.SchemeGroupVersion, r.Format)
	case "SealedSecret":
		var sealed v1alpha1.SealedSecret
		if err := json.Unmarshal(r.Text, &sealed); err != nil {
			return response{}, err
		}
		return encoded(&sealed, v1alpha1.SchemeGroupVersion, r.Format)
	default:
		return response{}, fmt.Errorf("cannot encode kind %q", r.Kind)
	}
}

func targetFor(kind string) (any, error) {
	switch kind {
	case "Secret":
		return &v1.Secret{}, nil
	case "SealedSecret":
		return &v1alpha1.SealedSecret{}, nil
	default:
		return nil, fmt.Errorf("cannot parse kind %q", kind)
	}
}

// encoded encodes an object as upstream does: with its pretty encoder for JSON and its YAML encoder otherwise,
// without the text that kubeseal prints around it (a final newline for JSON, a leading `---` for YAML).
func encoded(object runtime.Object, version runtime.GroupVersioner, format string) (response, error) {
	media := runtime.ContentTypeJSON
	if format == "yaml" {
		media = runtime.ContentTypeYAML
	}
	info, known := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), media)
	if !known {
		return response{}, fmt.Errorf("no serializer for %s", media)
	}
	serializer := info.PrettySerializer
	if serializer == nil {
		serializer = info.Serializer
	}
	text, err := runtime.Encode(scheme.Codecs.EncoderForVersion(serializer, version), object)
	return response{Text: text}, err
}
