// Command control-plane is a Kubernetes control plane for tests in one program: it plays the role that
// its first argument names, with the flags of the original program of that name.
//
//	control-plane etcd --data-dir=…
//	control-plane kube-apiserver --etcd-servers=…
//	control-plane kube-controller-manager --kubeconfig=…
//	control-plane kube-scheduler --kubeconfig=…
//	control-plane kubelet --config=…
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if len(os.Args) < 2 {
		refuse("no role was named")
	}
	// Each of the original programs reads its flags from os.Args itself, under its own name.
	os.Args = os.Args[1:]
	switch role := os.Args[0]; role {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		run(controllers.NewControllerManagerCommand())
	case "kube-scheduler":
		run(scheduler.NewSchedulerCommand())
	case "kubelet":
		run(kubelet.NewKubeletCommand(context.Background()))
	default:
		refuse(fmt.Sprintf("there is no role %q", role))
	}
}

func run(command *cobra.Command) {
	os.Exit(cli.Run(command))
}

func refuse(reason string) {
	roles := "etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kubelet"
	fmt.Fprintf(os.Stderr, "control-plane: %s; use %s\n", reason, roles)
	os.Exit(2)
}
