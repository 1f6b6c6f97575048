// Command peer offers upstream's Go implementation of Sealed Secrets to tests in other languages.
//
// It reads one JSON request per line on standard input and responds to each with one JSON line on
// standard output, in order. Bytes are encoded as base64. It ends when its input ends.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// serve responds to requests until the input ends. The error of an operation is a response; serve returns an error
// only if a request is not JSON or a pipe breaks.
func serve(in io.Reader, out io.Writer) error {
	requests := json.NewDecoder(bufio.NewReaderSize(in, 1<<20))
	responses := json.NewEncoder(out)
	for {
		var request request
		if err := requests.Decode(&request); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		if err := responses.Encode(request.response()); err != nil {
			return fmt.Errorf("writing a response: %w", err)
		}
	}
}
