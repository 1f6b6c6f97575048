// Judges custom resources as Argo CD and Flux do. Each command reads one object as JSON from stdin:
//
//	health             prints the health of the object in Argo CD and in kstatus, by which Flux waits
//	sync               applies the object to the cluster as Argo CD does, with server-side apply
//	diff [MANAGER...]  prints which of Argo CD's methods find a difference between the object and the cluster, whose
//	                   fields of these managers an Application ignores (managedFieldsManagers)
//
// The cluster is that of $KUBECONFIG.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	response, err := run(os.Args[1], os.Args[2:])
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(response); err != nil {
		log.Fatal(err)
	}
}

func run(command string, managers []string) (any, error) {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(input); err != nil {
		return nil, err
	}
	switch command {
	case "health":
		return judge(object)
	case "sync":
		return nil, apply(object)
	case "diff":
		return differences(object, managers)
	default:
		return nil, fmt.Errorf("unknown command %q", command)
	}
}
