// Program v2-reader is a second implementation of the v2 sealed format, written from the specification alone
// (shared/docs/v2.md) and with Go's standard library. It shares no code with the implementation in Rust, so agreement
// of both shows that they follow the page.
//
//	v2-reader open [FILE]    opens every case of FILE, or of the standard input
//	v2-reader seal [FILE]    creates the entries of every case that has the field "seal"
//
// The input is a file of vectors (section 11). The output is a list of results in JSON, one for each case. A case that
// cannot be processed, because a key is missing or a template is not readable, has the field "error".
//
//	section                    file
//	3 Text                     text.go, entry.go, object.go
//	4 Bytes                    bytes.go
//	4.1 Place                  place.go
//	4.2 Header                 header.go
//	4.3 Keys                   key.go, recipient.go, age.go
//	4.4 Stanza                 stanza.go; wrapped in hpke.go and seal.go, unwrapped in unwrap.go
//	4.5 Box                    box.go
//	5.1, 5.2 Seal              seal.go
//	5.6 Open                   check.go (steps 2 to 10), open.go (step 11)
//	5.7 What a report may say  reason.go
//	6 Template digest          template.go
//	7.3 Content version        version.go
//	8 Policy                   check.go
//	11 Vectors                 case.go
package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// result is the outcome of a case.
type result struct {
	Name          string            `json:"name"`
	Values        map[string]string `json:"values,omitzero"`
	Vids          map[string]string `json:"vids,omitzero"`
	EncryptedData map[string]string `json:"encryptedData,omitempty"`
	Reason        reason            `json:"reason,omitempty"`
	Error         string            `json:"error,omitempty"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("usage: v2-reader open|seal [FILE]")
	}
	f, err := input(args[1:], stdin)
	if err != nil {
		return err
	}
	var results []result
	for _, v := range f.Cases {
		results = append(results, f.work(args[0], v))
	}
	return json.NewEncoder(stdout).Encode(results)
}

// input reads the file that is named, or the standard input.
func input(args []string, stdin io.Reader) (file, error) {
	if len(args) == 0 {
		return readFile(stdin)
	}
	opened, err := os.Open(args[0])
	if err != nil {
		return file{}, err
	}
	defer opened.Close()
	return readFile(opened)
}

// work opens or seals one case.
func (f file) work(command string, v vector) result {
	out := result{Name: v.Name}
	var err error
	switch command {
	case "open":
		var items map[string]opened
		if items, err = f.open(v); err == nil {
			out.Values, out.Vids = texts(items)
		}
	case "seal":
		out.EncryptedData, err = f.seal(v)
	default:
		err = fmt.Errorf("no command %q: use open or seal", command)
	}
	if err != nil && !errors.As(err, &out.Reason) {
		out.Error = err.Error()
	}
	return out
}

// texts is the hexadecimal form of items.
func texts(items map[string]opened) (values, vids map[string]string) {
	values, vids = map[string]string{}, map[string]string{}
	for name, item := range items {
		values[name], vids[name] = hex.EncodeToString(item.value), hex.EncodeToString(item.vid)
	}
	return values, vids
}
