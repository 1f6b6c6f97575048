// The Go side of the differential tests: Go's text/template with the function map of Bitnami's controller.
//
// Reads one JSON request per line and writes one JSON response per line.
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
	// Render the template this many times, and report the mean time of a rendering.
	Repeat int `json:"repeat"`
	// List the names of all functions instead.
	Functions bool `json:"functions"`
	// Verify a certificate (PEM) for a DNS name with a CA certificate (PEM) instead.
	Certificate string `json:"certificate"`
	Authority   string `json:"authority"`
	DNSName     string `json:"dns_name"`
}

type response struct {
	Out       []byte   `json:"out,omitempty"`
	Error     string   `json:"error,omitempty"`
	Stage     string   `json:"stage,omitempty"`
	Nanos     int64    `json:"nanos,omitempty"`
	Functions []string `json:"functions,omitempty"`
}

// Time limit for one template; Bitnami's controller has none.
const timeLimit = 20 * time.Second

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
		var req request
		if err := decoder.Decode(&req); err != nil {
			return
		}
		done := make(chan response, 1)
		go func() { done <- handle(req) }()
		select {
		case result := <-done:
			_ = encoder.Encode(result)
		case <-time.After(timeLimit):
			_ = encoder.Encode(response{Stage: "timeout", Error: "the template took too long"})
			_ = out.Flush()
			os.Exit(1)
		}
		_ = out.Flush()
	}
}

func handle(req request) response {
	switch {
	case req.Functions:
		return response{Functions: names()}
	case req.Certificate != "":
		return outcome("verify", verify(req))
	default:
		return render(req)
	}
}

// outcome returns an empty response, or a response with the error and the stage in which it occurred.
func outcome(stage string, err error) response {
	if err != nil {
		return response{Stage: stage, Error: err.Error()}
	}
	return response{}
}

func names() []string {
	var names []string
	for name := range functions() {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func render(req request) response {
	parsed, err := template.New(req.Name).Funcs(functions()).Parse(req.Template)
	if err != nil {
		return outcome("parse", err)
	}
	data := make(map[string]string, len(req.Data))
	for key, value := range req.Data {
		data[key] = string(value)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		return outcome("render", err)
	}
	result := response{Out: append([]byte{}, out.Bytes()...)}
	if req.Repeat > 0 {
		start := time.Now()
		for range req.Repeat {
			out.Reset()
			_ = parsed.Execute(&out, data)
		}
		result.Nanos = time.Since(start).Nanoseconds() / int64(req.Repeat)
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

func verify(req request) error {
	certificate, err := parse(req.Certificate)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	authority, err := parse(req.Authority)
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: req.DNSName})
	return err
}
