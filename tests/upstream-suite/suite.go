// Package suite makes Go resolve the imports of Bitnami's integration suite, so that
// `go test -c -tags integration github.com/bitnami-labs/sealed-secrets/integration` builds here.
// The suite itself comes from the module cache.
package suite

import (
	_ "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	_ "github.com/bitnami-labs/sealed-secrets/pkg/client/clientset/versioned"
	_ "github.com/bitnami-labs/sealed-secrets/pkg/crypto"
	_ "github.com/onsi/ginkgo/v2"
	_ "github.com/onsi/gomega"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	_ "k8s.io/client-go/tools/clientcmd"
)
