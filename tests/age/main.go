// Decrypts an archive with a passphrase, which the ordinary age reads only from a terminal. Reads the
// passphrase from the first line of stdin; the archive is the only argument.
package main

import (
	"bufio"
	"io"
	"log"
	"os"
	"strings"

	"filippo.io/age"
)

func main() {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	identity, err := age.NewScryptIdentity(strings.TrimSuffix(line, "\n"))
	if err != nil {
		log.Fatal(err)
	}
	archive, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	plain, err := age.Decrypt(archive, identity)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, plain); err != nil {
		log.Fatal(err)
	}
}
