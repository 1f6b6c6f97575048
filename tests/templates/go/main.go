// The Go side of the differential tests: Go's text/template with the function map of Bitnami's controller.
//
// Reads one JSON request per line and writes one JSON answer per line.
package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sort"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
)

type request struct {
	Name     string            `json:"name"`
	Template string            `json:"template"`
	Data     map[string][]byte `json:"data"`
	// Render this many times and report the time of one.
	Repeat int `json:"repeat"`
	// List the names of all functions instead.
	Functions bool `json:"functions"`
	// Verify a certificate (PEM) with a CA (PEM) and its own key (PEM) instead.
	Certificate string `json:"certificate"`
	Authority   string `json:"authority"`
	DNSName     string `json:"dns_name"`
}

type answer struct {
	Out       []byte   `json:"out,omitempty"`
	Error     string   `json:"error,omitempty"`
	Stage     string   `json:"stage,omitempty"`
	Nanos     int64    `json:"nanos,omitempty"`
	Functions []string `json:"functions,omitempty"`
}

// Time limit for one template; Bitnami's controller has none.
const patience = 20 * time.Second

func functions() template.FuncMap {
	functions := sprig.GenericFuncMap()
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(functions, name)
	}
	return functions
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var asked request
		if err := decoder.Decode(&asked); err != nil {
			return
		}
		done := make(chan answer, 1)
		go func() { done <- handle(asked) }()
		select {
		case told := <-done:
			_ = encoder.Encode(told)
		case <-time.After(patience):
			_ = encoder.Encode(answer{Stage: "timeout", Error: "the template took too long"})
			_ = out.Flush()
			os.Exit(1)
		}
		_ = out.Flush()
	}
}

func handle(asked request) answer {
	switch {
	case asked.Functions:
		return answer{Functions: names()}
	case asked.Certificate != "":
		return told("verify", verify(asked))
	default:
		return render(asked)
	}
}

func told(stage string, err error) answer {
	if err != nil {
		return answer{Stage: stage, Error: err.Error()}
	}
	return answer{}
}

func names() []string {
	var names []string
	for name := range functions() {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func render(asked request) answer {
	parsed, err := template.New(asked.Name).Funcs(functions()).Parse(asked.Template)
	if err != nil {
		return told("parse", err)
	}
	data := make(map[string]string, len(asked.Data))
	for key, value := range asked.Data {
		data[key] = string(value)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		return told("render", err)
	}
	result := answer{Out: append([]byte{}, out.Bytes()...)}
	if asked.Repeat > 0 {
		start := time.Now()
		for range asked.Repeat {
			out.Reset()
			_ = parsed.Execute(&out, data)
		}
		result.Nanos = time.Since(start).Nanoseconds() / int64(asked.Repeat)
	}
	return result
}

func parse(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func verify(asked request) error {
	certificate, err := parse(asked.Certificate)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	authority, err := parse(asked.Authority)
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: asked.DNSName})
	return err
}
